//! What only stores over a database have to do: keep, lock, share, stay fast, and survive bad input.

mod support;

use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use crawlwire_persistence::{Database, OpenError};
use crawlwire_progress::store::{JobFilter, Paging};
use crawlwire_progress::{Fence, Op, Outcome, Policy, State, Store, StoreError};
use sea_orm::ConnectionTrait;
use support::{Kit, complete, discover, new_job, on_both, start, token};

on_both!(
    what_is_kept_survives_a_restart,
    an_operation_the_database_refuses_costs_only_itself,
    bad_rows_are_refused_by_the_database_itself,
    no_statement_scans_the_jobs_at_rest,
    statements_do_not_grow_with_operations,
    tokens_are_sealed_at_rest_and_need_their_key,
    a_closed_store_says_so,
    an_unreleased_database_is_refused,
    migrations_have_a_way_back,
);

async fn what_is_kept_survives_a_restart(database: TestDatabase) {
    let kit = Kit::over(database, Policy::default()).await;
    let peer = kit.session("one").await;
    let mut new = kit.new_job();
    new.access_token = token("glpat-secret");
    let job = kit.submitted(new).await;
    let holder = kit.start(&job, &peer).await;
    kit.commit(discover(job.key, &holder, "x", &["a", "b"])).await;
    let before = everything(kit.sql()).await;
    kit.sql().close().await;

    let again = kit.opened_again().await;
    assert_eq!(everything(again.sql()).await, before);
    let (kept, version) = again.store.token(job.credential.unwrap()).await.unwrap().unwrap();
    assert_eq!((kept.expose(), version), ("glpat-secret", 1));
    // Keys go on where they ended, and the lease is the same lease.
    again.submitted(new_job(77)).await;
    support::moved(again.commit(complete(job.key, &holder)).await);
    assert_eq!(again.store.counts().await.unwrap().values().sum::<i64>(), 4);
}

async fn everything(store: &dyn Store) -> String {
    let all = Paging {
        limit: 1000,
        after: None,
    };
    let jobs = store.jobs(JobFilter::default(), all).await.unwrap();
    let mut events = Vec::new();
    for job in &jobs.items {
        events.push(store.events(job.key, all).await.unwrap());
    }
    let counts = store.counts().await.unwrap();
    let sessions = store.sessions(100).await.unwrap();
    format!("{jobs:#?} {events:#?} {counts:#?} {sessions:#?}")
}

async fn an_operation_the_database_refuses_costs_only_itself(database: TestDatabase) {
    let kit = Kit::over(database, Policy::default()).await;
    let job = kit.submit().await;
    let mut tickets = Vec::new();
    for number in 0..40_u64 {
        let mut new = kit.new_job();
        if number % 10 == 7 {
            // Public ids are made by our caller, so no rule looks for one that is taken.
            new.public_id.clone_from(&job.public_id);
            new.web_app_job_id = Some(format!("theirs-{number}"));
        }
        tickets.push(kit.store.enqueue(Op::Submit(Box::new(new))).await);
    }
    for (number, ticket) in tickets.into_iter().enumerate() {
        match ticket.await {
            Ok(outcome) => {
                assert!(matches!(*outcome, Outcome::Submitted(_)), "{outcome:?}");
                assert_ne!(number % 10, 7);
            }
            Err(error) => {
                assert!(matches!(error, StoreError::Broken(_)), "{error:?}");
                assert_eq!(number % 10, 7, "{error}");
            }
        }
    }
    assert_eq!(kit.store.counts().await.unwrap()[&State::Queued], 37);
    // A character that PostgreSQL cannot keep: kept as it is, or refused, and the next operation is fine.
    let mut odd = kit.new_job();
    odd.spec.entity_name = Some("a\0b".to_owned());
    match kit.store.commit(Op::Submit(Box::new(odd.clone()))).await {
        Ok(_) => {
            let kept = kit.store.job(&odd.public_id).await.unwrap().unwrap();
            assert_eq!(kept.spec.entity_name, odd.spec.entity_name);
        }
        Err(error) => assert!(matches!(error, StoreError::Broken(_)), "{error:?}"),
    }
    kit.submit().await;
}

