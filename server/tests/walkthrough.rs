//! The walk-through of the README: the real server, the real example crawler, real repositories; first in peace, then
//! while both are killed on the way, and jobs are cancelled and paused in the middle.

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

use crate::support::{Api, LiveStream, Setup, TestServer, history, on_both_databases, wait_until};

on_both_databases!(
    everything_below_a_folder_is_crawled,
    kills_on_the_way_change_nothing_of_it,
    a_cancel_in_the_middle_is_confirmed,
    a_long_crawl_goes_on_where_it_was,
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

/// A repository with this many commits on `main` and one more on `side`, by some of the authors, and two tags. It has few
/// files: git writes all of their names with each commit.
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
             {from}M 100644 inline file-{}\ndata 1\nx\n",
            number % 100
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

/// Life and work of a job that ended well are told together.
#[track_caller]
fn check_timeline(api: &Api, job: &Value) {
    let id = job["id"].as_str().expect("an id");
    let timeline = api.get(&format!("/api/v1/jobs/{id}/timeline")).ok();
    let items = timeline["items"].as_array().expect("items");
    let last = |of_type: &str| items.iter().rfind(|item| item["type"] == of_type).expect("one");
    assert_eq!(last("event")["state"], "completed", "{timeline:#}");
    assert_eq!(last("milestone")["percent"], 100, "{timeline:#}");
    assert_eq!(last("progress")["completion"], 1.0, "{timeline:#}");
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
    assert_eq!(
        (&progress["state"], &progress["completion"], &progress["discovering"]),
        (&json!("completed"), &json!(1.0), &json!(false))
    );
    check_timeline(api, job);
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
    let mut server = Setup::new(database).set("SOCKET_HEARTBEAT_INTERVAL", 500).start();
    let arguments = ["--slow-ms", "20"];
    let mut crawler = GitCrawler::start(&server, folder.path(), &arguments);
    let root = submit(&server.api());
    // In the middle of the discovery, and then again and again.
    for ended in 0..6 {
        wait_until("a job is running", || {
            let running = server.api().all("/api/v1/jobs?status=running");
            (!running.is_empty()).then_some(())
        });
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
    for job in &jobs {
        assert_eq!(job["attempt"], 1, "a kill has cost an attempt: {job:#}");
        let arrows = api.arrows(job["id"].as_str().expect("an id"));
        let taken_away = arrows.iter().any(|arrow| arrow == "expire" || arrow == "deadline");
        assert!(!taken_away, "{arrows:?}");
    }
}

/// A folder with one repository of this many commits.
fn long_repository(commits: usize) -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a temporary directory");
    let long = folder.path().join("long");
    repository(&long, commits, &["ann@example.com", "bob@example.com"]);
    (folder, long)
}

/// Submits the crawl of it.
fn submit_long(api: &Api) -> String {
    let job = json!({
        "job_type": "crawl_project", "gitlab_host": "localhost", "account_id": "me",
        "entity_id": "long", "namespace_path": "long",
    });
    api.create(&job).json()["id"].as_str().expect("an id").to_owned()
}

/// Waits until a job speaks of so many commits; how many it speaks of, each time.
#[track_caller]
fn await_commits(stream: &mut LiveStream, id: &str, wanted: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    stream.await_event("commits", |name, data| {
        if name == "progress" && data["job_id"] == id {
            let entities = data["entities"].as_array().expect("entities");
            let commits = entities.iter().find(|entity| entity["entity_type"] == "commits");
            seen.extend(commits.map(|commits| commits["total_processed"].as_u64().expect("a number")));
        }
        (seen.last() >= Some(&wanted)).then_some(())
    });
    seen
}

/// Files of a crawler below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Unfinished files of a crawler.
fn parts(server: &TestServer) -> usize {
    let mut found = Vec::new();
    files(&server.dir().join("out"), &mut found);
    let is_part = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "part");
    found.iter().filter(is_part).count()
}

