//! The walk-through of the README: the real server, the real example crawler, real repositories; first in peace, then
//! while both are killed on the way.

#[expect(dead_code, reason = "these tests need only a part of it")]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Api, Setup, TestServer, history, on_both_databases};

on_both_databases!(
    everything_below_a_folder_is_crawled,
    kills_on_the_way_change_nothing_of_it,
    this_repository_is_crawled,
);

/// What git prints.
#[track_caller]
fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = git_command(folder, arguments).output().expect("git is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

fn git_command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .arg("-C")
        .arg(folder)
        .args(arguments);
    command
}

/// A repository with this many commits on `main` and one more on `side`, by some of the authors, and two tags.
fn repository(folder: &Path, commits: usize, authors: &[&str]) {
    fs::create_dir_all(folder).expect("a folder");
    git(folder, &["init", "-q", "-b", "main"]);
    let mut stream = String::new();
    for number in 0..=commits {
        let branch = if number == commits { "side" } else { "main" };
        let author = authors[number % authors.len()];
        let from = if number == commits {
            "from refs/heads/main\n"
        } else {
            ""
        };
        let time = 1_700_000_000 + number;
        write!(
            stream,
            "commit refs/heads/{branch}\ncommitter A B <{author}> {time} +0200\ndata <<EOT\ncommit {number}\nEOT\n\
             {from}M 100644 inline file-{number}\ndata 1\nx\n"
        )
        .expect("memory");
    }
    let mut import = git_command(folder, &["fast-import", "--quiet"]);
    let mut import = import.stdin(Stdio::piped()).spawn().expect("git is installed");
    let mut input = import.stdin.take().expect("it is piped");
    input.write_all(stream.as_bytes()).expect("git reads it");
    drop(input);
    assert!(import.wait().expect("an end").success());
    git(folder, &["tag", "v1", "main"]);
    git(folder, &["tag", "v2", "side"]);
}

/// The example crawler at work.
struct GitCrawler {
    child: Child,
    log: PathBuf,
}