async fn bad_rows_are_refused_by_the_database_itself(database: TestDatabase) {
    let kit = Kit::over(database, Policy::default()).await;
    kit.submit().await;
    for change in [
        "status = 'lost'",
        "status = 'assigned'",
        "status = 'assigned', session_id = 1",
        "status = 'running', session_id = 1, assigned_at = 1",
        "session_id = 1",
        "assigned_at = 1",
        "deadline = 1",
        "finished_at = 1",
        "run_at = 1",
        "want = 'cancel', want_deadline = 1",
        "want_deadline = 1",
        "tree_status = 'lost'",
        "tree_status = 'completed', settled_at = 1",
        "settled_at = 1",
        "open_children = 1",
        "failed_children = 1",
        "open_children = -1",
        "children = -1",
        "status = 'completed'",
        "status = 'completed', finished_at = 1",
        "status = 'completed', finished_at = 1, tree_status = 'completed'",
        "status = 'failed', finished_at = 1, tree_status = 'completed', settled_at = 1",
        "status = 'completed', finished_at = 1, tree_status = 'completed', settled_at = 1, children = 1, \
         open_children = 1",
        "status = 'completed', finished_at = 1, tree_status = 'completed', settled_at = 1, children = 1, \
         failed_children = 1",
        "status = 'completed', finished_at = 1, tree_status = 'completed', settled_at = 1, run_at = 1",
        "status = 'delayed'",
        "status = 'paused'",
        "status = 'paused', pause_reason = 'boredom'",
        "pause_reason = 'operator'",
        "failures = 1",
        "fence = -1",
        "depth = 1",
        "id = -1",
        "account_id = 999999",
        "credential_id = 999999",
        "parent_id = 999999, depth = 1",
    ] {
        let error = kit.database().execute(&format!("UPDATE jobs SET {change}")).await;
        let error = error.expect_err(change);
        assert!(error.to_lowercase().contains("constraint"), "{change}: {error}");
    }
    let held = "status = 'running', session_id = 1, assigned_at = 1, deadline = 2, attempt = 1";
    for (good, change) in [
        (true, format!("{held}, want = 'pause', want_deadline = 3")),
        (false, format!("{held}, want = 'pause', want_deadline = NULL")),
        (false, format!("{held}, want = NULL, want_deadline = 3")),
        (false, format!("{held}, want = 'boredom', want_deadline = 3")),
    ] {
        let done = kit.database().execute(&format!("UPDATE jobs SET {change}")).await;
        assert_eq!(done.is_ok(), good, "{change}: {done:?}");
    }
    for gate in [
        "'door', 0, 'x'",
        "'queue', 1, ''",
        "'host', 0, ''",
        "'credentials', 0, 'x'",
    ] {
        let close = format!("INSERT INTO gates (kind, account_id, host, closed_at, by) VALUES ({gate}, 1, 'me')");
        kit.database().execute(&close).await.expect_err(gate);
    }
}

