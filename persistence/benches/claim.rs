//! What a claim costs with few and with many jobs at rest. It should cost the same.
//!
//! Ended jobs with their history are made by SQL, and beside them a queue of 2000 jobs in 20 lanes that is kept full by
//! submissions. All sizes take turns, so that what happens on the machine meanwhile happens to all of them.
//!
//! The throw-away PostgreSQL does not wait for the disk, which would only hide differences. SQLite does; with
//! `TMPDIR=/dev/shm` there is no disk to wait for. `BENCH_SIZES=1000,100000,1000000` and `BENCH_ROUNDS=1000` ask for other
//! amounts.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::sync::Arc;
use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use crawlwire_persistence::{Database, DatabaseConfig, SqlStore};
use crawlwire_progress::admit::Capabilities;
use crawlwire_progress::store::{Ending, Holder, NewJob, NewSession, Op, Outcome, ReadyQuery};
use crawlwire_progress::view::{JobSpec, ReadyJob};
use crawlwire_progress::{Policy, SessionRef, Store};
use crawlwire_protocol::message::JobType;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend};
use tokio::time::Instant;

/// Each account's jobs are a lane.
const LANES: usize = 20;

/// Jobs that wait, in all lanes together.
const QUEUE: usize = 2000;

/// Before it counts: until then nothing is in memory, and plans are made.
const WARM_UP: usize = 50;

/// What the dispatcher asks for when there are so many lanes.
const PAGE: ReadyQuery = ReadyQuery {
    after_lane: None,
    lanes: LANES + 1,
    per_lane: 4,
};

/// What is measured.
const STEPS: [&str; 4] = ["look at the queue", "claim", "start and finish", "submit"];

#[tokio::main]
async fn main() {
    let sizes = std::env::var("BENCH_SIZES").unwrap_or_else(|_| "1000,100000,1000000".to_owned());
    let sizes: Vec<usize> = sizes.split(',').filter_map(|size| size.trim().parse().ok()).collect();
    assert!(!sizes.is_empty(), "BENCH_SIZES names no size");
    let rounds = std::env::var("BENCH_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok());
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "profile {profile}, {cores} cores, databases in {}",
        std::env::temp_dir().display()
    );
    for backend in [DbBackend::Sqlite, DbBackend::Postgres] {
        measure(backend, &sizes, rounds.unwrap_or(1000)).await;
    }
}

async fn measure(backend: DbBackend, sizes: &[usize], rounds: usize) {
    match backend {
        DbBackend::Sqlite => println!("\nSQLite, WAL, synchronous=FULL, without ANALYZE, as the server leaves it"),
        _ => println!("\nPostgreSQL, fsync=off, after VACUUM (ANALYZE), as autovacuum leaves it"),
    }
    let mut places = Vec::new();
    for size in sizes {
        let Some(place) = Place::with(backend, *size).await else {
            return;
        };
        places.push(place);
    }
    for round in 0..WARM_UP + rounds {
        for turn in 0..places.len() {
            let turn = (round + turn) % sizes.len();
            let times = places[turn].round(round).await;
            if round >= WARM_UP {
                places[turn].times.push(times);
            }
        }
    }
    println!(
        "  medians of {rounds}, ms: {}",
        STEPS.map(|step| format!("{step:>18}")).join("")
    );
    let mut medians = Vec::new();
    for place in &places {
        let median = place.medians();
        println!("  {:>10} jobs at rest: {}", place.size, spread(&median, 3));
        medians.push(median);
        place.store.close().await;
    }
    if let (Some(first), Some(last)) = (medians.first(), medians.last()) {
        let ratios = std::array::from_fn(|step| last[step] / first[step]);
        println!(
            "  last to first size:      {}   (aim for a claim: 1.5 at most)",
            spread(&ratios, 2)
        );
    }
}

fn spread(values: &[f64; STEPS.len()], digits: usize) -> String {
    values.map(|value| format!("{value:>18.digits$}")).join("")
}

/// A database with so many jobs at rest.
struct Place {
    size: usize,
    /// Keeps the files until the end.
    _database: TestDatabase,
    store: Arc<SqlStore>,
    session: SessionRef,
    name: Arc<str>,
    submitted: usize,
    times: Vec<[Duration; STEPS.len()]>,
}

