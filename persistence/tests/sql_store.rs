//! What only stores over a database have to do: keep, lock, share, stay fast, and survive bad input.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use crawlwire_persistence::{Database, OpenError};
use crawlwire_progress::store::{JobFilter, Paging};
use crawlwire_progress::{Fence, Op, Outcome, Policy, State, Store, StoreError};
use support::{Kit, complete, discover, new_job, start, token};

/// Runs each case over both databases.
macro_rules! on_both {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::TestDatabase::sqlite()).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(database) = super::TestDatabase::postgres().await {
                    super::$case(database).await;
                }
            })+
        }
    };
}

on_both!(
    what_is_kept_survives_a_restart,
    an_operation_the_database_refuses_costs_only_itself,
    bad_rows_are_refused_by_the_database_itself,
    no_statement_scans_the_jobs_at_rest,
    statements_do_not_grow_with_operations,
    tokens_are_sealed_at_rest_and_need_their_key,
    a_closed_store_says_so,
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
        "status = 'completed'",
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
    let good = "UPDATE jobs SET status = 'running', session_id = 1, assigned_at = 1, deadline = 2, attempt = 1";
    assert_eq!(kit.database().execute(good).await, Ok(1));
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
    let rest = "UPDATE jobs SET status = 'completed', finished_at = 1 WHERE id % 70 <> 0";
    assert!(kit.database().execute(rest).await.unwrap() > JOBS / 2);
    for statistics in [false, true] {
        if statistics {
            kit.database().execute("ANALYZE").await.unwrap();
        }
        let plans = kit.database().plans(500).await;
        assert!(plans.len() > 20);
        for (name, plan) in plans {
            // Nearly all of them are completed, which PostgreSQL knows.
            let every = ["[]", "[Completed]"]
                .iter()
                .any(|states| name.contains(&format!("states: {states}, account_id: None")));
            let scan = plan.lines().find(|line| scans(line, every));
            assert_eq!(scan, None, "{name} (statistics: {statistics}):\n{plan}");
        }
    }
}