async fn no_statement_scans_the_jobs_at_rest(database: TestDatabase) {
    const JOBS: u64 = 20_000;
    let policy = Policy {
        queued_jobs_max: u64::MAX,
        ..Policy::default()
    };
    let kit = Kit::over(database, policy).await;
    let mut tickets = Vec::new();
    for number in 0..JOBS {
        let mut new = kit.new_job();
        new.account_id = if number % 50 == 0 { "acme" } else { "others" }.to_owned();
        tickets.push(kit.store.enqueue(Op::Submit(Box::new(new))).await);
    }
    for ticket in tickets {
        ticket.await.unwrap();
    }
    let rest = "UPDATE jobs SET status = 'completed', finished_at = 1, tree_status = 'completed', settled_at = 1 \
                WHERE id % 70 <> 0";
    assert!(kit.database().execute(rest).await.unwrap() > JOBS / 2);
    // Some two hundred trees.
    let below = "UPDATE jobs SET depth = 1, parent_id = (SELECT max(p.id) FROM jobs AS p \
                 WHERE p.id < jobs.id AND p.entity_id LIKE '%00'), root_id = (SELECT max(p.id) FROM jobs AS p \
                 WHERE p.id < jobs.id AND p.entity_id LIKE '%00') WHERE id % 3 = 0 AND entity_id NOT LIKE '%00' \
                 AND id > (SELECT min(id) FROM jobs WHERE entity_id LIKE '%00')";
    assert!(kit.database().execute(below).await.unwrap() > JOBS / 4);
    for reports in [
        "INSERT INTO job_progress (job_id, attempt, n, overall_completion, time_elapsed, entities, updated_at) \
         SELECT id, 1, 1, 0.5, 1, '[]', 1 FROM jobs",
        "INSERT INTO job_history (job_id, attempt, points) SELECT id, 1, '{}' FROM jobs",
    ] {
        assert_eq!(kit.database().execute(reports).await, Ok(JOBS));
    }
    let trees = "INSERT INTO tree_progress (root_id, jobs_reported, done, expected, open_jobs, reached, is_open, \
                 updated_at) SELECT id, 1, 1, 1, 0, 0, tree_status = 'open', 1 FROM jobs WHERE parent_id IS NULL";
    assert!(kit.database().execute(trees).await.unwrap() > JOBS / 4);
    let sessions = "INSERT INTO sessions (id, name, server, connected, capabilities, confirms, opened_at, \
                    lease_expires_at, instance_id, crawler_id, principal) SELECT id + 1000000, 'x', 'x', false, '{}', \
                    false, 1, id, public_id, 'x', 'x' FROM jobs";
    assert_eq!(kit.database().execute(sessions).await, Ok(JOBS));
    let errors = "INSERT INTO errors (at, category, severity, code, job, message) SELECT id, 'network', 'low', 'code', \
                  CASE WHEN id % 10 = 0 THEN public_id END, 'text' FROM jobs";
    assert_eq!(kit.database().execute(errors).await, Ok(JOBS));
    for statistics in [false, true] {
        if statistics {
            kit.database().execute("ANALYZE").await.unwrap();
        }
        let plans = kit.database().plans(500).await;
        assert!(plans.len() > 20);
        for (name, plan) in plans {
            let rest = plan
                .lines()
                .find(|line| line.contains("Seq Scan on job_") || *line == "SCAN t");
            assert_eq!(rest, None, "{name} (statistics: {statistics}):\n{plan}");
            // Nearly all of them are completed, which PostgreSQL knows.
            let every = ["[]", "[Completed]"]
                .iter()
                .any(|states| name.contains(&format!("states: {states}, account_id: None")))
                || (name.contains("ErrorFilter") && name.contains("job: None"));
            let scan = plan.lines().find(|line| scans(line, every));
            assert_eq!(scan, None, "{name} (statistics: {statistics}):\n{plan}");
            // Lists of sessions begin with the newest, and stop when the page is full. A server that returns goes through
            // all of them, once.
            if name == "recover jobs" {
                continue;
            }
            let scan = plan.lines().find(|line| {
                let scan = line.starts_with("SCAN sessions") && !line.contains("USING INDEX idx_sessions_lease");
                line.contains("Seq Scan on sessions") || scan && name != "sessions"
            });
            assert_eq!(scan, None, "{name} (statistics: {statistics}):\n{plan}");
        }
    }
}

