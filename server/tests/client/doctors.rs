//! The doctor, on good set-ups and on broken ones. It changes nothing.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crawlwire_persistence::testing::TestDatabase;
use serde_json::Value;

use crate::console::{Said, ended};
use crate::support::server::{BINARY, postgres};
use crate::support::{Setup, TestServer};

/// A folder in which a server may live, and how to ask about it.
struct Place {
    dir: tempfile::TempDir,
    settings: Vec<(&'static str, String)>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
        let settings = vec![
            ("SOCKET_PATH", at("crawler.sock")),
            ("SOCKET_DATA_DIR", at("data")),
            ("HTTP_ADDR", "127.0.0.1:0".to_owned()),
        ];
        Self { dir, settings }
    }

    /// As a server of a test has it.
    fn of(server: &TestServer) -> Self {
        let mut place = Self::new();
        let at = |name: &str| server.dir().join(name).to_str().expect("text").to_owned();
        place.set("SOCKET_PATH", &at("crawler.sock"));
        place.set("SOCKET_DATA_DIR", &at("data"));
        place.set("HTTP_ADDR", &server.http.to_string());
        place.set("DATABASE_URL", &server.database().config().url);
        place
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.settings.retain(|(known, _)| *known != name);
        self.settings.push((name, value.to_owned()));
    }

    fn ask(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(BINARY);
        command
            .env_clear()
            .envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.dir.path()).arg("doctor").args(arguments);
        ended(command, "")
    }

    /// The verdict and the words on each thing.
    fn checks(&self) -> (i32, Vec<(String, String, String)>) {
        let said = self.ask(&["--json"]);
        let document = said.json();
        let text = |check: &Value, field: &str| check[field].as_str().unwrap_or_default().to_owned();
        let checks = document["checks"].as_array().expect("checks").iter();
        let checks: Vec<_> = checks
            .map(|check| (text(check, "name"), text(check, "verdict"), text(check, "detail")))
            .collect();
        assert!(
            document["checks"]
                .as_array()
                .expect("checks")
                .iter()
                .all(|check| (check["verdict"] == "ok") == check["help"].is_null())
        );
        (said.status, checks)
    }
}

#[track_caller]
fn expect(checks: &[(String, String, String)], name: &str, verdict: &str, part: &str) {
    let found = checks
        .iter()
        .any(|(known, said, detail)| known == name && said == verdict && detail.contains(part));
    assert!(found, "no {name} {verdict} with {part:?} in {checks:#?}");
}

/// The same of a server: its own folder, and the one where its database is.
fn contents_of(server: &TestServer) -> BTreeMap<PathBuf, (u32, SystemTime, Vec<u8>)> {
    let url = server.database().config().url;
    let file = url
        .trim_start_matches("sqlite://")
        .split('?')
        .next()
        .unwrap_or_default()
        .to_owned();
    let mut all = contents(Path::new(&file).parent().expect("a folder"));
    assert!(all.contains_key(Path::new(&file)), "{file} is not in {:?}", all.keys());
    // The log of the server is no matter.
    all.extend(contents(&server.dir().join("data")));
    all
}

/// Every file below a folder: what kind it is, when it was written, and what is in it.
fn contents(dir: &Path) -> BTreeMap<PathBuf, (u32, SystemTime, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        let found = entry.metadata().expect("a file");
        let bytes = if found.is_file() {
            std::fs::read(&path).expect("a file")
        } else {
            Vec::new()
        };
        if found.is_dir() {
            all.extend(contents(&path));
        }
        // Readers of SQLite note down in its index how far they read.
        let bytes = if path.to_string_lossy().ends_with("-shm") {
            Vec::new()
        } else {
            bytes
        };
        let at = if bytes.is_empty() {
            SystemTime::UNIX_EPOCH
        } else {
            found.modified().expect("a time")
        };
        all.insert(path, (found.permissions().mode(), at, bytes));
    }
    all
}

#[test]
fn a_place_where_a_server_can_start_is_well_and_stays_empty() {
    let place = Place::new();
    let said = place.ask(&[]);
    assert_eq!((said.status, said.err.as_str()), (0, ""), "{said:?}");
    assert!(
        said.out.contains("Nothing keeps a server from working here"),
        "{said:?}"
    );
    let (_, checks) = place.checks();
    for (name, part) in [
        ("configuration", "is valid"),
        ("socket", "can be made"),
        ("data folder", "not there yet"),
        ("database", "not there yet"),
    ] {
        expect(&checks, name, "ok", part);
    }
    assert!(contents(place.dir.path()).is_empty());
}

