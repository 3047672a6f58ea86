//! Why connections end: each has a name, which the API lists.

use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};

use crate::support::{Crawler, Setup, TestServer, wait_until};

/// Waits until this many connections have closed for this reason; the whole list then.
#[track_caller]
fn await_closed(server: &TestServer, reason: &str, count: u64) -> Value {
    let api = server.api();
    wait_until(&format!("{count} were closed as {reason}"), || {
        let closed = api.get("/api/v1/connections/closed").ok();
        (closed["by_reason"][reason] == count).then_some(closed)
    })
}

#[test]
fn an_open_connection_is_shown_as_it_is() {
    let server = Setup::new(TestDatabase::sqlite()).start();
    let api = server.api();
    let _silent = server.connect();
    let base = server.crawler();
    let session = server.session("alpha", 1);
    let open = api.all("/api/v1/connections");
    let seen: Vec<_> = open
        .iter()
        .map(|it| (&it["dialect"], &it["session"], &it["role"], &it["features"]))
        .collect();
    let features = json!(["cancel", "checkpoint"]);
    let (null, crawler) = (&Value::Null, &json!("crawler"));
    assert_eq!(seen[0], (null, null, null, null));
    assert_eq!((seen[1].0, seen[1].1), (&json!("base"), &json!(base.name)));
    let name = &session.welcome["session_id"];
    assert_eq!(seen[2], (&json!("session"), name, crawler, &features));
    for it in &open {
        assert!(
            it["peer"].as_str().is_some_and(|peer| peer.starts_with("unix uid=")),
            "{it}"
        );
        assert!(
            it["connected_ms"].is_u64() && it["silent_ms"].is_u64() && it["queued_bytes"] == 0,
            "{it}"
        );
    }
    assert_eq!(
        (&open[0]["messages_received"], &open[0]["state"]),
        (&json!(0), &json!("connected"))
    );
    assert_eq!(
        (&open[2]["messages_received"], &open[2]["state"]),
        (&json!(1), &json!("active"))
    );
    // A page at a time.
    let page = api.get("/api/v1/connections?limit=2").ok();
    assert_eq!(page["next_cursor"], open[1]["connection"].to_string());
    let numbers = |list: &[Value]| list.iter().map(|it| it["connection"].clone()).collect::<Vec<_>>();
    assert_eq!(numbers(&api.all("/api/v1/connections?limit=1")), numbers(&open));
    let health = api.get("/health/socket").ok();
    let server = &health["socket_server"];
    assert_eq!((&server["connections"], &server["sessions"]), (&json!(3), &json!(2)));
    assert_eq!(
        (&server["closed_by_reason"], &server["queued_bytes"]),
        (&json!({}), &json!(0))
    );
}

#[test]
fn each_end_has_its_name() {
    let server = Setup::new(TestDatabase::sqlite())
        .set("SOCKET_MAX_INVALID_MESSAGES", 2)
        .set("SOCKET_PARTIAL_LINE_TIMEOUT", 100)
        .start();
    let mut base = server.crawler();
    let name = base.name.clone();
    base.send_line("no json");
    base.send_line("no json");
    base.await_end();
    let closed = await_closed(&server, "too_many_errors", 1);
    let last = &closed["items"][0];
    assert_eq!(
        (&last["reason"], &last["session"]),
        (&json!("too_many_errors"), &json!(name))
    );
    assert_eq!((&last["messages_received"], &last["errors"]), (&json!(3), &json!(2)));

    let mut slow = server.connect();
    slow.send_bytes(b"{\"type\":");
    slow.await_end();
    await_closed(&server, "first_line_timeout", 1);
    let mut slow = server.crawler();
    slow.send_bytes(b"{\"type\":");
    slow.await_end();
    await_closed(&server, "partial_line_timeout", 1);

    drop(server.crawler());
    await_closed(&server, "peer_closed", 1);
    let first = server.session("alpha", 1);
    let second = server.session("alpha", 1);
    let closed = await_closed(&server, "replaced", 1);
    let times: Vec<_> = closed["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|it| it["at"].clone())
        .collect();
    assert!(
        times.iter().rev().is_sorted_by_key(|at| at.as_str()),
        "newest first: {times:?}"
    );
    assert_eq!(closed["items"][0]["session"], second.welcome["session_id"]);
    drop(first);
    let health = server.api().get("/health/socket").ok();
    assert_eq!(health["socket_server"]["closed_by_reason"], closed["by_reason"]);
}

#[test]
fn who_says_nothing_is_let_go() {
    let server = Setup::new(TestDatabase::sqlite())
        .set("SOCKET_CONNECTION_TIMEOUT", 100)
        .start();
    let mut silent = server.connect();
    silent.await_end();
    await_closed(&server, "first_line_timeout", 1);
}

#[test]
fn only_listed_users_and_groups_are_let_in() {
    let setup = Setup::new(TestDatabase::sqlite());
    let own = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(setup.dir()).expect("a directory"));
    let server = setup
        .set("SOCKET_ALLOWED_UIDS", own + 1)
        .set("SOCKET_ALLOWED_GIDS", u32::MAX - 7)
        .start();
    let mut stranger = server.connect();
    stranger.await_end();
    let api = server.api();
    let closed = wait_until("it is listed", || {
        let closed = api.get("/api/v1/connections/closed").ok();
        (closed["refused_by_reason"]["peer_not_allowed"] == 1).then_some(closed)
    });
    let told = &closed["refused"][0];
    assert_eq!(
        (&told["reason"], &closed["items"]),
        (&json!("peer_not_allowed"), &json!([]))
    );
    assert!(
        told["peer"]
            .as_str()
            .is_some_and(|peer| peer.starts_with(&format!("unix uid={own}"))),
        "{told}"
    );

    let setup = Setup::new(TestDatabase::sqlite());
    let server = setup.set("SOCKET_ALLOWED_UIDS", format!("{},{own}", own + 1)).start();
    server.crawler();
}

#[test]
fn one_too_many_is_counted() {
    let server = Setup::new(TestDatabase::sqlite())
        .set("SOCKET_MAX_CONNECTIONS", 1)
        .start();
    let _first = server.crawler();
    let mut second: Crawler = server.connect();
    second.await_end();
    let closed = server.api().get("/api/v1/connections/closed").ok();
    assert_eq!(closed["refused_by_reason"], json!({ "connection_limit": 1 }));
}