impl Place {
    async fn with(backend: DbBackend, size: usize) -> Option<Self> {
        let database = match backend {
            DbBackend::Sqlite => TestDatabase::sqlite(),
            _ => TestDatabase::postgres().await?,
        };
        let begin = Instant::now();
        let config = DatabaseConfig {
            policy: Policy {
                queued_jobs_max: u64::MAX,
                ..Policy::default()
            },
            ..database.config()
        };
        // The accounts.
        let store = Database::open(config.clone()).await.expect("a store");
        submit(&store, 0..LANES).await;
        store.close().await;
        let pool = database.pool().await;
        lay_to_rest(&pool, size).await;
        pool.close().await.expect("a pool that closes");
        let store = Database::open(config).await.expect("a store");
        submit(&store, LANES..QUEUE).await;
        let counts = store.counts().await.expect("counts");
        assert_eq!(counts.values().sum::<i64>(), (size + QUEUE) as i64, "{counts:?}");
        println!("  {size} jobs laid to rest in {:.1} s", begin.elapsed().as_secs_f64());
        let name: Arc<str> = "bench".into();
        let opened = store.commit(Op::OpenSession(NewSession {
            name: name.clone(),
            identity: None,
            server: "crawlwire".to_owned(),
            capabilities: Capabilities::any(1),
            confirms: false,
            instance: None,
        }));
        let Outcome::SessionOpened(opened) = opened.await.expect("a session").into_inner() else {
            unreachable!("a session opens")
        };
        Some(Self {
            size,
            _database: database,
            store,
            session: opened.session,
            name,
            submitted: QUEUE,
            times: Vec::new(),
        })
    }

    /// One life, step by step.
    async fn round(&mut self, round: usize) -> [Duration; STEPS.len()] {
        if round.is_multiple_of(100) {
            self.commit(Op::Renew(vec![self.session])).await;
        }
        let begin = Instant::now();
        let ready = self.store.ready(PAGE).await.expect("a queue");
        let looked = Instant::now();
        assert_eq!(ready.len(), LANES * PAGE.per_lane);
        let claimed = self.claim(&ready[round * PAGE.per_lane % ready.len()]).await;
        let has_it = Instant::now();
        let (start, finish) = claimed;
        self.commit(start).await;
        self.commit(finish).await;
        let ended = Instant::now();
        submit(&self.store, self.submitted..self.submitted + 1).await;
        self.submitted += 1;
        [looked - begin, has_it - looked, ended - has_it, ended.elapsed()]
    }

    /// Claims a job; what its session says next.
    async fn claim(&self, job: &ReadyJob) -> (Op, Op) {
        let claimed = self.commit(Op::Claim {
            job: job.key,
            session: self.session,
            name: self.name.clone(),
        });
        let Outcome::Moved(fact) = claimed.await else {
            unreachable!("a queued job is claimed")
        };
        let holder = Holder {
            session: self.session.key,
            name: self.name.clone(),
            fence: fact.fence,
        };
        let start = Op::Start {
            job: job.key,
            holder: holder.clone(),
        };
        let finish = Op::Finish {
            job: job.key,
            holder,
            ending: Ending::Completed {
                result: "{}".to_owned(),
            },
            progress: None,
        };
        (start, finish)
    }

    async fn commit(&self, op: Op) -> Outcome {
        let outcome = self.store.commit(op).await.expect("a commit").into_inner();
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        outcome
    }

    /// Of each step, in milliseconds.
    fn medians(&self) -> [f64; STEPS.len()] {
        std::array::from_fn(|step| {
            let mut times: Vec<_> = self
                .times
                .iter()
                .map(|times| times[step].as_secs_f64() * 1000.0)
                .collect();
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
        })
    }
}

/// Submits jobs together.
async fn submit(store: &Arc<SqlStore>, numbers: std::ops::Range<usize>) {
    let mut tickets = Vec::new();
    for number in numbers {
        tickets.push(store.enqueue(Op::Submit(Box::new(new_job(number)))).await);
    }
    for ticket in tickets {
        let outcome = ticket.await.expect("a job").into_inner();
        assert!(matches!(outcome, Outcome::Submitted(_)), "{outcome:?}");
    }
}

/// Keys up to here are used otherwise.
const LAST_KEY_BEFORE: usize = 1000;

