//! The bench against a real server, for a second.

use serde_json::json;

use crate::console::{Said, run, server};
use crate::support::TestServer;

fn bench(server: &TestServer, more: &[&str]) -> Said {
    let socket = server.socket();
    let arguments = [
        "bench",
        "--socket",
        socket.to_str().expect("text"),
        "--seconds",
        "1",
        "--crawlers",
        "2",
        "--slots",
        "2",
    ];
    run(server, &[&arguments[..], more].concat())
}

#[test]
fn a_server_is_measured_and_left_clean() {
    let server = server();
    let said = bench(&server, &["--json"]);
    assert_eq!(said.status, 0, "{said:?}");
    let figures = said.json();
    let (jobs, acks) = (
        figures["jobs"].as_u64().expect("jobs"),
        figures["acks"].as_u64().expect("acks"),
    );
    // Three lasting messages of each job; those at the edges belong to jobs that are not counted.
    assert!(jobs > 10 && acks >= 2 * jobs, "{figures}");
    for name in ["submit_to_assigned", "message_to_ack", "end_to_visible"] {
        let times = &figures["latency_ms"][name];
        let part = |part: &str| {
            times[part]
                .as_f64()
                .unwrap_or_else(|| panic!("no {part} of {name} in {figures}"))
        };
        assert!(
            part("p50") > 0.0 && part("p50") <= part("p90") && part("p90") <= part("p99") && part("p99") <= part("max")
        );
        assert!(
            part("max") < 20_000.0 && times["count"].as_u64().is_some_and(|count| count >= jobs / 2),
            "{figures}"
        );
    }
    assert_eq!(server.api().all("/api/v1/jobs"), Vec::<serde_json::Value>::new());
    crate::support::wait_until("its crawlers are gone", || {
        server.api().crawlers().is_empty().then_some(())
    });

    let said = bench(&server, &[]);
    assert_eq!(said.status, 0, "{said:?}");
    for part in [
        "2 crawlers with 2 slots each, 4 jobs at a time",
        "a second (",
        "P99",
        "end to visible",
    ] {
        assert!(said.out.contains(part), "{part} is missing in {said:?}");
    }
}

#[test]
fn jobs_of_others_are_in_the_way_and_not_touched() {
    let server = server();
    let other = server.api().submit("crawl_project");
    let said = bench(&server, &[]);
    assert_eq!((said.status, said.out.as_str()), (1, ""), "{said:?}");
    assert!(
        said.err.contains("1 job that is not over") && said.err.contains("--yes"),
        "{said:?}"
    );
    let said = bench(&server, &["--yes", "--json"]);
    assert_eq!(said.status, 0, "{said:?}");
    let all = server.api().all("/api/v1/jobs");
    assert_eq!(
        (all.len(), &all[0]["id"], &all[0]["state"]),
        (1, &json!(other), &json!("queued"))
    );
}

#[test]
fn what_keeps_it_from_measuring_is_told() {
    let server = server();
    let said = run(&server, &["bench", "--socket", "/none/x.sock", "--seconds", "1"]);
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.err.contains("cannot connect to unix:///none/x.sock"), "{said:?}");
    server.api().post(
        "/api/v1/queue/pause",
        "application/json",
        br#"{"by":"ada","reason":"tea"}"#,
    );
    let said = bench(&server, &["--patience", "1"]);
    assert_eq!(said.status, 1, "{said:?}");
    assert!(
        said.err.contains("has not ended within 1 s. The queue is paused"),
        "{said:?}"
    );
    assert_eq!(server.api().all("/api/v1/jobs").len(), 0);
}