fn a_cancel_in_the_middle_is_confirmed(database: TestDatabase) {
    let (folder, _) = long_repository(10_000);
    let server = Setup::new(database).start();
    let (api, mut stream) = (server.api(), server.stream());
    let _crawler = GitCrawler::start(&server, folder.path(), &["--slow-ms", "50"]);
    let id = submit_long(&api);
    await_commits(&mut stream, &id, 500);
    api.act(&id, "cancel", &json!({ "by": "ada" })).ok();
    let cancelled = api.await_status(&id, "cancelled");
    assert_eq!(cancelled["attempt"], 1);
    assert_eq!(
        api.arrows(&id),
        ["submit", "claim", "start", "want_cancel", "confirm"],
        "it stopped by itself"
    );
    wait_until("nothing is left of it", || (parts(&server) == 0).then_some(()));
    // It is not cut off by that: the next job is its own.
    let again = submit_long(&api);
    await_commits(&mut stream, &again, 100);
}

fn a_long_crawl_goes_on_where_it_was(database: TestDatabase) {
    const COMMITS: u64 = 20_000;
    let (folder, long) = long_repository(COMMITS as usize);
    let mut server = Setup::new(database).set("SOCKET_HEARTBEAT_INTERVAL", 500).start();
    let (api, mut stream) = (server.api(), server.stream());
    let arguments = ["--slow-ms", "30"];
    let mut crawler = GitCrawler::start(&server, folder.path(), &arguments);
    let id = submit_long(&api);
    await_commits(&mut stream, &id, 500);
    let all = wait_until("a report is written", || {
        let all = api.get("/api/v1/progress").ok();
        (all["active_jobs"] == 1).then_some(all)
    });
    assert_eq!(all["fleet"]["trees"], 1, "{all:#}");
    api.act(&id, "pause", &json!({})).ok();
    api.await_status(&id, "paused");
    let progress = api.get(&format!("/api/v1/jobs/{id}/progress")).ok();
    let reached = progress["entities"][0]["total_processed"].as_u64().expect("a count");
    assert!((500..COMMITS).contains(&reached), "{progress}");
    assert_eq!(parts(&server), 1);

    // Whoever goes on, goes on there.
    crawler.kill();
    crawler = GitCrawler::start(&server, folder.path(), &arguments);
    api.act(&id, "resume", &json!({})).ok();
    let seen = await_commits(&mut stream, &id, reached + 5_000);
    assert!(seen.iter().all(|commits| *commits >= reached), "{reached}: {seen:?}");

    // And where it was killed, give or take a second.
    crawler.kill();
    crawler = GitCrawler::start(&server, folder.path(), &arguments);
    let last = *seen.last().expect("commits");
    let seen = await_commits(&mut stream, &id, last + 1_000);
    assert!(seen.iter().all(|commits| *commits > reached), "{reached}: {seen:?}");
    server.kill();
    server.start();
    let api = server.api();
    let completed = api.await_status(&id, "completed");
    let arrows = api.arrows(&id);
    let starts = arrows.iter().filter(|arrow| *arrow == "start").count();
    assert_eq!(starts, 2, "once, and once after the pause: {arrows:?}");
    let (mut files_found, listed) = (Vec::new(), git(&long, &["rev-list", "--all"]));
    files(&server.dir().join("out"), &mut files_found);
    let file = files_found
        .iter()
        .find(|path| path.ends_with("project/long/commits.ndjson"));
    let text = fs::read_to_string(file.expect("the commits")).expect("text");
    let commits = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let shas: Vec<_> = commits
        .map(|commit| commit["sha"].as_str().expect("a hash").to_owned())
        .collect();
    assert_eq!(shas, listed.lines().collect::<Vec<_>>());
    let repositories = BTreeMap::from([("long".to_owned(), long)]);
    check_project(&api, &completed, &repositories);
    assert_eq!(parts(&server), 0);
    drop(crawler);
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
    let status = wait_until("the crawler has nothing more to do", || {
        crawler.child.try_wait().expect("a child")
    });
    assert_eq!(status.code(), Some(0));
}