/// Whether a line of a plan says that all jobs are gone through. A list of every job goes through them in the order of
/// their keys, and stops when the page is full.
fn scans(line: &str, every: bool) -> bool {
    let sqlite = ["SCAN jobs", "SCAN j", "SCAN errors"].iter().any(|scan| {
        let rest = line.strip_prefix(scan);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    });
    // A partial index is read as a whole where it holds just what is asked for.
    let sqlite = sqlite && !line.contains("INDEX idx_jobs_");
    let by_key = ["jobs", "errors"].iter().any(|table| {
        line.starts_with(&format!("SEARCH {table} USING INTEGER PRIMARY KEY (rowid")) && line.contains("<?")
    }) || ["Index Cond: (id < ", "Index Cond: ((id < "]
        .iter()
        .any(|range| line.contains(range))
        && !line.contains("(id = ");
    let whole = ["Seq Scan on jobs", "Seq Scan on errors"]
        .iter()
        .any(|scan| line.contains(scan));
    sqlite || whole || (by_key && !every)
}

async fn statements_do_not_grow_with_operations(database: TestDatabase) {
    let kit = Kit::over(database, Policy::default()).await;
    let peer = kit.session("one").await;
    for count in [1_usize, 400] {
        let mut jobs = Vec::new();
        for step in 0..4 {
            let before = kit.sql().statistics();
            let ops = (0..count).map(|at| match step {
                0 => {
                    let mut new = kit.new_job();
                    new.web_app_job_id = Some(format!("theirs-{}", new.public_id));
                    new.access_token = token("glpat");
                    Op::Submit(Box::new(new))
                }
                1 => peer.claims(jobs[at]),
                2 => start(jobs[at], &peer.holds(Fence(1))),
                _ => complete(jobs[at], &peer.holds(Fence(1))),
            });
            for outcome in kit.together(ops.collect()).await {
                match outcome {
                    Outcome::Submitted(view) => jobs.push(view.key),
                    Outcome::Moved(_) => {}
                    other => panic!("{other:?}"),
                }
            }
            let after = kit.sql().statistics();
            let (batches, statements) = (after.batches - before.batches, after.statements - before.statements);
            assert!(
                statements <= 13 * batches,
                "{statements} statements in {batches} batches for {count} operations of step {step}"
            );
            assert!(
                batches <= 1 + count as u64 / 10,
                "{batches} batches for {count} operations"
            );
        }
    }
}

async fn tokens_are_sealed_at_rest_and_need_their_key(database: TestDatabase) {
    let kit = Kit::over(database, Policy::default()).await;
    let mut new = kit.new_job();
    new.access_token = token("glpat-secret");
    let credential = kit.submitted(new).await.credential.unwrap();
    let plain = "UPDATE credentials SET host = host WHERE sealed_token LIKE '%glpat%'";
    assert_eq!(kit.database().execute(plain).await, Ok(0));
    kit.sql().close().await;

    let key = kit.database().config().key_file;
    let right = std::fs::read(&key).unwrap();
    std::fs::write(&key, [7; 32]).unwrap();
    let error = Database::open(kit.database().config()).await.unwrap_err();
    assert!(matches!(error, OpenError::Key { .. }), "{error}");
    std::fs::remove_file(&key).unwrap();
    let error = Database::open(kit.database().config()).await.unwrap_err();
    assert!(matches!(error, OpenError::File { .. }), "{error}");
    assert!(!key.exists(), "a key that opens nothing must not be made");
    std::fs::write(&key, right).unwrap();

    let again = kit.opened_again().await;
    let (kept, _) = again.store.token(credential).await.unwrap().unwrap();
    assert_eq!(kept.expose(), "glpat-secret");
    // A token that was moved to another version does not open.
    again
        .database()
        .execute("UPDATE credentials SET version = 9")
        .await
        .unwrap();
    let error = again.store.token(credential).await.err().unwrap();
    assert!(matches!(error, StoreError::Broken(_)), "{error}");
    assert!(!error.to_string().contains("glpat"));
}

async fn a_closed_store_says_so(database: TestDatabase) {
    let kit = Kit::over(database, Policy::default()).await;
    let ticket = kit.store.enqueue(Op::Submit(Box::new(kit.new_job()))).await;
    kit.sql().close().await;
    assert!(ticket.await.is_ok(), "what was given is carried out");
    assert_eq!(kit.store.commit(Op::Sweep).await, Err(StoreError::Closed));
    assert_eq!(kit.store.job("x").await, Err(StoreError::Closed));
    kit.sql().close().await;
    let again = kit.opened_again().await;
    assert_eq!(again.store.counts().await.unwrap()[&State::Queued], 1);
}

