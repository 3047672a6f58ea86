//! What `explain` says, word for word.

use crawlwire_protocol::explain::{Violation, explain};
use crawlwire_protocol::limits::VIOLATIONS_MAX;
use crawlwire_protocol::{CrawlerMessage, Dialect, WebAppMessage};

fn told(line: impl AsRef<[u8]>, dialect: Dialect) -> Vec<(String, String)> {
    let pair = |Violation { path, message }| (path, message);
    explain::<CrawlerMessage>(line.as_ref(), dialect)
        .into_iter()
        .map(pair)
        .collect()
}

fn says(line: impl AsRef<[u8]>, expected: &[(&str, &str)]) {
    says_in(Dialect::Base, line, expected);
}

fn says_in(dialect: Dialect, line: impl AsRef<[u8]>, expected: &[(&str, &str)]) {
    let told = told(&line, dialect);
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
    let told = told(line, Dialect::Base);
    assert_eq!(told.len(), VIOLATIONS_MAX);
    assert!(told.is_sorted());
}

#[test]
fn a_good_message_needs_no_explanation() {
    says(
        heartbeat(r#""active_jobs":1,"last_activity":"t","system_status":"idle""#),
        &[],
    );
    assert!(explain::<WebAppMessage>(br#"{"type":"shutdown","timestamp":"t","data":{}}"#, Dialect::Base).is_empty());
}

#[test]
fn what_is_wrong_with_the_marks() {
    let line = r#"{"type":"job_started","timestamp":"t","job_id":"j","seq":0,"n":1.5,"data":{"job_type":"x"}}"#;
    says_in(
        Dialect::Session,
        line,
        &[
            ("/fence", "is required"),
            ("/n", "expected an integer"),
            ("/seq", "expected 1 or more"),
        ],
    );
    says(line, &[]);
    let required = [
        ("/fence", "is required"),
        ("/job_id", "is required"),
        ("/seq", "is required"),
    ];
    says_in(
        Dialect::Session,
        r#"{"type":"job_resumed","timestamp":"t","data":{}}"#,
        &required,
    );
    says(
        r#"{"type":"job_resumed","timestamp":"t","data":{}}"#,
        &[("/type", "not a message type of this direction")],
    );
    says_in(
        Dialect::Session,
        r#"{"type":"later","timestamp":"t","seq":9007199254740992,"fence":1,"fence":2,"data":{}}"#,
        &[
            ("/fence", "appears twice"),
            ("/seq", "expected 9007199254740991 or less"),
            ("/type", "not a message type of this direction"),
        ],
    );
}

#[test]
fn what_is_too_long() {
    let names = "\"x\",".repeat(64);
    let long = "ä".repeat(129);
    says_in(
        Dialect::Session,
        format!(
            r#"{{"type":"hello","timestamp":"t","data":{{"versions":[],"features":[{names}7],"role":"{long}","crawler_id":"",
            "instance_id":"7","slots":1025,"holds":[{{"job_id":"","fence":1}}],"software":{{}}}}}}"#
        ),
        &[
            ("/data/crawler_id", "expected a string that is not empty"),
            ("/data/features", "expected 64 items or fewer"),
            ("/data/features/64", "expected a string"),
            ("/data/holds/0/job_id", "expected a string that is not empty"),
            (
                "/data/instance_id",
                "expected text that matches ^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$",
            ),
            ("/data/role", "expected 128 characters or fewer"),
            ("/data/slots", "expected 1024 or less"),
            ("/data/software/name", "is required"),
            ("/data/versions", "expected 1 items or more"),
        ],
    );
    let cursor = |bytes: usize| {
        let filling = "x".repeat(bytes - 8);
        format!(
            r#"{{"type":"checkpoint","timestamp":"t","job_id":"j","seq":1,"fence":1,"data":{{"cursor":{{"a":"{filling}"}}}}}}"#
        )
    };
    says_in(Dialect::Session, cursor(65536), &[]);
    says_in(
        Dialect::Session,
        cursor(65537),
        &[("/data/cursor", "expected 65536 bytes or fewer")],
    );
}

#[test]
fn a_list_that_is_far_too_long_is_not_read_to_its_end() {
    let leases = "{},".repeat(100_000);
    let line = format!(
        r#"{{"type":"heartbeat","timestamp":"t","data":{{"active_jobs":1,"last_activity":"t","system_status":"idle","jobs":[{leases}0]}}}}"#
    );
    let told = told(line, Dialect::Session);
    assert_eq!(told.len(), VIOLATIONS_MAX);
}
