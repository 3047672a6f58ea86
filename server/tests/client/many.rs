//! Files of jobs.

use serde_json::{Value, json};

use crate::console::{command, ended, run, server};

fn job(name: &str) -> String {
    json!({ "job_type": "crawl_user", "account_id": "acme", "gitlab_host": "h", "web_app_job_id": name }).to_string()
}

#[test]
fn a_file_of_jobs_is_submitted_and_what_is_refused_is_named_by_its_line() {
    let server = server();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("jobs.ndjson");
    let lines = [
        job("a"),
        String::new(),
        "{ half".to_owned(),
        job("b"),
        job("a"),
        "[]".to_owned(),
        job("c"),
    ];
    std::fs::write(&path, lines.join("\n")).expect("a file");
    let said = run(&server, &["submit", "--file", path.to_str().expect("text")]);
    assert_eq!(said.status, 1, "{said:?}");
    let names: Vec<_> = said
        .out
        .lines()
        .map(|id| server.api().job(id)["web_app_job_id"].clone())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
    for part in [
        "line 3: this is no JSON",
        "line 5: ",
        "line 5: /web_app_job_id: is taken",
        "line 6: expected an object",
    ] {
        assert!(said.err.contains(part), "{part} is missing in {said:?}");
    }
    assert!(said.err.ends_with("3 submitted, 3 refused\n"), "{said:?}");
}

#[test]
fn a_stream_of_jobs_is_one_document() {
    let server = server();
    let lines: Vec<_> = (0..40).map(|number| job(&format!("n{number}"))).collect();
    let said = ended(
        command(&server, &["submit", "--file", "-", "--json"]),
        &format!("{}\n{{}}\n", lines.join("\n")),
    );
    assert_eq!(said.status, 1, "{said:?}");
    let items = &said.json()["items"];
    assert_eq!(items.as_array().map(Vec::len), Some(41));
    for (number, item) in items.as_array().into_iter().flatten().take(40).enumerate() {
        assert_eq!(
            (&item["line"], &item["job"]["web_app_job_id"]),
            (&json!(number + 1), &json!(format!("n{number}")))
        );
    }
    assert_eq!(items[40]["problem"]["code"], "invalid_request");
    assert_eq!(server.api().all("/api/v1/jobs").len(), 40);
    let none = ended(command(&server, &["submit", "--file", "-", "--json"]), "");
    assert_eq!(
        (none.status, none.json()),
        (0, json!({ "items": Value::Array(Vec::new()) }))
    );
}