#[test]
fn a_server_that_runs_ended_or_was_killed_is_looked_at_and_left_alone() {
    let mut server = Setup::new(TestDatabase::sqlite()).start();
    server.api().submit("crawl_user");
    let place = Place::of(&server);
    let (status, checks) = place.checks();
    assert_eq!(status, 0, "{checks:#?}");
    expect(&checks, "socket", "ok", "a server listens");
    expect(&checks, "http", "ok", "a crawlwire server answers");
    expect(&checks, "database", "ok", "journal wal, schema m0");
    expect(&checks, "key", "ok", "its owner only");

    server.kill();
    let before = contents_of(&server);
    let (status, checks) = place.checks();
    assert_eq!(status, 0, "{checks:#?}");
    expect(&checks, "socket", "ok", "a start replaces it");
    expect(&checks, "http", "ok", "is free");
    expect(&checks, "database", "ok", "schema m0");
    assert_eq!(contents_of(&server), before);

    server.start();
    server.stop("TERM");
    let before = contents_of(&server);
    let (status, checks) = place.checks();
    assert_eq!(status, 0, "{checks:#?}");
    expect(&checks, "database", "ok", "schema m0");
    assert_eq!(contents_of(&server), before);
}

#[test]
fn each_thing_that_is_broken_is_named() {
    let mut place = Place::new();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    place.set("HTTP_ADDR", &taken.local_addr().expect("an address").to_string());
    place.set("SOCKET_PATH", "/none/crawler.sock");
    let data = place.dir.path().join("data");
    std::fs::create_dir(&data).expect("a directory");
    let key = data.join("crawlwire.key");
    std::fs::write(&key, [7; 32]).expect("a file");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("a mode");
    std::fs::write(
        data.join("crawlwire.db"),
        "this is no database, but long enough to be looked at as one",
    )
    .expect("a file");
    let before = contents(place.dir.path());
    let (status, checks) = place.checks();
    assert_eq!(status, 1);
    expect(&checks, "socket", "problem", "there is no folder /none");
    expect(&checks, "http", "problem", "another program uses");
    expect(&checks, "key", "problem", "other users may read");
    expect(&checks, "database", "problem", "not a database");
    assert_eq!(contents(place.dir.path()), before);
    let said = place.ask(&[]);
    assert!(
        said.out.contains("-> chmod 600 ") && said.out.contains("4 problems, "),
        "{said:?}"
    );

    std::fs::write(&key, "short").expect("a file");
    place.set("SOCKET_PATH", key.to_str().expect("text"));
    place.set("DATABASE_URL", "postgres://me:hunter2@127.0.0.1:1/none");
    let (_, checks) = place.checks();
    expect(&checks, "key", "problem", "has 5 bytes");
    expect(&checks, "socket", "problem", "is no socket");
    expect(
        &checks,
        "database",
        "problem",
        "cannot open postgres://me:***@127.0.0.1:1/none",
    );
    assert!(!format!("{checks:?}").contains("hunter2"));
}

#[test]
fn a_configuration_that_is_wrong_is_all_there_is_to_say() {
    let mut place = Place::new();
    place.set("SOCKET_BACKLOG", "many");
    place.set("SOCKET_PROT", "1");
    let (status, checks) = place.checks();
    assert_eq!(status, 1);
    expect(&checks, "configuration", "problem", "backlog");
    expect(&checks, "configuration", "warning", "SOCKET_PROT");
    assert_eq!(place.ask(&["--sokcet", "x"]).status, 2);
}

#[test]
fn postgres_is_reached_and_its_clock_compared() {
    let Some(database) = postgres() else { return };
    let server = Setup::new(database).start();
    let (status, checks) = Place::of(&server).checks();
    assert_eq!(status, 0, "{checks:#?}");
    expect(&checks, "database", "ok", "schema m0");
    expect(&checks, "database", "ok", "clock ahead by ");
}

#[test]
fn an_empty_postgres_stays_empty() {
    let Some(database) = postgres() else { return };
    let mut place = Place::new();
    place.set("DATABASE_URL", &database.config().url);
    for _ in 0..2 {
        let (status, checks) = place.checks();
        assert_eq!(status, 0, "{checks:#?}");
        expect(&checks, "database", "ok", "empty; a start makes its tables");
    }
}
