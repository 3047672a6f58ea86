//! The live stream: what each viewer is told, and how it goes on after it was cut off.

use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};

use crate::support::stream::{Page, Socket};
use crate::support::{Api, Crawler, LiveStream, SessionCrawler, Setup, TestServer, on_both_databases, wait_until};

on_both_databases!(
    a_viewer_is_told_what_it_asks_for,
    who_was_cut_off_goes_on_where_it_was,
    what_is_deleted_leaves_every_page,
    crawlers_gates_errors_and_figures_are_told,
);

fn viewer(server: &TestServer, query: &str) -> LiveStream {
    LiveStream::asking(server.http, query, None)
}

#[track_caller]
fn snapshot(stream: &mut LiveStream) -> Value {
    let (name, data) = stream.next().expect("an event");
    assert_eq!(name, "snapshot", "{data}");
    data
}

fn ids(jobs: &Value) -> Vec<String> {
    let jobs = jobs.as_array().expect("a list").iter();
    jobs.map(|job| job["id"].as_str().expect("an id").to_owned()).collect()
}

/// A tree of a job and two below it, of which one is begun, and another job of another account.
fn some_jobs(server: &TestServer) -> (Crawler, [String; 3], String) {
    let api = server.api();
    let mut crawler = server.crawler();
    let root = api.submit("discover_namespaces");
    assert_eq!(crawler.assignment().id, root);
    crawler.discovered(&root, &[("crawl_project", "a")]);
    crawler.progress(&root, 0.5, 50);
    let child = crawler.assignment().id;
    let apart = api.submit_with(&json!({ "account_id": "other", "web_app_job_id": "apart" }));
    crawler.discovered(&root, &[("crawl_project", "b")]);
    let grandchild = wait_until("two were found", || {
        let children = api.all(&format!("/api/v1/jobs/{root}/children"));
        (children.len() == 2).then(|| children[0]["id"].as_str().expect("an id").to_owned())
    });
    let apart = apart["id"].as_str().expect("an id").to_owned();
    (crawler, [root, child, grandchild], apart)
}

fn a_viewer_is_told_what_it_asks_for(database: TestDatabase) {
    let server = Setup::new(database).set("SOCKET_MAX_CONCURRENT_JOBS", 2).start();
    let api = server.api();
    let (mut crawler, [root, child, other], apart) = some_jobs(&server);
    for (query, expected) in [
        ("", vec![&other, &apart, &child, &root]),
        ("?jobs=2", vec![&other, &apart]),
        ("?jobs=0", vec![]),
        ("?account_id=other", vec![&apart]),
        ("?account_id=nobody", vec![]),
        ("?job=apart", vec![&apart]),
        (&format!("?job={child}"), vec![&child]),
        (&format!("?tree={child}"), vec![&other, &child, &root]),
        // The top of the tree is there however few are asked for.
        (&format!("?tree={child}&jobs=2"), vec![&other, &root]),
        (&format!("?tree={root}&jobs=1"), vec![&root]),
    ] {
        let mut stream = viewer(&server, query);
        let data = snapshot(&mut stream);
        let mut told = ids(&data["jobs"]);
        let mut expected: Vec<_> = expected.into_iter().cloned().collect();
        if told.len() == 4 {
            // Who was submitted and who was found first at that moment is nobody's to say.
            (told, expected) = (sorted(told), sorted(expected));
        }
        assert_eq!(told, expected, "{query}");
        assert_eq!(data["version"], stream.last, "{query}");
        assert_eq!(data["counts"], api.get("/api/v1/queue").ok()["jobs"]);
        assert_eq!(data["crawlers"][0]["id"], json!(crawler.name));
        assert_eq!(data["statistics"]["queue"]["waiting"], json!(2), "{data}");
        assert_eq!(data["aggregate"]["active_jobs"], json!(1));
    }
    for (query, place) in [
        ("?state=queued", "/state"),
        ("?type=job,jobs", "/type"),
        ("?jobs=501", "/jobs"),
        ("?jobs=x", "/jobs"),
        ("?job=apart&account_id=other", "/job"),
        ("?account_id=%00", "/account_id"),
    ] {
        for path in ["stream", "ws"] {
            let places = api.get(&format!("/api/v1/{path}{query}")).places();
            assert_eq!(places.into_iter().collect::<Vec<_>>(), [place], "{path}{query}");
        }
    }
    api.get("/api/v1/stream?job=none").problem(404, "not_found");
    api.get("/api/v1/stream?tree=none").problem(404, "not_found");

    let mut viewers = [
        "",
        "?account_id=other",
        &format!("?job={child}"),
        &format!("?tree={root}"),
    ]
    .map(|query| {
        let mut stream = viewer(&server, query);
        snapshot(&mut stream);
        stream
    });
    let mut moments = viewer(&server, "?type=milestone,error");
    snapshot(&mut moments);
    // What is discovered later belongs to the tree.
    crawler.discovered(&root, &[("crawl_project", "c")]);
    crawler.progress(&child, 0.5, 50);
    api.act("apart", "pause", &json!({}));
    crawler.failed(&child, false);
    let found = wait_until("one more was found", || {
        let children = api.all(&format!("/api/v1/jobs/{root}/children"));
        (children.len() == 3).then(|| children[0]["id"].as_str().expect("an id").to_owned())
    });
    let told = viewers.each_mut().map(|stream| {
        let mut jobs: Vec<_> = Vec::new();
        // More than a round later everybody has been told.
        for _ in 0..2 {
            for (name, data) in stream.until_heartbeat() {
                match &*name {
                    "crawler" => {}
                    "job" => jobs.push(data["id"].as_str().expect("an id").to_owned()),
                    "tree_milestone" => jobs.push(data["root_id"].as_str().expect("an id").to_owned()),
                    _ => jobs.push(data["job_id"].as_str().expect("an id").to_owned()),
                }
            }
        }
        let mut jobs = sorted(jobs);
        jobs.dedup();
        jobs
    });
    let all = |jobs: &[&String]| sorted(jobs.iter().copied().cloned().collect());
    assert_eq!(told[1], all(&[&apart]));
    assert_eq!(told[2], all(&[&child]));
    // The second one that was found has been given out since.
    let in_tree: Vec<_> = told[3].iter().filter(|id| **id != other).cloned().collect();
    assert_eq!(in_tree, all(&[&root, &child, &found]));
    assert!(told[0].contains(&apart) && told[0].contains(&found));
    let kinds: Vec<_> = moments.until_heartbeat().into_iter().map(|(name, _)| name).collect();
    assert!(kinds.contains(&"error".to_owned()), "{kinds:?}");
    assert!(
        kinds.iter().all(|kind| kind == "milestone" || kind == "error"),
        "{kinds:?}"
    );
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_unstable();
    ids
}