async fn an_unreleased_database_is_refused(database: TestDatabase) {
    let kit = Kit::over(database, Policy::default()).await;
    kit.sql().close().await;
    let older = "UPDATE crawlwire_migrations SET version = 'm0001_lives' WHERE version = 'm0001_engine'";
    assert_eq!(kit.database().execute(older).await, Ok(1));
    let error = Database::open(kit.database().config()).await.unwrap_err();
    assert!(matches!(error, OpenError::Migrate { .. }), "{error}");
    let expected = "this database was made by an unreleased version; start with a new one";
    assert!(error.to_string().ends_with(expected), "{error}");
}

async fn migrations_have_a_way_back(database: TestDatabase) {
    use crawlwire_persistence::migration::Migrator;
    use sea_orm_migration::MigratorTrait;

    let kit = Kit::over(database, Policy::default()).await;
    kit.submit().await;
    kit.sql().close().await;
    let pool = kit.database().pool().await;
    Migrator::down(&pool, None).await.unwrap();
    Migrator::up(&pool, None).await.unwrap();
    pool.close().await.unwrap();
    let again = kit.opened_again().await;
    assert!(again.store.counts().await.unwrap().is_empty());
    again.submit().await;
}

#[tokio::test]
async fn a_sqlite_file_serves_one_process() {
    let database = TestDatabase::sqlite();
    let first = Database::open(database.config()).await.unwrap();
    let error = Database::open(database.config()).await.unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("crawlwire.db"), "{error}");
    first.close().await;
    Database::open(database.config()).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_missing_is_made_when_the_url_says_so_alone() {
    let database = TestDatabase::sqlite();
    let mut config = database.config();
    config.url = config.url.replace("?mode=rwc", "");
    let error = Database::open(config).await.unwrap_err();
    assert!(error.to_string().contains("?mode=rwc"), "{error}");
    Database::open(database.config()).await.unwrap().close().await;
}

#[tokio::test]
async fn sqlite_files_belong_to_their_owner() {
    use std::os::unix::fs::PermissionsExt;

    let database = TestDatabase::sqlite();
    let store = Database::open(database.config()).await.unwrap();
    store.commit(Op::Submit(Box::new(new_job(1)))).await.unwrap();
    let dir = database.dir().join("data");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let files: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn opening_fails_clearly() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = TestDatabase::sqlite().config();
    for (url, expected) in [
        ("sqlite:///nowhere/at/all.db".to_owned(), "/nowhere/at/all.db"),
        (dir.path().display().to_string(), "directory"),
        ("/proc/nothing/x.db".to_owned(), "/proc/nothing"),
        ("mysql://me:s3cret@host/db".to_owned(), "only sqlite:// and postgres://"),
        (
            "postgres://me:s3cret@127.0.0.1:1/db".to_owned(),
            "postgres://me:***@127.0.0.1:1/db",
        ),
    ] {
        config.url = url;
        config.query_timeout = Duration::from_secs(2);
        let error = Database::open(config.clone()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_sqlite_file_is_unavailable_and_comes_back() {
    let database = TestDatabase::sqlite();
    let mut config = database.config();
    config.transaction_timeout = Duration::from_millis(200);
    let store = Database::open(config).await.unwrap();
    let shell = database.pool().await;
    shell.execute_unprepared("BEGIN IMMEDIATE").await.unwrap();
    let error = store.commit(Op::Submit(Box::new(new_job(1)))).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(store.job("job-000001").await.unwrap().is_none(), "readers do not wait");
    shell.execute_unprepared("ROLLBACK").await.unwrap();
    store.commit(Op::Submit(Box::new(new_job(1)))).await.unwrap();
}
