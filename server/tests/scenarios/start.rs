//! Servers that find something in their place, or share a database.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use crawlwire_persistence::config::KEY_FILE_NAME;
use crawlwire_persistence::testing::TestDatabase;
use serde_json::json;

use crate::support::server::postgres;
use crate::support::{Setup, TestServer};

/// That a server is as well as before.
#[track_caller]
fn works(server: &TestServer) {
    let api = server.api();
    let mut crawler = server.crawler();
    let job = api.submit("crawl_user");
    assert_eq!(crawler.assignment().id, job);
    crawler.completed(&job);
    api.await_status(&job, "completed");
}

#[test]
fn a_second_server_harms_neither_itself_nor_the_first() {
    let server = Setup::new(TestDatabase::sqlite()).start();
    let own = || Setup::new(TestDatabase::sqlite());
    let cases = [
        (
            own().socket_at(server.socket()),
            format!("{}", server.socket().display()),
        ),
        (own().http_at(server.http), format!("{}", server.http)),
        (
            Setup::beside(&server),
            "is in use by another process; SQLite serves one server".to_owned(),
        ),
    ];
    for (second, part) in cases {
        let (status, said) = second.refused();
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains(&part), "{part} is not in {said}");
        let said: Vec<_> = said.lines().filter(|line| line.starts_with("crawlwire: ")).collect();
        assert_eq!(said.len(), 1, "one sentence says why");
    }
    assert!(server.socket().exists());
    works(&server);
}

#[test]
fn only_what_nobody_uses_is_replaced() {
    // A socket file that nobody listens on.
    let setup = Setup::new(TestDatabase::sqlite());
    let path = setup.dir().join("crawler.sock");
    drop(UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists());
    works(&setup.start());

    // One that somebody else listens on, who knows nothing of our lock.
    let setup = Setup::new(TestDatabase::sqlite());
    let listener = UnixListener::bind(setup.dir().join("crawler.sock")).expect("a socket");
    let (status, said) = setup.refused();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("another process answers there"), "{said}");
    drop(listener);

    // Something else altogether.
    let setup = Setup::new(TestDatabase::sqlite());
    let path = setup.dir().join("crawler.sock");
    std::fs::write(&path, "precious").expect("a file");
    let (status, said) = setup.refused();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("crawler.sock"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).expect("it is still there"), "precious");
}

#[test]
fn what_cannot_be_had_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let own = || Setup::new(TestDatabase::sqlite());
    let file = own();
    let in_file = file.dir().join("file");
    std::fs::write(&in_file, "").expect("a file");
    for (setup, part) in [
        (own().flag("--listen").flag(&address), address.as_str()),
        (file.socket_at(in_file.join("s")), "file"),
        (own().set("SOCKET_GROUP", "no-such-group"), "no-such-group"),
    ] {
        let (status, said) = setup.refused();
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains(part), "{part} is not in {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn tokens_are_not_given_up_for_lost() {
    let mut server = Setup::new(TestDatabase::sqlite()).start();
    let job = json!({
        "job_type": "crawl_user", "gitlab_host": "localhost", "account_id": "acme", "access_token": "glpat-secret",
    });
    assert_eq!(server.api().create(&job).status, 201);
    server.stop("TERM");
    for file in walk(server.dir()) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        let found = bytes.windows(12).any(|part| part == b"glpat-secret");
        assert!(!found, "the token is in {}", file.display());
    }
    let key = server.dir().join("data").join(KEY_FILE_NAME);
    let kept = std::fs::read(&key).expect("a key");
    std::fs::remove_file(&key).expect("a key");
    let (status, said) = server.setup().refused();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains(KEY_FILE_NAME), "{said}");
    std::fs::write(&key, kept).expect("a key");
    server.start();
    assert_eq!(server.crawler().assignment().data["access_token"], "glpat-secret");
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path());
    let files = entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] });
    files.collect()
}

#[test]
fn servers_share_a_postgresql() {
    let Some(database) = postgres() else { return };
    let one = Setup::new(database).set("SOCKET_REATTACH_GRACE", 100).start();
    let other = Setup::beside(&one).set("SOCKET_REATTACH_GRACE", 100).start();
    let job = json!({
        "job_type": "discover_namespaces", "gitlab_host": "localhost", "account_id": "acme", "access_token": "glpat-x",
    });
    // Submitted here, crawled there.
    let root = one.api().create(&job).json()["id"].as_str().expect("an id").to_owned();
    let mut crawler = other.crawler_process();
    let given = crawler.assignment();
    assert_eq!(
        (given.id.as_str(), &given.data["access_token"]),
        (root.as_str(), &json!("glpat-x"))
    );
    crawler.progress(&root, 0.5, 50);
    let found: Vec<_> = (0..20).map(|number| format!("p{number}")).collect();
    let items: Vec<_> = found.iter().map(|name| ("crawl_project", name.as_str())).collect();
    crawler.discovered(&root, &items);
    other.api().await_status(&root, "running");

    // One server dies with its crawler; the other goes on with everything.
    crawler.settle(&other.api());
    crawler.kill();
    let mut crawler = one.crawler();
    let mut done = BTreeSet::new();
    while done.len() < 21 {
        let job = crawler.assignment().id;
        crawler.completed(&job);
        assert!(done.insert(job), "given out twice");
    }
    let api = one.api();
    let ended = api.await_status(&root, "completed");
    assert_eq!((&ended["attempt"], &ended["children"]), (&json!(2), &json!(20)));
    for job in &done {
        api.await_status(job, "completed");
        let arrows = api.arrows(job);
        assert_eq!(
            arrows.iter().filter(|arrow| *arrow == "finish").count(),
            1,
            "{arrows:?}"
        );
    }
    assert_eq!(api.arrows(&root), other.api().arrows(&root));
}
