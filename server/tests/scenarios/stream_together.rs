//! Pages that come, go and sleep while jobs change: whatever they do, what they show in the end is what the server says.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::stream::listed;
use crate::support::crawler::Assignment;
use crate::support::stream::{Page, Shown, Socket};
use crate::support::{Api, Crawler, DEADLINE, LiveStream, Setup, on_both_databases, pause, wait_until};

on_both_databases!(whatever_happens_a_page_ends_with_what_the_server_says);

/// Things that are done to jobs, one after the other.
const STEPS: usize = 300;

/// Numbers that look random: splitmix64.
#[derive(Clone)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

#[expect(clippy::print_stderr, reason = "whoever sees a failure needs it")]
fn seed() -> u64 {
    let given = std::env::var("CRAWLWIRE_STREAM_SEED").ok();
    let seed = given.map_or_else(
        || RandomState::new().build_hasher().finish(),
        |seed| seed.parse().expect("CRAWLWIRE_STREAM_SEED is a number"),
    );
    eprintln!("CRAWLWIRE_STREAM_SEED={seed}");
    seed
}

/// Either way to view.
enum View {
    Stream(LiveStream),
    Socket(Socket),
}

impl View {
    fn open(address: SocketAddr, query: &str, last_seen: Option<&str>, over_socket: bool) -> Self {
        if !over_socket {
            return Self::Stream(LiveStream::asking(address, query, last_seen));
        }
        let last_seen = last_seen.map_or(String::new(), |id| format!("&last_event_id={id}"));
        let socket = Socket::open(address, &format!("{query}{last_seen}"), None);
        Self::Socket(socket.unwrap_or_else(|status| panic!("answered with {status}")))
    }

    fn next(&mut self) -> Option<(String, String, Value)> {
        match self {
            Self::Stream(stream) => {
                let (name, data) = stream.next()?;
                Some((stream.last.clone(), name, data))
            }
            Self::Socket(socket) => {
                let mut event = socket.next().ok()?;
                let text = |value: &Value| value.as_str().expect("a text").to_owned();
                Some((text(&event["id"]), text(&event["event"]), event["data"].take()))
            }
        }
    }
}

/// What the end has to be; none while it is not known yet.
type End = Arc<Mutex<Option<Page>>>;

/// What viewers hear of the test.
#[derive(Default)]
struct Signs {
    /// Nothing changes any more.
    quiet: AtomicBool,
    /// The test has failed.
    over: AtomicBool,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

/// Dropped, it tells the viewers that the test is over, however it ended.
struct Over<'a>(&'a Signs);

/// Views now and then, until it shows what it should.
fn view(address: SocketAddr, query: &str, mut chance: Chance, signs: &Signs, end: &End) {
    let mut page = Page::default();
    let mut seen: Option<String> = None;
    loop {
        let is_last = signs.quiet.load(Ordering::Acquire);
        if signs.over.load(Ordering::Acquire) && !is_last {
            return;
        }
        let last_seen = seen.take().filter(|_| chance.below(4) > 0);
        let mut expects_snapshot = last_seen.is_none();
        let mut view = View::open(address, query, last_seen.as_deref(), chance.below(2) == 0);
        let mut left = chance.below(120);
        let until = Instant::now() + DEADLINE;
        while is_last || (left > 0 && !signs.quiet.load(Ordering::Acquire)) {
            left = left.saturating_sub(1);
            if !is_last && chance.below(40) == 0 {
                pause(Duration::from_millis(chance.below(150) as u64));
            }
            let (id, name, data) = view.next().expect("an event");
            match &*name {
                "resync" => {
                    assert!(!expects_snapshot, "no snapshot after a resync");
                    expects_snapshot = true;
                }
                "snapshot" => {
                    assert!(expects_snapshot, "a snapshot that nobody needs");
                    expects_snapshot = false;
                }
                _ => assert!(!expects_snapshot, "{name} and no snapshot"),
            }
            page.apply(&name, &data);
            seen = Some(id);
            if is_last
                && end
                    .lock()
                    .expect("a lock")
                    .as_ref()
                    .is_some_and(|end| end.jobs == page.jobs)
            {
                return;
            }
            if is_last && Instant::now() > until {
                let end = end.lock().expect("a lock");
                panic!("{query} shows {page:#?}, and not {end:#?}");
            }
        }
    }
}