fn who_was_cut_off_goes_on_where_it_was(database: TestDatabase) {
    let mut server = Setup::new(database).start();
    let api = server.api();
    let mut stream = viewer(&server, "");
    snapshot(&mut stream);
    let first = api.submit("crawl_user");
    stream.await_job(&first, |job| job["status"] == "queued");
    let seen = stream.last.clone();
    drop(stream);
    // Nobody views meanwhile, and still nothing is lost.
    let second = api.submit("crawl_user");
    api.act(&first, "pause", &json!({}));
    for again in ["", "query"] {
        let mut stream = match again {
            "" => LiveStream::asking(server.http, "", Some(&seen)),
            _ => viewer(&server, &format!("?last_event_id={seen}")),
        };
        let mut page = Page::default();
        while page.jobs.len() < 2 || page.jobs.get(&first).is_none_or(|(status, _)| status != "paused") {
            let (name, data) = stream.next().expect("an event");
            assert!(!["snapshot", "resync"].contains(&&*name), "{name} {data}");
            page.apply(&name, &data);
        }
        assert!(page.jobs.contains_key(&second));
    }
    // A name that says nothing, and one of another run.
    server.kill();
    server.start();
    for unknown in ["x", &seen] {
        let mut stream = LiveStream::asking(server.http, "", Some(unknown));
        let (name, data) = stream.next().expect("an event");
        assert_eq!((&*name, &data), ("resync", &json!({ "reason": "unknown_id" })));
        assert_eq!(ids(&snapshot(&mut stream)["jobs"]).len(), 2);
    }
}

fn what_is_deleted_leaves_every_page(database: TestDatabase) {
    let server = Setup::new(database).set("SOCKET_MAX_CONCURRENT_JOBS", 2).start();
    let api = server.api();
    let (_crawler, tree, apart) = some_jobs(&server);
    let mut stream = viewer(&server, "");
    let mut page = Page::default();
    page.apply("snapshot", &snapshot(&mut stream));
    assert_eq!(page.jobs.len(), 4);
    let root = &tree[0];
    api.act(root, "cancel", &json!({ "tree": true })).ok();
    api.await_status(root, "cancelled");
    let deleted = api.ask("DELETE", &format!("/api/v1/jobs/{root}"), None).ok();
    assert_eq!(deleted["deleted"], 3);
    let mut gone = Vec::new();
    while gone.len() < 3 {
        let (name, data) = stream.next().expect("an event");
        page.apply(&name, &data);
        if name == "deleted" {
            gone.push(data["job_id"].as_str().expect("an id").to_owned());
        }
    }
    assert_eq!(sorted(gone), sorted(tree.to_vec()));
    assert_eq!(page.jobs.keys().collect::<Vec<_>>(), [&apart]);
}