/// Jobs that ended, each with the history of a life, of all accounts in turn.
async fn lay_to_rest(pool: &DatabaseConnection, size: usize) {
    let last = LAST_KEY_BEFORE + size;
    let counts = format!(
        "INSERT INTO job_counts (shard, status, jobs) \
         SELECT 0, status, count(*) FROM jobs WHERE id > {LAST_KEY_BEFORE} GROUP BY status \
         ON CONFLICT (shard, status) DO UPDATE SET jobs = job_counts.jobs + excluded.jobs"
    );
    let keys = format!("SELECT setval('crawlwire_ids', {last})");
    // Foreign keys are kept by construction; to look at each would take most of the time.
    let (before, after): (&[&str], &[&str]) = match pool.get_database_backend() {
        DbBackend::Sqlite => (
            &[
                "PRAGMA foreign_keys = OFF",
                "PRAGMA synchronous = OFF",
                "PRAGMA cache_size = -1000000",
            ],
            &["PRAGMA wal_checkpoint(TRUNCATE)"],
        ),
        _ => (
            &["SET session_replication_role = replica"],
            &[&keys, "VACUUM (ANALYZE)", "CHECKPOINT"],
        ),
    };
    let (jobs, events) = (ended_jobs(pool.get_database_backend(), last), histories());
    let rows = [jobs.as_str(), &events, &counts];
    for statement in before.iter().chain(&rows).chain(after) {
        pool.execute_unprepared(statement).await.expect("a statement");
    }
}

/// Hashes lie anywhere in their index, as they do.
fn ended_jobs(backend: DbBackend, last: usize) -> String {
    let (digits, hash) = match backend {
        DbBackend::Sqlite => ("substr('00000000000' || n, -12)", "lower(hex(randomblob(16)))"),
        _ => ("right('00000000000' || n, 12)", "md5(CAST(n AS text))"),
    };
    format!(
        "WITH RECURSIVE numbers (n) AS \
         (SELECT {LAST_KEY_BEFORE} + 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {last}), \
         places (place, account) AS (SELECT row_number() OVER (ORDER BY id) - 1, id FROM accounts), \
         named (n, name, hash, status, at) AS (SELECT n, '019a0000-0000-7000-8000-' || {digits}, {hash}, \
         CASE WHEN n % 20 = 0 THEN 'failed' WHEN n % 20 = 1 THEN 'cancelled' ELSE 'completed' END, \
         1700000000000 + n FROM numbers) \
         INSERT INTO jobs (id, public_id, web_app_job_id, identity, account_id, root_id, depth, generation, job_type, \
         command, host, entity_id, priority, labels, tags, status, fence, attempt, failures, misses, lane, due, \
         started_at, finished_at, resume, children, tree_jobs, open_children, failed_children, tree_status, settled_at, \
         result, created_at, updated_at) \
         SELECT n, name, name, hash, account, n, 0, name, 'crawl_project', 'project', 'https://git.example', \
         CAST(n AS text), 1, '[]', '[]', status, 1, 1, CASE status WHEN 'failed' THEN 1 ELSE 0 END, 0, place, at, \
         at, at, false, 0, 0, 0, 0, status, at, \
         '{{\"output_files\":[\"issues.jsonl\"],\"summary\":\"100 issues\"}}', at, at \
         FROM named JOIN places ON place = n % {LANES} ORDER BY named.n"
    )
}

fn histories() -> String {
    format!(
        "INSERT INTO job_events (job_id, at, arrows, status, fence, attempt, session) \
         SELECT id, updated_at, arrow, coalesce(after, status), fenced, tried, CASE WHEN fenced > 0 THEN 'bench' END \
         FROM jobs CROSS JOIN (SELECT 1 AS step, 'submit' AS arrow, 'queued' AS after, 0 AS fenced, 0 AS tried \
         UNION ALL SELECT 2, 'claim', 'assigned', 1, 0 UNION ALL SELECT 3, 'start', 'running', 1, 1 \
         UNION ALL SELECT 4, 'finish', NULL, 1, 1) AS steps WHERE id > {LAST_KEY_BEFORE} ORDER BY id, step"
    )
}

fn new_job(number: usize) -> NewJob {
    let spec = JobSpec {
        entity_id: Some(number.to_string()),
        ..JobSpec::new(JobType::CrawlProject, "https://git.example")
    };
    NewJob::new(format!("job-{number:09}"), format!("account-{}", number % LANES), spec)
}