/// Everything that may be done to jobs.
struct Course {
    api: Api,
    crawler: Crawler,
    chance: Chance,
    jobs: Vec<String>,
    held: Vec<Assignment>,
}

impl Course {
    fn some_job(&mut self) -> Option<String> {
        let count = self.jobs.len();
        (count > 0).then(|| self.jobs[self.chance.below(count)].clone())
    }

    /// Takes what it was given.
    fn take(&mut self) {
        while let Some(message) = self.crawler.try_recv() {
            if message["type"] == "job_assignment" {
                let id = message["job_id"].as_str().expect("an id").to_owned();
                let data = message["data"].clone();
                self.held.push(Assignment { id, data });
            }
        }
    }

    fn step(&mut self) {
        self.take();
        let done = self.chance.below(100);
        match self.chance.below(20) {
            0..4 => {
                let account = ["acme", "other"][self.chance.below(2)];
                let job = self.api.submit_with(&json!({ "account_id": account }));
                self.jobs.push(job["id"].as_str().expect("an id").to_owned());
            }
            4..12 => {
                let held = self.held.len();
                if held > 0 {
                    let job = self.held[self.chance.below(held)].id.clone();
                    self.crawler.progress(&job, done as f64 / 100.0, done as u64);
                }
            }
            12 if !self.held.is_empty() => {
                let job = self.held.remove(0);
                let names: Vec<_> = (0..self.chance.below(4))
                    .map(|n| format!("{n} of {}", job.id))
                    .collect();
                let items: Vec<_> = names.iter().map(|name| ("crawl_project", name.as_str())).collect();
                self.crawler.discovered(&job.id, &items);
                self.crawler.completed(&job.id);
            }
            13 if !self.held.is_empty() => {
                let job = self.held.remove(0);
                self.crawler.failed(&job.id, done.is_multiple_of(2));
            }
            14..18 => {
                if let Some(job) = self.some_job() {
                    let act = ["pause", "resume", "cancel", "retry"][self.chance.below(4)];
                    // Many of them are refused.
                    self.api.act(&job, act, &json!({}));
                }
            }
            18 => {
                // Somebody looks at the tree of the first one.
                if let Some(job) = self.some_job().filter(|job| *job != self.jobs[0]) {
                    self.api.act(&job, "cancel", &json!({ "tree": true }));
                    self.api.ask("DELETE", &format!("/api/v1/jobs/{job}"), None);
                }
            }
            _ => pause(Duration::from_millis(done as u64)),
        }
    }
}

fn whatever_happens_a_page_ends_with_what_the_server_says(database: TestDatabase) {
    let server = Setup::new(database)
        .set("SOCKET_MAX_CONCURRENT_JOBS", 8)
        .set("SOCKET_RETRY_DELAY", 100)
        .start();
    let mut chance = Chance(seed());
    let crawler = server.crawler();
    let api = server.api();
    let tree = api.submit("crawl_project");
    let queries = [
        "?jobs=500",
        "?account_id=acme",
        "?account_id=other",
        &format!("?tree={tree}"),
        "?jobs=500",
    ];
    let signs = Signs::default();
    let ends: Vec<End> = queries.iter().map(|_| End::default()).collect();
    let address = server.http;
    std::thread::scope(|scope| {
        let viewers: Vec<_> = queries
            .iter()
            .zip(&ends)
            .map(|(query, end)| {
                let (chance, signs) = (Chance(chance.next()), &signs);
                scope.spawn(move || view(address, query, chance, signs, end))
            })
            .collect();
        let _over = Over(&signs);
        let mut course = Course {
            api: api.clone(),
            crawler,
            chance,
            jobs: vec![tree.clone()],
            held: Vec::new(),
        };
        for _ in 0..STEPS {
            course.step();
        }
        // From here on nothing is given out, and what is held ends.
        api.ask("POST", "/api/v1/queue/pause", None).ok();
        let settled = wait_until("nothing moves", || {
            course.take();
            for job in course.held.drain(..) {
                course.crawler.completed(&job.id);
            }
            let page = listed(&api, "");
            let moves = |(status, _): &Shown| ["assigned", "running"].contains(&&**status);
            (!page.jobs.values().any(moves)).then_some(page)
        });
        assert!(!settled.jobs.is_empty() && settled.jobs.len() < 500);
        signs.quiet.store(true, Ordering::Release);
        for (query, end) in queries.iter().zip(&ends) {
            let query = query
                .replace("tree=", "root_id=")
                .replace("?jobs=500", "")
                .replace('?', "&");
            *end.lock().expect("a lock") = Some(listed(&api, &query));
        }
        viewers.into_iter().for_each(|viewer| viewer.join().expect("a page"));
    });
}