fn crawlers_gates_errors_and_figures_are_told(database: TestDatabase) {
    let server = Setup::new(database).start();
    let api = server.api();
    let mut stream = viewer(&server, "");
    let begun = snapshot(&mut stream);
    assert_eq!(begun["crawlers"], json!([]));
    assert_eq!(begun["statistics"]["slots"], json!({ "used": 0, "all": null }));
    let mut await_one = |event: &str, done: &dyn Fn(&Value) -> bool| {
        stream.await_event(event, |name, data| (name == event && done(data)).then(|| data.clone()))
    };
    let mut crawler = server.crawler();
    let name = crawler.name.clone();
    let came = await_one("crawler", &|it| it["id"] == name);
    assert_eq!(came["jobs"], json!([]));
    let job = api.submit("crawl_project");
    crawler.assignment();
    let busy = await_one("crawler", &|it| it["id"] == name && it["jobs"] == json!([job]));
    assert_eq!(busy.as_object().map(|it| it.len()), came.as_object().map(|it| it.len()));
    let busy = await_one("statistics", &|it| it["slots"]["used"] == 1);
    assert_eq!((&busy["crawlers"], &busy["counts"]["assigned"]), (&json!(1), &json!(1)));

    let closed = api
        .ask("POST", "/api/v1/queue/pause", Some(&json!({ "reason": "an update" })))
        .ok();
    assert_eq!(await_one("gate", &|it| it["kind"] == "queue"), closed);
    await_one("statistics", &|it| it["queue"]["paused"] == true);
    api.ask("POST", "/api/v1/queue/resume", None).ok();
    let opened = await_one("gate", &|it| it["closed"] == false);
    assert_eq!((&opened["kind"], &opened["reason"]), (&json!("queue"), &Value::Null));

    crawler.failed(&job, false);
    let error = await_one("error", &|it| it["code"] == "job_failed");
    assert_eq!(error["job_id"], json!(job));
    assert_eq!(api.get("/api/v1/errors?limit=1").ok()["items"], json!([error]));
    let figures = await_one("statistics", &|it| it["rates"]["failed_per_minute"] != 0.0);
    assert_eq!(figures["errors"]["by_category"]["job_processing"], 1);
    let asked = api.get("/api/v1/statistics").ok();
    for part in ["counts", "crawlers", "slots", "errors"] {
        assert_eq!(asked[part], figures[part], "{part}");
    }
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(asked["server"]["version"], version);
    let known = ["sqlite", "postgresql"].contains(&asked["server"]["database"].as_str().expect("a word"));
    assert!(known && asked["server"]["uptime_ms"].is_u64() && asked["queue"]["oldest_ms"].is_null());

    drop(crawler);
    let gone = await_one("crawler", &|it| it["gone"] == true);
    assert_eq!(gone, json!({ "id": name, "gone": true }));
}

#[test]
fn a_slow_viewer_begins_anew_once_and_the_others_do_not_wait() {
    let server = Setup::new(TestDatabase::sqlite()).start();
    let api = server.api();
    let [mut slow, mut quick] = ["", ""].map(|query| viewer(&server, query));
    for stream in [&mut slow, &mut quick] {
        snapshot(stream);
    }
    let large = json!({ "metadata": { "text": "x".repeat(16_000) } });
    let reading = std::thread::spawn(move || {
        let mut told = 0;
        while told < 600 {
            let (name, _) = quick.next().expect("an event");
            assert_ne!(name, "resync");
            told += usize::from(name == "job");
        }
    });
    let mut last = String::new();
    // More than the system and the server keep for one who does not read.
    for _ in 0..600 {
        last = api.submit_with(&large)["id"].as_str().expect("an id").to_owned();
    }
    reading.join().expect("all of it");
    let (mut page, mut resyncs, mut after) = (Page::default(), Vec::new(), 0);
    loop {
        let (name, data) = slow.next().expect("an event");
        match &*name {
            "resync" => {
                resyncs.push(data["reason"].clone());
                page.apply("snapshot", &snapshot(&mut slow));
            }
            "heartbeat" if page.jobs.contains_key(&last) => {
                after += 1;
                if after == 2 {
                    break;
                }
            }
            name => page.apply(name, &data),
        }
    }
    assert_eq!(resyncs, ["slow"]);
    assert_eq!(page.jobs.len(), 500, "the newest");
}

