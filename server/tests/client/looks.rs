//! Commands that look and change nothing.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};

use serde_json::{Value, json};

use crate::console::{HARMLESS, HOSTILE, command, ended, run, server};

#[test]
fn status_shows_a_server_at_a_glance() {
    let server = server();
    let api = server.api();
    api.submit("crawl_user");
    let _crawler = server.session("eyes", 1);
    let out = run(&server, &["status"]).ok();
    let first = out.lines().next().expect("a line");
    assert!(
        first.starts_with(&format!("http://{}: ready, healthy, up ", server.http)),
        "{out}"
    );
    for part in ["1 crawler, ", ", 1 connection", "queue       open", "0 failed"] {
        assert!(out.contains(part), "{part} is missing in {out}");
    }
    api.post(
        "/api/v1/queue/pause",
        "application/json",
        br#"{"by":"ada","reason":"tea"}"#,
    );
    let out = run(&server, &["status"]).ok();
    assert!(out.contains("paused for") && out.contains("by ada: tea"), "{out}");
    let found = run(&server, &["status", "--json"]).json();
    assert_eq!(found["queue"], api.get("/api/v1/queue").ok());
    assert_eq!(found["ready"]["status"], "ready");
}

#[test]
fn jobs_are_listed_page_by_page() {
    let server = server();
    let api = server.api();
    let ids: Vec<_> = (0..7).map(|_| api.submit("crawl_user")).collect();
    let listed = |arguments: &[&str]| {
        let out = run(&server, arguments);
        let ids = out
            .out
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().next().expect("an id").to_owned());
        ids.collect::<Vec<_>>()
    };
    let newest_first: Vec<_> = ids.iter().rev().cloned().collect();
    assert_eq!(listed(&["jobs"]), newest_first);
    assert_eq!(listed(&["jobs", "--all"]), newest_first);
    assert_eq!(listed(&["jobs", "--limit", "3"]), newest_first[..3]);
    assert_eq!(listed(&["jobs", "--account", "nobody"]), Vec::<String>::new());
    assert_eq!(
        listed(&["jobs", "--status", "queued", "--limit", "1"]),
        newest_first[..1]
    );

    let some = run(&server, &["jobs", "--limit", "3", "--json"]).json();
    assert_eq!(some["items"].as_array().map(Vec::len), Some(3));
    let cursor = some["next_cursor"].as_str().expect("there are more");
    let next = api.get(&format!("/api/v1/jobs?limit=1&cursor={cursor}")).ok();
    assert_eq!(next["items"][0]["id"], *newest_first[3]);
    let all = run(&server, &["jobs", "--all", "--json"]).json();
    assert_eq!(
        (all["items"].as_array().map(Vec::len), &all["next_cursor"]),
        (Some(7), &Value::Null)
    );
    let none = run(&server, &["jobs", "--account", "nobody", "--json"]).json();
    assert_eq!(none, json!({ "items": [], "next_cursor": null }));

    let refused = run(&server, &["jobs", "--status", "lazy"]);
    assert_eq!((refused.status, refused.out.as_str()), (1, ""));
    assert!(refused.err.contains("  /status: expected "), "{refused:?}");
}

#[test]
fn a_job_is_shown_with_all_that_is_known() {
    let server = server();
    let mut crawler = server.crawler();
    let id = run(
        &server,
        &[
            "submit",
            "--type",
            "crawl_project",
            "--account",
            "acme",
            "--host",
            "h.example",
            "--namespace",
            "group/project",
            "--name",
            "job-7",
        ],
    )
    .ok();
    let id = id.trim();
    crawler.assignment();
    crawler.started(id);
    crawler.progress(id, 0.4, 40);
    server.api().await_status(id, "running");
    let out = run(&server, &["job", "job-7"]).ok();
    for part in [
        id,
        ", named job-7",
        "running",
        "group/project",
        "legacy-",
        "1 begun, 0 failed",
        "claim",
        "submit",
    ] {
        assert!(out.contains(part), "{part} is missing in {out}");
    }
    crawler.completed(id);
    server.api().await_status(id, "completed");
    let out = run(&server, &["job", id]).ok();
    assert!(out.contains("status      completed") && out.contains("finish"), "{out}");
    let found = run(&server, &["job", id, "--json"]).json();
    assert_eq!(found["job"], server.api().job(id));
    assert_eq!(
        found["events"].as_array().expect("events").len(),
        server.api().events(id).len()
    );
    assert_eq!(found["reason"], Value::Null);

    let missing = run(&server, &["job", "a/b c"]);
    assert_eq!(
        (missing.status, missing.err.as_str()),
        (1, "crawlwire: There is no such job.\n")
    );
    let missing = run(&server, &["job", "nope", "--json"]);
    assert_eq!((missing.status, &missing.json()["code"]), (1, &json!("not_found")));
}

