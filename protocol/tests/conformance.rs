//! Every line of the conformance corpus gets its verdict from the types, from both kinds of schema file, and from
//! `explain`.

mod support;

use crawlwire_protocol::explain::{Explain, explain};
use crawlwire_protocol::{CrawlerMessage, Decoded, WebAppMessage, decode};
use serde::Deserialize;
use support::Schemas;

const CORPUS: &str = include_str!("fixtures/base/conformance.jsonl");

#[derive(Deserialize)]
struct Row {
    id: String,
    direction: String,
    line: String,
    accept: bool,
    why: String,
}

/// Who says what of a line.
fn verdicts<M: Explain>(schemas: &Schemas, line: &str) -> [(&'static str, bool); 4] {
    [
        ("types", matches!(decode::<M>(line.as_bytes()), Ok(Decoded::Known(_)))),
        ("message schema", schemas.message_accepts(line.as_bytes())),
        ("bundle", schemas.bundle_accepts(line.as_bytes())),
        ("explain", explain::<M>(line.as_bytes()).is_empty()),
    ]
}

#[test]
fn all_four_judges_give_the_verdict_of_the_corpus() {
    let (crawler, web_app) = (
        Schemas::of::<CrawlerMessage>("crawler"),
        Schemas::of::<WebAppMessage>("web-app"),
    );
    let (mut accepted, mut refused, mut wrong) = (0, 0, Vec::new());
    for text in CORPUS.lines() {
        let row: Row = serde_json::from_str(text).expect("a row of the corpus");
        let verdicts = match row.direction.as_str() {
            "crawler" => verdicts::<CrawlerMessage>(&crawler, &row.line),
            "web_app" => verdicts::<WebAppMessage>(&web_app, &row.line),
            other => panic!("no direction is called {other}"),
        };
        for (judge, verdict) in verdicts {
            if verdict != row.accept {
                wrong.push(format!(
                    "{judge} said {verdict}: {} ({})\n    {}",
                    row.id, row.why, row.line
                ));
            }
        }
        if row.accept { accepted += 1 } else { refused += 1 }
    }
    println!(
        "{} lines: {accepted} to accept, {refused} to refuse",
        accepted + refused
    );
    assert!(accepted > 400 && refused > 500, "the corpus has lost lines");
    assert!(
        wrong.is_empty(),
        "{} wrong verdicts:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
