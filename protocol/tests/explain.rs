//! What `explain` says, word for word.

use crawlwire_protocol::explain::{Violation, explain};
use crawlwire_protocol::limits::VIOLATIONS_MAX;
use crawlwire_protocol::{CrawlerMessage, WebAppMessage};

fn told(line: impl AsRef<[u8]>) -> Vec<(String, String)> {
    let pair = |Violation { path, message }| (path, message);
    explain::<CrawlerMessage>(line.as_ref()).into_iter().map(pair).collect()
}

fn says(line: impl AsRef<[u8]>, expected: &[(&str, &str)]) {
    let told = told(&line);
    let told: Vec<_> = told
        .iter()
        .map(|(path, message)| (path.as_str(), message.as_str()))
        .collect();
    assert_eq!(told, expected, "{}", line.as_ref().escape_ascii());
}

fn heartbeat(data: &str) -> String {
    format!(r#"{{"type":"heartbeat","timestamp":"t","data":{{{data}}}}}"#)
}

#[test]
fn what_is_no_message_at_all() {
    says(b"{\"type\":\"\xff\"}", &[("", "not UTF-8 at byte 10")]);
    says("[".repeat(129), &[("", "nested deeper than 128 levels")]);
    says(
        r#"{"type":"heartbeat","#,
        &[("", "not JSON: EOF while parsing an object at line 1 column 20")],
    );
    says("[]", &[("", "expected an object")]);
    says("\"heartbeat\"", &[("", "expected an object")]);
}

#[test]
fn what_is_wrong_with_the_envelope() {
    says(
        "{}",
        &[
            ("/data", "is required"),
            ("/timestamp", "is required"),
            ("/type", "is required"),
        ],
    );
    says(
        r#"{"type":7,"timestamp":null,"job_id":"","data":[]}"#,
        &[
            ("/data", "expected an object"),
            ("/job_id", "expected a string that is not empty"),
            ("/timestamp", "expected a string"),
            ("/type", "expected a string"),
        ],
    );
    let unknown = [
        ("/timestamp", "is required"),
        ("/type", "not a message type of this direction"),
    ];
    says(r#"{"type":"shutdown","data":{}}"#, &unknown);
    says(r#"{"type":"shut\u0064own2","data":{}}"#, &unknown);
    says(
        r#"{"type":"job_failed","type":"heartbeat","timestamp":"t","data":{}}"#,
        &[("/type", "appears twice")],
    );
    says(
        r#"{"type":"job_started","timestamp":"t","data":{"job_type":"x"}}"#,
        &[("/job_id", "is required")],
    );
}

#[test]
fn what_is_wrong_with_the_data() {
    says(
        heartbeat(r#""active_jobs":-1,"system_status":"asleep""#),
        &[
            ("/data/active_jobs", "expected 0 or more"),
            ("/data/last_activity", "is required"),
            (
                "/data/system_status",
                "expected one of idle, discovering, crawling, error",
            ),
        ],
    );
    says(
        heartbeat(r#""active_jobs":9223372036854775808,"last_activity":"t","last_activity":7,"system_status":3"#),
        &[
            ("/data/active_jobs", "expected 9223372036854775807 or less"),
            ("/data/last_activity", "appears twice"),
            ("/data/last_activity", "expected a string"),
            (
                "/data/system_status",
                "expected one of idle, discovering, crawling, error",
            ),
        ],
    );
    says(
        heartbeat(r#""active_jobs":1.5,"last_activity":"\ud800","system_status":"idle""#),
        &[
            ("/data/active_jobs", "expected an integer"),
            ("/data/last_activity", "expected a string"),
            (
                "/data/last_activity",
                "holds text that is not Unicode or a number that is too large",
            ),
        ],
    );
}

#[test]
fn where_it_is_wrong_inside_lists_and_maps() {
    says(
        r#"{"type":"jobs_discovered","timestamp":"t","job_id":"j","data":{"discovery_summary":{"total_users":"1"},
            "discovered_jobs":[{"job_type":"crawl_user","entity_id":"1","namespace_path":"p","entity_name":"n"},
            {"job_type":"crawl_user","entity_id":1,"namespace_path":"p","estimated_size":{"a/b~c":"7","d":7}}, 5]}}"#,
        &[
            ("/data/discovered_jobs/1/entity_id", "expected a string"),
            ("/data/discovered_jobs/1/entity_name", "is required"),
            ("/data/discovered_jobs/1/estimated_size/a~1b~0c", "expected a number"),
            ("/data/discovered_jobs/2", "expected an object"),
            ("/data/discovery_summary/total_users", "expected an integer"),
        ],
    );
}

#[test]
fn a_long_list_of_mistakes_is_cut() {
    let items = "0,".repeat(5000);
    let line = format!(
        r#"{{"type":"job_completed","timestamp":"t","job_id":"j","data":{{"job_type":"x","final_counts":[{items}0]}}}}"#
    );
    let told = told(line);
    assert_eq!(told.len(), VIOLATIONS_MAX);
    assert!(told.is_sorted());
}

#[test]
fn a_good_message_needs_no_explanation() {
    says(
        heartbeat(r#""active_jobs":1,"last_activity":"t","system_status":"idle""#),
        &[],
    );
    assert!(explain::<WebAppMessage>(br#"{"type":"shutdown","timestamp":"t","data":{}}"#).is_empty());
}