impl GitCrawler {
    fn start(server: &TestServer, root: &Path, arguments: &[&str]) -> Self {
        // Next to the binary; built with the tests.
        let program = Path::new(support::server::BINARY)
            .with_file_name("examples")
            .join("git_crawler");
        assert!(
            program.exists(),
            "no example; run cargo build -p crawlwire-server --example git_crawler"
        );
        let log = server.dir().join("crawler.log");
        let file = File::options().create(true).append(true).open(&log).expect("a file");
        let child = Command::new(program)
            .args(["--quiet", "--heartbeat-ms", "100"])
            .args(arguments)
            .arg("--root")
            .arg(root)
            .arg("--out")
            .arg(server.dir().join("out"))
            .env("SOCKET_PATH", server.socket())
            .stdin(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("it starts");
        Self { child, log }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for GitCrawler {
    #[expect(clippy::print_stderr, reason = "this is where one looks when a test has failed")]
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("--- log of the crawler\n{log}---");
        }
    }
}

/// Submits the root of a crawl.
fn submit(api: &Api) -> String {
    let job = json!({ "job_type": "discover_namespaces", "gitlab_host": "localhost", "account_id": "me" });
    api.create(&job).json()["id"].as_str().expect("an id").to_owned()
}

/// Waits until this many jobs have ended, or all of them.
#[track_caller]
fn await_ended(server: &TestServer, wanted: usize) -> Vec<Value> {
    let api = server.api();
    let mut stream = server.stream();
    loop {
        let jobs = api.all("/api/v1/jobs?limit=500");
        let ended = jobs.iter().filter(|job| job["finished_at"].is_string()).count();
        if ended >= wanted.min(jobs.len()) {
            return jobs;
        }
        stream.await_event("more jobs to end", |name, data| {
            (name == "job" && data["finished_at"].is_string()).then_some(())
        });
    }
}

/// Checks a whole tree: everything done, once, and counted as git counts.
#[track_caller]
fn check_tree(api: &Api, root: &str, jobs: &[Value], repositories: &BTreeMap<String, PathBuf>) {
    let mut crawled: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for job in jobs {
        let id = job["id"].as_str().expect("an id");
        assert_eq!(
            (&job["status"], &job["root_id"]),
            (&json!("completed"), &json!(root)),
            "{job:#}"
        );
        let events = api.events(id);
        history::check(job, &events);
        let finishes = events.iter().filter(|event| event["state"] == "completed").count();
        assert_eq!(finishes, 1, "{events:#?}");
        let entity = job["entity_id"].as_str().unwrap_or_default().to_owned();
        let first = crawled
            .entry(job["job_type"].as_str().expect("a type"))
            .or_default()
            .insert(entity);
        assert!(first, "the same again: {job:#}");
        if job["job_type"] == "crawl_project" {
            check_project(api, job, repositories);
        }
    }
    let authors = repositories.values().flat_map(|folder| {
        let emails = git(folder, &["log", "--all", "--format=%ae"]);
        emails.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(crawled["crawl_user"], authors.collect());
    assert_eq!(crawled["crawl_project"], repositories.keys().cloned().collect());
    assert_eq!(crawled["discover_namespaces"].len(), 1);
}

#[track_caller]
fn check_project(api: &Api, job: &Value, repositories: &BTreeMap<String, PathBuf>) {
    let folder = &repositories[job["entity_id"].as_str().expect("a path")];
    let progress = api
        .get(&format!("/api/v1/jobs/{}/progress", job["id"].as_str().expect("an id")))
        .ok();
    assert_eq!(
        (&progress["status"], &progress["overall_completion"]),
        (&json!("completed"), &json!(1.0))
    );
    let count = |kind: &str| {
        let entities = progress["entities"].as_array().expect("entities");
        let entity = entities.iter().find(|entity| entity["entity_type"] == kind);
        entity.unwrap_or_else(|| panic!("no {kind} in {progress}"))["total_processed"].clone()
    };
    let lines = |arguments: &[&str]| git(folder, arguments).lines().count();
    assert_eq!(
        count("commits").to_string(),
        git(folder, &["rev-list", "--count", "--all"]),
        "{folder:?}"
    );
    assert_eq!(
        count("branches"),
        lines(&["branch", "--list", "--format=%(refname)"]),
        "{folder:?}"
    );
    assert_eq!(count("tags"), lines(&["tag"]), "{folder:?}");
}

/// Repositories by their names below a folder.
fn repositories(root: &Path, shape: &[(&str, usize, &[&str])]) -> BTreeMap<String, PathBuf> {
    let made = shape.iter().map(|(name, commits, authors)| {
        let folder = root.join(name);
        repository(&folder, *commits, authors);
        ((*name).to_owned(), folder)
    });
    made.collect()
}

fn everything_below_a_folder_is_crawled(database: TestDatabase) {
    let folder = TempDir::new().expect("a temporary directory");
    let repositories = repositories(
        folder.path(),
        &[
            ("alpha", 12, &["ann@example.com", "bob@example.com"]),
            ("group/beta", 3, &["bob@example.com"]),
            (
                "group/sub group/gamma",
                250,
                &["cem@example.com", "ann@example.com", "dee@example.com"],
            ),
        ],
    );
    let server = Setup::new(database).start();
    let api = server.api();
    let _crawler = GitCrawler::start(&server, folder.path(), &[]);
    let root = submit(&api);
    let ended = api.await_status(&root, "completed");
    assert_eq!(ended["result"]["summary"], "3 groups, 3 projects, 4 users");
    let jobs = await_ended(&server, usize::MAX);
    assert_eq!(jobs.len(), 1 + 3 + 3 + 4);
    check_tree(&api, &root, &jobs, &repositories);
    assert!(
        jobs.iter().all(|job| job["attempt"] == 1 && job["fence"] == 1),
        "nothing had to be done twice"
    );
    let children = api.all(&format!("/api/v1/jobs/{root}/children"));
    assert_eq!(children.len(), 10);
}

fn kills_on_the_way_change_nothing_of_it(database: TestDatabase) {
    let folder = TempDir::new().expect("a temporary directory");
    let names: Vec<_> = (0..12)
        .map(|number| format!("group {}/p{number}", number % 3))
        .collect();
    let authors = [
        "ann@example.com",
        "bob@example.com",
        "cem@example.com",
        "dee@example.com",
    ];
    let shape: Vec<_> = names.iter().map(|name| (name.as_str(), 150, &authors[..])).collect();
    let repositories = repositories(folder.path(), &shape);
    let mut server = Setup::new(database)
        .set("SOCKET_HEARTBEAT_INTERVAL", 300)
        .set("SOCKET_HEARTBEAT_TIMEOUT", 1500)
        .set("SOCKET_REATTACH_GRACE", 500)
        .set("SOCKET_RETRY_ATTEMPTS", 50)
        .set("SOCKET_RETRY_DELAY", 10)
        .start();
    let arguments = ["--slow-ms", "20"];
    let mut crawler = GitCrawler::start(&server, folder.path(), &arguments);
    let root = submit(&server.api());
    // In the middle of the discovery, and then again and again.
    server.api().await_status(&root, "running");
    for ended in 0..6 {
        if ended % 2 == 0 {
            server.kill();
        }
        if ended % 3 != 0 {
            crawler.kill();
            crawler = GitCrawler::start(&server, folder.path(), &arguments);
        }
        if ended % 2 == 0 {
            server.start();
        }
        await_ended(&server, 2 * ended);
    }
    let api = server.api();
    api.await_status(&root, "completed");
    let jobs = await_ended(&server, usize::MAX);
    assert_eq!(jobs.len(), 1 + 4 + 12 + 4);
    check_tree(&api, &root, &jobs, &repositories);
    let again = jobs.iter().filter(|job| job["attempt"].as_i64() > Some(1)).count();
    assert!(again > 0, "no kill has hit anything");
}

fn this_repository_is_crawled(database: TestDatabase) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let checkout = here.join(".git").is_dir()
        && git_command(here, &["status"])
            .output()
            .is_ok_and(|it| it.status.success());
    if !checkout {
        // An unpacked archive is no repository.
        return;
    }
    let server = Setup::new(database).start();
    let api = server.api();
    let crawler = GitCrawler::start(&server, here, &["--once", "--once-idle-ms", "500"]);
    let count = || -> u64 { git(here, &["rev-list", "--count", "--all"]).parse().expect("a number") };
    let before = count();
    let root = submit(&api);
    api.await_status(&root, "completed");
    let jobs = await_ended(&server, usize::MAX);
    let after = count();
    let project = jobs
        .iter()
        .find(|job| job["job_type"] == "crawl_project")
        .expect("one repository");
    let progress = api
        .get(&format!(
            "/api/v1/jobs/{}/progress",
            project["id"].as_str().expect("an id")
        ))
        .ok();
    let commits = &progress["entities"][0];
    assert_eq!(commits["entity_type"], "commits");
    // Somebody may be at work on it.
    let counted = commits["total_processed"].as_u64().expect("a count");
    assert!((before..=after).contains(&counted), "{before}, {counted}, {after}");
    for job in &jobs {
        assert_eq!(job["status"], "completed");
        history::check(job, &api.events(job["id"].as_str().expect("an id")));
    }
    let mut crawler = crawler;
    let status = support::wait_until("the crawler has nothing more to do", || {
        crawler.child.try_wait().expect("a child")
    });
    assert_eq!(status.code(), Some(0));
}