/// Whether a page, and what it was told, is as it should be.
type Done<'a> = &'a dyn Fn(&Page, &[(String, Value)]) -> bool;

/// A crawler at one server, a page at the other.
#[test]
fn a_page_sees_what_happens_at_another_server() {
    let Some(database) = crate::support::server::postgres() else {
        return;
    };
    let one = Setup::new(database).set("SOCKET_MAX_CONCURRENT_JOBS", 2).start();
    let other = Setup::beside(&one).start();
    let mut stream = other.stream();
    let mut page = Page::default();
    let mut told = Vec::new();
    let mut until = |page: &mut Page, what: &str, done: Done| {
        stream.await_event(what, |name, data| {
            assert!(
                name != "resync" && (name != "snapshot" || page.jobs.is_empty()),
                "{name}"
            );
            page.apply(name, data);
            if !["statistics", "aggregate", "heartbeat", "snapshot"].contains(&name) {
                told.push((name.to_owned(), data.clone()));
            }
            done(page, &told).then_some(())
        });
    };
    until(&mut page, "a snapshot", &|_, _| true);
    let mut crawler = one.crawler();
    let api = one.api();
    let id = api.submit("crawl_project");
    assert_eq!(crawler.assignment().id, id);
    let status = |page: &Page| page.jobs.get(&id).map(|(status, _)| status.clone());
    until(&mut page, "the job", &|page, _| {
        status(page).as_deref() == Some("assigned")
    });
    let counts = json!({
        "progress": [{
            "entity_type": "issues", "total_discovered": 100, "total_processed": 60, "estimated_remaining": 40,
        }],
        "overall_completion": 0.25, "time_elapsed": 1500,
    });
    crawler.say("job_progress", Some(&id), &counts);
    until(&mut page, "its progress", &|page, _| {
        page.jobs
            .get(&id)
            .is_some_and(|(status, completion)| status == "running" && *completion == 0.6)
    });
    let passed = |told: &[(String, Value)]| {
        let passed = told
            .iter()
            .filter(|(name, data)| name == "milestone" && data["entity"].is_null());
        let mut percents: Vec<_> = passed.map(|(_, data)| data["percent"].as_u64()).collect();
        percents.sort_unstable();
        percents
    };
    until(&mut page, "milestones", &|_, told| passed(told) == [Some(25), Some(50)]);
    crawler.completed(&id);
    until(&mut page, "the end", &|page, told| {
        status(page).as_deref() == Some("completed") && passed(told).len() == 5
    });
    api.ask("POST", "/api/v1/queue/pause", None).ok();
    until(&mut page, "a gate", &|_, told| {
        told.iter().any(|(name, data)| name == "gate" && data["closed"] == true)
    });
    let waits = api.submit("crawl_project");
    until(&mut page, "one that waits", &|page, _| page.jobs.contains_key(&waits));
    api.act(&id, "cancel", &json!({}));
    api.ask("DELETE", &format!("/api/v1/jobs/{id}"), None).ok();
    until(&mut page, "that one is gone", &|page, _| !page.jobs.contains_key(&id));
    assert_eq!(page.jobs, listed(&other.api(), "").jobs);
    let mut states = told
        .iter()
        .filter(|(name, data)| name == "state" && data["job_id"] == id);
    assert_eq!(
        states.next_back().map(|(_, data)| data["to"].clone()),
        Some(json!("completed"))
    );
    // Nobody was told of a moment twice.
    for (at, (name, data)) in told.iter().enumerate() {
        if ["milestone", "entity_discovered", "entity_completed", "state"].contains(&&**name) {
            assert!(
                !told[..at].contains(&(name.clone(), data.clone())),
                "{name} {data} again"
            );
        }
    }
}