#[test]
fn why_a_job_waits_is_one_sentence_and_what_helps() {
    let server = server();
    let id = server.api().submit("crawl_user");
    let out = run(&server, &["explain", &id]).ok();
    assert_eq!(
        out,
        format!("Job {id} is queued. No crawler is connected.\nWhat helps: connect a crawler.\n")
    );
    let explained = run(&server, &["explain", &id, "--json"]).json();
    assert_eq!(explained["reason"]["code"], "no_crawler");
    run(&server, &["cancel", &id]).ok();
    assert_eq!(
        run(&server, &["explain", &id]).ok(),
        format!("Job {id} is cancelled. It has ended.\n")
    );
}

#[test]
fn crawlers_and_errors_are_listed() {
    let server = server();
    assert_eq!(run(&server, &["crawlers"]).err, "No crawler is connected.\n");
    assert_eq!(run(&server, &["errors"]).err, "There are no such errors.\n");
    let mut crawler = server.session("eyes", 1);
    let id = server.api().submit("crawl_user");
    let job = crawler.assignment();
    crawler.started(&job);
    crawler.settle();
    let out = run(&server, &["crawlers"]).ok();
    assert!(out.contains("scenario 1.0") && out.contains(&id), "{out}");
    let listed = run(&server, &["crawlers", "--json"]).json();
    assert_eq!(listed["items"][0]["jobs"], json!([id]));

    let mut other = server.connect();
    other.send_line("{ no json");
    let page = crate::support::wait_until("the error is stored", || {
        let page = run(&server, &["errors", "--json"]).json();
        (page["items"].as_array().map(Vec::len) == Some(1)).then_some(page)
    });
    assert_eq!(page["items"][0]["code"], "not_json");
    let out = run(&server, &["errors", "--limit", "5"]).ok();
    assert!(out.starts_with("AT ") && out.contains("message_parsing"), "{out}");
}

#[test]
fn nothing_that_is_said_steers_a_terminal() {
    let server = server();
    let id = server
        .api()
        .submit_with(&json!({ "namespace_path": HOSTILE, "account_id": HOSTILE, "tags": [HOSTILE] }));
    let id = id["id"].as_str().expect("an id");
    for arguments in [
        &["jobs"][..],
        &["job", id],
        &["jobs", "--json"],
        &["job", id, "--json"],
        &["job", HOSTILE],
    ] {
        let said = run(&server, arguments);
        for text in [&said.out, &said.err] {
            let steering = |it: char| it == '\u{202e}' || (it.is_control() && it != '\n');
            assert!(!text.contains(steering), "{arguments:?}: {text:?}");
        }
    }
    let out = run(&server, &["jobs"]).ok();
    assert!(out.contains(HARMLESS), "{out}");
    assert_eq!(out.lines().count(), 2);
    let all = run(&server, &["jobs", "--json"]).json();
    assert_eq!(all["items"][0]["namespace_path"], HOSTILE);
}

#[test]
fn where_nobody_answers_the_status_is_4_and_the_way_out_is_told() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let server = server();
    for arguments in [
        &["status"][..],
        &["jobs", "--json"],
        &["cancel", "x"],
        &["watch"],
        &["submit", "--file", "-"],
    ] {
        let mut command = command(&server, arguments);
        command.env("CRAWLWIRE_SERVER", address.to_string());
        let said = ended(command, "{}\n");
        assert_eq!(said.status, 4, "{said:?}");
        assert!(
            said.err
                .contains(&format!("no server answers at http://{address}: Connection refused")),
            "{said:?}"
        );
        assert!(
            said.err.contains("`crawlwire serve`") && said.err.contains("--server"),
            "{said:?}"
        );
    }
}

#[test]
fn another_program_is_not_taken_for_a_server() {
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = other.local_addr().expect("an address");
    let serving = std::thread::spawn(move || {
        let (mut peer, _) = other.accept().expect("a connection");
        let mut request = [0; 1024];
        let _ = peer.read(&mut request);
        let _ = peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi");
    });
    let server = server();
    let said = run(&server, &["status", "--server", &format!("http://{address}")]);
    serving.join().expect("it only answers");
    assert_eq!(said.status, 1, "{said:?}");
    assert!(
        said.err
            .contains("is no crawlwire server: it answers 200 OK with \"text/html\""),
        "{said:?}"
    );
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    let server = server();
    for arguments in [
        &["jobs", "--limit", "0"][..],
        &["jobs", "--limit", "3", "--all"],
        &["status", "--server", "ftp://x"],
        &["job"],
        &["cancel"],
        &["submit", "--type", "x"],
        &["submit", "--file", "-", "--type", "x"],
        &[
            "submit",
            "--type",
            "x",
            "--account",
            "a",
            "--host",
            "h",
            "--metadata",
            "[1]",
        ],
        &[
            "submit",
            "--type",
            "x",
            "--account",
            "a",
            "--host",
            "h",
            "--token",
            "secret",
        ],
        &[
            "submit",
            "--type",
            "x",
            "--account",
            "a",
            "--host",
            "h",
            "--token-file",
            "/none",
        ],
        &["submit", "--file", "/none"],
        &["completions", "tcsh"],
    ] {
        let said = run(&server, arguments);
        assert_eq!((said.status, said.out.as_str()), (2, ""), "{arguments:?}: {said:?}");
        assert!(!said.err.is_empty());
    }
}