/// Whether a line of a plan says that all jobs are gone through. A list of every job goes through them in the order of
/// their keys, and stops when the page is full.
fn scans(line: &str, every: bool) -> bool {
    let sqlite = ["SCAN jobs", "SCAN j"].iter().any(|scan| {
        let rest = line.strip_prefix(scan);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    });
    // A partial index is read as a whole where it holds just what is asked for.
    let sqlite = sqlite && !line.contains("INDEX idx_jobs_");
    let by_key = line == "SEARCH jobs USING INTEGER PRIMARY KEY (rowid<?)" || line.contains("Index Cond: (id < ");
    sqlite || line.contains("Seq Scan on jobs") || (by_key && !every)
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
                statements <= 11 * batches,
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
    use sea_orm::ConnectionTrait;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_servers_start_and_claim_on_one_postgresql() {
    let Some(database) = TestDatabase::postgres().await else {
        return;
    };
    let open = async |name: &str| {
        let mut config = database.config();
        config.server = name.to_owned();
        Database::open(config).await
    };
    let (one, two, three, four) = tokio::join!(open("one"), open("two"), open("three"), open("four"));
    let stores = [one.unwrap(), two.unwrap(), three.unwrap(), four.unwrap()];

    // The same submission at each: one job.
    let submit = || {
        let mut new = new_job(0);
        new.public_id = format!("mine-{}", next());
        new.web_app_job_id = Some("theirs".to_owned());
        new.access_token = token("glpat");
        Op::Submit(Box::new(new))
    };
    let outcomes = tokio::join!(
        stores[0].commit(submit()),
        stores[1].commit(submit()),
        stores[2].commit(submit()),
        stores[3].commit(submit())
    );
    let outcomes = [outcomes.0, outcomes.1, outcomes.2, outcomes.3].map(|outcome| outcome.unwrap().into_inner());
    let submitted = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Outcome::Submitted(_)));
    assert_eq!(submitted.count(), 1, "{outcomes:?}");

    // Every server claims every job.
    let mut jobs = Vec::new();
    for number in 1..=100 {
        let outcome = stores[number % 4]
            .commit(Op::Submit(Box::new(new_job(number as u64))))
            .await;
        let Outcome::Submitted(view) = outcome.unwrap().into_inner() else {
            panic!("not submitted")
        };
        jobs.push(view.key);
    }
    let claiming = stores.clone().map(|store| {
        let jobs = jobs.clone();
        tokio::spawn(async move {
            let kit = Kit::around(store);
            let peer = kit.session("peer").await;
            let claims = kit
                .together(jobs.iter().rev().map(|job| peer.claims(*job)).collect())
                .await;
            let taken = claims.into_iter().zip(jobs.into_iter().rev());
            let taken = taken.filter(|(outcome, _)| matches!(outcome, Outcome::Moved(_)));
            taken.map(|(_, job)| job).collect::<Vec<_>>()
        })
    });
    let mut taken = Vec::new();
    for claims in claiming {
        taken.extend(claims.await.unwrap());
    }
    assert_eq!(taken.len(), 100);
    assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 100, "each once");
    assert_eq!(stores[0].counts().await.unwrap(), stores[3].counts().await.unwrap());
    assert_eq!(stores[0].counts().await.unwrap()[&State::Assigned], 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_change_one_tree_do_not_lose_counts() {
    let Some(database) = TestDatabase::postgres().await else {
        return;
    };
    let one = Kit::around(Database::open(database.config()).await.unwrap());
    let mut config = database.config();
    config.server = "two".to_owned();
    let two = Kit::around(Database::open(config).await.unwrap());
    let peer = one.session("one").await;
    let root = one.submit().await;
    let holder = one.start(&root, &peer).await;
    one.commit(discover(root.key, &holder, "x", &["a", "b"])).await;
    let (a, b) = (
        one.store.job("x-a").await.unwrap().unwrap(),
        one.store.job("x-b").await.unwrap().unwrap(),
    );
    let (a_holder, b_holder) = (one.start(&a, &peer).await, one.start(&b, &peer).await);
    let work = async |kit: &Kit, parent: &crawlwire_progress::view::JobView, holder, prefix: &str| {
        let mut accepted = 0;
        for round in 0..20 {
            let entities: Vec<_> = (0..10).map(|item| format!("{}", (round * 7 + item * 3) % 60)).collect();
            let entities: Vec<_> = entities.iter().map(String::as_str).collect();
            let op = discover(parent.key, holder, &format!("{prefix}-{round}"), &entities);
            let Outcome::Discovered(verdicts) = kit.commit(op).await else {
                panic!("not discovered")
            };
            accepted += verdicts.iter().filter(|(_, fact)| fact.is_some()).count();
        }
        accepted
    };
    let (first, second) = tokio::join!(work(&one, &a, &a_holder, "y"), work(&two, &b, &b_holder, "z"));
    assert_eq!(first + second, 60, "each entity became one job, whoever found it");
    let children = one.view(&a).await.children + one.view(&b).await.children;
    assert_eq!(children, 60);
    let tree = "UPDATE jobs SET tree_jobs = tree_jobs WHERE depth = 0 AND tree_jobs = 62";
    assert_eq!(database.execute(tree).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_is_made_again() {
    let Some(database) = TestDatabase::postgres().await else {
        return;
    };
    let kit = Kit::around(Database::open(database.config()).await.unwrap());
    let job = kit.submit().await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE application_name = 'crawlwire' AND datname = current_database()";
    assert!(database.execute(kill).await.unwrap() >= 1);
    let error = kit.store.commit(Op::Submit(Box::new(kit.new_job()))).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    kit.submit().await;
    assert_eq!(kit.view(&job).await.public_id, job.public_id, "the pool came back too");
    assert_eq!(
        kit.store.counts().await.unwrap()[&State::Queued],
        2,
        "what was refused is not there"
    );
}

/// A number that was not given before.
fn next() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
