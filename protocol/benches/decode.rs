//! What a message costs: `cargo bench -p crawlwire-protocol`.
//!
//! Prints the median of many samples in nanoseconds per message, then how long `explain` takes over lines of 1 MiB that
//! are made to hurt.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use crawlwire_protocol::explain::explain;
use crawlwire_protocol::limits::LINE_BYTES_MAX_DEFAULT;
use crawlwire_protocol::{CrawlerMessage, Decoded, Dialect, decode, encode, fingerprint, peek};

const PROGRESS: &str = r#"{"type":"job_progress","timestamp":"2024-01-15T10:30:15Z","job_id":"job-123","data":{"progress":[{"entity_type":"projects","total_discovered":150,"total_processed":45,"current_page":5,"items_per_page":10}],"overall_completion":0.35,"time_elapsed":45000,"estimated_time_remaining":90000,"job_type":"group"}}"#;
const HEARTBEAT: &str = r#"{"type":"heartbeat","timestamp":"2024-01-15T10:30:00Z","data":{"active_jobs":2,"last_activity":"2024-01-15T10:29:45Z","system_status":"crawling"}}"#;

const SAMPLES: usize = 25;
const SAMPLE_TIME: Duration = Duration::from_millis(20);

fn main() {
    // `cargo test --benches` only asks whether this runs.
    let samples = if std::env::args().any(|argument| argument == "--bench") {
        SAMPLES
    } else {
        1
    };
    messages(samples);
    hostile_lines(samples.min(3));
}

fn messages(samples: usize) {
    let (envelope, body) = PROGRESS.split_once(",\"data\":").expect("data comes last");
    let type_last = format!("{{\"data\":{},{}}}", &body[..body.len() - 1], &envelope[1..]);
    let refused = PROGRESS.replace("\"total_processed\":45", "\"total_processed\":-45");
    let Ok(Decoded::Known(progress)) = decode::<CrawlerMessage>(PROGRESS.as_bytes(), Dialect::Base) else {
        panic!("the sample is a message")
    };

    println!(
        "job_progress has {} bytes, heartbeat {}",
        PROGRESS.len(),
        HEARTBEAT.len()
    );
    let decoding = |name: &str, line: &str, dialect| {
        let decoded = || decode::<CrawlerMessage>(black_box(line.as_bytes()), dialect).is_ok();
        show(name, median(samples, decoded))
    };
    let one_pass = decoding("decode job_progress, one pass", PROGRESS, Dialect::Base);
    let two_step = decoding("decode job_progress, type after data", &type_last, Dialect::Base);
    decoding("decode heartbeat", HEARTBEAT, Dialect::Base);
    decoding("decode a refused job_progress", &refused, Dialect::Base);
    let marked = PROGRESS.replace(",\"data\":", ",\"fence\":4,\"n\":17,\"data\":");
    let session = decoding(
        "decode job_progress with its marks, session dialect",
        &marked,
        Dialect::Session,
    );
    decoding(
        "decode the same in the base dialect, marks unknown",
        &marked,
        Dialect::Base,
    );
    show(
        "peek at the same",
        median(samples, || peek(black_box(marked.as_bytes())).seq),
    );
    show(
        "fingerprint of the same",
        median(samples, || fingerprint(black_box(marked.as_bytes()))),
    );
    let value = || serde_json::from_str::<serde_json::Value>(black_box(PROGRESS)).is_ok();
    let value = show("job_progress as a serde_json::Value, unchecked", median(samples, value));
    show(
        "explain a refused job_progress",
        median(samples, || {
            explain::<CrawlerMessage>(black_box(refused.as_bytes()), Dialect::Base).len()
        }),
    );
    show(
        "encode job_progress",
        median(samples, || encode(black_box(&progress)).is_ok()),
    );
    println!(
        "one pass : two steps : Value : session = 1 : {:.2} : {:.2} : {:.2}",
        two_step / one_pass,
        value / one_pass,
        session / one_pass
    );
}

/// A line of about 1 MiB: `start`, then as many times `part` as fit, then `end`.
fn filled(start: &str, part: &str, end: &str) -> String {
    format!(
        "{start}{}{end}",
        part.repeat((LINE_BYTES_MAX_DEFAULT - start.len() - end.len()) / part.len())
    )
}

fn hostile_lines(samples: usize) {
    let completed = r#"{"type":"job_completed","timestamp":"t","job_id":"j","data":{"job_type":"x","#;
    let failed =
        r#"{"type":"job_failed","timestamp":"t","data":{"error_context":{"request_details":{"response_headers":{"#;
    let numbered: String = (0..60_000)
        .map(|number| format!("\"header-{number}\":{number},"))
        .collect();
    let deep = format!("{}{},", "[".repeat(120), "]".repeat(120));
    let lines = [
        (
            "an array of wrong items",
            filled(&format!("{completed}\"final_counts\":["), "0,", "0]}}"),
        ),
        (
            "an array of empty objects",
            filled(&format!("{completed}\"final_counts\":["), "{},", "{}]}}"),
        ),
        (
            "an array of good strings",
            filled(&format!("{completed}\"output_files\":["), "\"\",", "\"\"]}}"),
        ),
        ("a map of wrong values", format!("{failed}{numbered}\"x\":1}}}}}}}}}}")),
        (
            "a known key many times",
            filled(r#"{"type":"heartbeat","#, "\"timestamp\":1,", "\"data\":{}}"),
        ),
        (
            "an unknown key many times",
            filled(r#"{"type":"heartbeat","#, "\"x\":1,", "\"data\":{}}"),
        ),
        (
            "deep unknown arrays",
            filled(r#"{"type":"heartbeat","x":["#, &deep, "0]}"),
        ),
        (
            "deep arrays as items",
            filled(&format!("{completed}\"final_counts\":["), &deep, "0]}}"),
        ),
        ("brackets without end", filled("", "[", "")),
        ("a string without end", filled("{\"", "\\u0041", "")),
        ("white space", filled("", " ", "{")),
    ];
    for (name, line) in lines {
        let took = median(samples, || {
            explain::<CrawlerMessage>(black_box(line.as_bytes()), Dialect::Base).len()
        });
        println!("{:>9.1} ms  explain 1 MiB: {name}", took / 1e6);
    }
}

fn show(name: &str, nanoseconds: f64) -> f64 {
    println!("{nanoseconds:>9.0} ns  {name}");
    nanoseconds
}

/// The median time of one call, in nanoseconds.
#[expect(clippy::disallowed_methods, reason = "a bench measures the real clock")]
fn median<T>(samples: usize, act: impl Fn() -> T) -> f64 {
    let sample = || {
        let (start, mut calls) = (Instant::now(), 0_u32);
        while calls == 0 || start.elapsed() < SAMPLE_TIME {
            // Few looks at the clock, also when a call takes nanoseconds.
            let batch = if calls == 0 { 1 } else { calls.min(1000) };
            (0..batch).for_each(|_| drop(black_box(act())));
            calls += batch;
        }
        start.elapsed().as_nanos() as f64 / f64::from(calls)
    };
    let mut times: Vec<f64> = (0..samples).map(|_| sample()).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
