//! Several servers on one PostgreSQL, and connections that are lost.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use crawlwire_persistence::Database;
use crawlwire_persistence::testing::{ManualClock, TestDatabase};
use crawlwire_progress::admit::Gate;
use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::store::{Once, Paging, WATCHED_FOR, Watch};
use crawlwire_progress::{Arrow, Op, Outcome, State, Store, StoreError};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use support::{Kit, complete, discover, moved, new_job, token};
use tokio::time::{Instant, timeout};

/// Two servers on one database, `one` and `two`.
async fn two_servers(database: &TestDatabase, clock: Option<&ManualClock>) -> (Kit, Kit) {
    let open = async |name: &str| {
        let mut config = database.config();
        config.server = name.to_owned();
        config.clock = clock.map(ManualClock::as_clock);
        Kit::around(Database::open(config).await.unwrap())
    };
    (open("one").await, open("two").await)
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

    // And once more by a key.
    let submit = || {
        let mut new = new_job(0);
        new.public_id = format!("once-{}", next());
        new.once = Some(Once {
            key: "key".to_owned(),
            fingerprint: 1,
        });
        Op::SubmitAll(vec![new])
    };
    let outcomes = tokio::join!(
        stores[0].commit(submit()),
        stores[1].commit(submit()),
        stores[2].commit(submit()),
        stores[3].commit(submit())
    );
    let outcomes = [outcomes.0, outcomes.1, outcomes.2, outcomes.3].map(|outcome| outcome.unwrap().into_inner());
    let all = outcomes.iter().map(|outcome| match outcome {
        Outcome::SubmittedAll(all) => all.as_slice(),
        other => panic!("{other:?}"),
    });
    let (made, repeated): (Vec<_>, Vec<_>) = all.partition(|all| matches!(all, [Outcome::Submitted(_)]));
    assert_eq!(made.len(), 1, "{outcomes:?}");
    assert!(
        repeated.iter().all(|all| matches!(all, [Outcome::Repeated { .. }])),
        "{outcomes:?}"
    );

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
    let children = one.view(&a).await.tree.children + one.view(&b).await.tree.children;
    assert_eq!(children, 60);
    let tree = "UPDATE jobs SET tree_jobs = tree_jobs WHERE depth = 0 AND tree_jobs = 62";
    assert_eq!(database.execute(tree).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_returns_keeps_the_sessions_of_others() {
    let Some(database) = TestDatabase::postgres().await else {
        return;
    };
    let clock = ManualClock::default();
    let (one, two) = two_servers(&database, Some(&clock)).await;
    let (mine, theirs) = (
        one.session_at("mine", "one").await,
        two.session_at("theirs", "two").await,
    );
    let (job, other) = (one.submit().await, one.submit().await);
    let holder = two.start(&job, &theirs).await;
    one.start(&other, &mine).await;
    clock.advance(two.policy.lease * 2);
    one.commit(Op::Recover {
        server: "one".to_owned(),
        connected: false,
    })
    .await;
    assert!(two.sweep().await.is_empty());
    let connected: Vec<_> = one.store.sessions(9).await.unwrap();
    let connected: Vec<_> = connected
        .iter()
        .map(|view| (view.name.as_str(), view.connected))
        .collect();
    assert_eq!(connected, [("theirs", true), ("mine", false)]);
    moved(two.commit(complete(job.key, &holder)).await);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_lost_while_it_commits_leaves_no_doubt() {
    let Some(database) = TestDatabase::postgres().await else {
        return;
    };
    let kit = Kit::around(Database::open(database.config()).await.unwrap());
    // The first commit ends its own connection, at the very end of the transaction; the second goes through.
    let trap = "CREATE SEQUENCE commits; \
         CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF nextval('commits') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); END IF; \
         RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER trap AFTER INSERT ON jobs DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION trap()";
    database.execute(trap).await.unwrap();
    let job = kit.submit().await;
    let statistics = kit.sql().statistics();
    assert_eq!(
        (statistics.batches, statistics.retries),
        (1, 1),
        "found to be undone, and done again"
    );
    assert_eq!(kit.arrows(&job).await, ["submit"]);
    assert_eq!(kit.store.counts().await.unwrap()[&State::Queued], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_wakes_the_other_servers_and_not_its_own() {
    let Some(database) = TestDatabase::postgres().await else {
        return;
    };
    let (one, two) = two_servers(&database, None).await;
    let woken = async |kit: &Kit| {
        timeout(Duration::from_secs(10), kit.store.woken())
            .await
            .expect("it is woken")
    };
    // Once when it begins to listen.
    woken(&one).await;
    woken(&two).await;
    let job = one.submit().await;
    woken(&two).await;
    assert_eq!(two.view(&job).await.public_id, job.public_id, "what woke it is there");
    // Everybody hears the same notification at about the same time.
    let own = timeout(Duration::from_millis(200), one.store.woken()).await;
    assert!(own.is_err(), "its own commit");
    two.commit(Op::CloseGate {
        gate: Gate::Queue,
        until: None,
        reason: None,
        by: "somebody".to_owned(),
    })
    .await;
    woken(&one).await;
    // A renewal is nobody else's business.
    let peer = one.session("one").await;
    one.commit(Op::Renew(vec![peer.reference()])).await;
    assert!(timeout(Duration::from_millis(200), two.store.woken()).await.is_err());

    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE application_name = 'crawlwire' AND datname = current_database()";
    assert!(database.execute(kill).await.unwrap() >= 4);
    woken(&two).await;
    let mut submitted = one.store.commit(Op::Submit(Box::new(one.new_job()))).await;
    while submitted.is_err() {
        submitted = one.store.commit(Op::Submit(Box::new(one.new_job()))).await;
    }
    woken(&two).await;
    one.sql().close().await;
    two.sql().close().await;
    let left = "UPDATE crawlwire_migrations SET version = version WHERE version = 'm0001_engine' AND (SELECT count(*) FROM pg_stat_activity \
                WHERE application_name = 'crawlwire' AND datname = current_database()) = 0";
    let until = Instant::now() + Duration::from_secs(10);
    while database.execute(left).await != Ok(1) {
        assert!(Instant::now() < until, "connections are left behind");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_two_servers_open_gives_its_time_once() {
    let Some(database) = TestDatabase::postgres().await else {
        return;
    };
    let clock = ManualClock::default();
    let (one, two) = two_servers(&database, Some(&clock)).await;
    let peer = one.session("one").await;
    let job = one.submit().await;
    one.start(&job, &peer).await;
    let gate = Gate::Host(job.spec.host.clone());
    let by = || "somebody".to_owned();
    let mut deadline = one.view(&job).await.deadline.unwrap();
    for _ in 0..10 {
        one.commit(Op::CloseGate {
            gate: gate.clone(),
            until: None,
            reason: None,
            by: by(),
        })
        .await;
        clock.advance(Duration::from_secs(1));
        let opening = || Op::OpenGate {
            gate: gate.clone(),
            by: by(),
        };
        tokio::join!(one.commit(opening()), two.commit(opening()));
        deadline = deadline.after(Duration::from_secs(1));
        assert_eq!(two.view(&job).await.deadline, Some(deadline));
    }
    let all = Paging {
        limit: 100,
        after: None,
    };
    let audit = one.store.audit(all).await.unwrap().items;
    assert_eq!(audit.iter().filter(|row| row.act == "open_gate").count(), 10);
}

/// A number that was not given before.
fn next() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crawler_whose_server_died_goes_on_at_another() {
    let Some(database) = TestDatabase::postgres().await else {
        return;
    };
    let (one, two) = two_servers(&database, None).await;
    let before = one.known_at("before", "process-1", "one").await;
    let job = one.submit().await;
    one.start(&job, &before).await;
    let after = two.known_at("after", "process-1", "two").await;
    let adopt = || Op::Adopt {
        public_id: job.public_id.clone(),
        session: after.key,
    };
    // As long as the server lives, it has the say. It may take a moment until it is known to.
    servers_alive(&database, 2).await;
    let refused = Outcome::Refused(Refusal::StillConnected.into());
    assert_eq!(two.commit(adopt()).await, refused);
    // It dies without a word: the row goes on saying that the connection stands.
    drop(one);
    servers_alive(&database, 1).await;
    let fact = moved(two.commit(adopt()).await);
    assert_eq!((fact.arrow, fact.session), (Arrow::Adopt, Some(after.key)));
}

/// Waits until so many servers are known to live.
async fn servers_alive(database: &TestDatabase, servers: i64) {
    let pool = database.pool().await;
    let text = "SELECT count(*) AS held FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' \
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let row = pool
            .query_one_raw(Statement::from_string(DbBackend::Postgres, text))
            .await;
        let held: i64 = row.unwrap().unwrap().try_get("", "held").unwrap();
        if held == servers {
            return;
        }
        assert!(Instant::now() < until, "{held} servers live");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// By the clock of the database, whatever the machines of the servers think; and nobody waits for anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_tell_each_other_what_is_watched() {
    let Some(database) = TestDatabase::postgres().await else {
        return;
    };
    let (one, two) = two_servers(&database, None).await;
    let watch = |server: usize, number: usize| Op::Watch {
        server: format!("server-{server}"),
        watches: (0..50)
            .map(|job| Watch {
                job: Some(format!("job-{job}")),
                // Some are over before the next round, so that both find rows of the other that are to go.
                lasts: Duration::from_millis(if (job + number).is_multiple_of(2) { 1 } else { 60_000 }),
            })
            .collect(),
    };
    let rounds = |kit: Kit, server| async move {
        for number in 0..40 {
            kit.commit(watch(server, number)).await;
        }
        kit
    };
    let (one, two) = tokio::join!(rounds(one, 1), rounds(two, 2));
    for (kit, server) in [(&one, "server-1"), (&two, "server-2")] {
        let mut seen = kit.store.watched_elsewhere(server).await.unwrap();
        seen.retain(|watch| watch.lasts > Duration::from_millis(1));
        assert_eq!(seen.len(), 25, "{seen:?}");
        assert!(seen.iter().all(|watch| watch.lasts <= WATCHED_FOR), "{seen:?}");
    }
}