#[test]
fn over_a_websocket_the_same_is_told() {
    let mut server = Setup::new(TestDatabase::sqlite()).start();
    let api = server.api();
    let own = format!("http://{}", server.http);
    let mut socket = Socket::open(server.http, "", Some(&own)).expect("a page of ours may");
    let mut other = Socket::open(server.http, "?type=heartbeat", None).expect("programs may");
    for socket in [&mut socket, &mut other] {
        let first = socket.next().expect("an event");
        assert_eq!(
            (&first["event"], &first["id"]),
            (&json!("snapshot"), &first["data"]["version"])
        );
    }
    assert_eq!(
        Socket::open(server.http, "", Some("https://evil.example")).err(),
        Some(403)
    );
    assert_eq!(Socket::open(server.http, "?job=none", None).err(), Some(404));
    api.get("/api/v1/ws").problem(400, "bad_request");

    let id = api.submit("crawl_user");
    let mut stream = viewer(&server, &format!("?last_event_id={}", "x"));
    stream.await_job(&id, |_| true);
    let told = loop {
        let event = socket.next().expect("an event");
        if event["event"] == "job" {
            break event;
        }
    };
    assert_eq!(
        (&told["data"]["id"], &told["data"]["progress"]),
        (&json!(id), &Value::Null)
    );
    let seen = told["id"].as_str().expect("an id");
    // What it says is ignored, unless it is too much.
    socket.send("hello");
    api.act(&id, "pause", &json!({}));
    let mut again = Socket::open(server.http, &format!("?last_event_id={seen}"), None).expect("a connection");
    for socket in [&mut socket, &mut again] {
        loop {
            let event = socket.next().expect("an event");
            assert_ne!(event["event"], "snapshot");
            if event["event"] == "job" && event["data"]["status"] == "paused" {
                break;
            }
        }
    }
    again.send(&"x".repeat(5_000));
    let goodbye = loop {
        if let Err(goodbye) = again.next() {
            break goodbye;
        }
    };
    assert_eq!(goodbye.map(|(code, _)| code), Some(1009));
    assert_eq!(other.next().expect("an event")["event"], "heartbeat");

    let stopping = std::thread::spawn(move || server.stop("TERM"));
    for socket in [&mut socket, &mut other] {
        let goodbye = loop {
            if let Err(goodbye) = socket.next() {
                break goodbye;
            }
        };
        assert_eq!(goodbye, Some((1001, "the server stops".to_owned())));
    }
    let (status, took) = stopping.join().expect("an end");
    assert!(
        status.code() == Some(0) && took < Duration::from_secs(5),
        "{status} {took:?}"
    );
}

#[test]
fn only_what_somebody_looks_at_is_reported_more_often() {
    let server = Setup::new(TestDatabase::sqlite())
        .set("SOCKET_PROGRESS_UNWATCHED_INTERVAL", 30_000)
        .set("SOCKET_PROGRESS_REPORT_INTERVAL", 1_000)
        .start();
    let api = server.api();
    let mut crawlers = [server.session("alpha", 1), server.session("beta", 2)];
    let slots = 4;
    let jobs: Vec<_> = (0..2 * slots).map(|_| api.submit("crawl_project")).collect();
    let held: Vec<Vec<_>> = crawlers
        .iter_mut()
        .map(|crawler| {
            let held: Vec<_> = (0..slots).map(|_| crawler.assignment()).collect();
            for job in &held {
                crawler.started(job);
            }
            crawler.settle();
            held
        })
        .collect();
    assert_eq!(jobs.len(), held.iter().map(Vec::len).sum::<usize>());
    let interval =
        |crawler: &mut SessionCrawler| crawler.expect("report_policy")["data"]["progress_interval_ms"].clone();
    let mut errors = viewer(&server, "?type=error");
    snapshot(&mut errors);
    let mut one = viewer(&server, &format!("?job={}", held[0][0].id));
    snapshot(&mut one);
    assert_eq!(interval(&mut crawlers[0]), 1_000);
    // Both were looked at together.
    crawlers[1].checkpoint(&held[1][0], &json!({}));
    crawlers[1].settle();
    assert!(!crawlers[1].has_heard("report_policy"), "nobody looks at its jobs");
    let mut all = viewer(&server, "");
    snapshot(&mut all);
    assert_eq!(interval(&mut crawlers[1]), 1_000);
}

/// Used where the whole state of a server is compared with that of a page.
pub(super) fn listed(api: &Api, query: &str) -> Page {
    Page::of(&api.all(&format!("/api/v1/jobs?limit=500&progress=true{query}")))
}
