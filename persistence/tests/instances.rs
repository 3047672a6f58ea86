//! What sessions that outlast their connections ask of a database: what was settled stays settled, whoever comes at once,
//! and what an earlier version kept is still good.

mod support;

use std::sync::Arc;

use crawlwire_persistence::migration::Migrator;
use crawlwire_persistence::testing::TestDatabase;
use crawlwire_persistence::{Database, SqlStore};
use crawlwire_progress::store::{Holder, Paging, Rejection, Said};
use crawlwire_progress::sums::Sum;
use crawlwire_progress::{Epoch, Fence, Op, Outcome, Policy, SessionKey, SessionRef, State, Store, StoreError};
use sea_orm::{ConnectionTrait, DbBackend};
use sea_orm_migration::MigratorTrait;
use support::{
    Kit, Peer, checkpoint, complete, create_token, moved, new_job, of_instance, on_both, report, said, start,
};

on_both!(
    what_was_settled_stays_settled_after_a_restart,
    a_number_costs_one_row_and_no_statement_more,
    rows_that_contradict_themselves_are_refused,
    a_database_of_the_version_before_goes_on,
    a_command_works_beside_a_server,
);

async fn what_was_settled_stays_settled_after_a_restart(database: TestDatabase) {
    let kit = Kit::over(database, Policy::default()).await;
    let first = kit.comes("i").await;
    let job = kit.submit().await;
    let holder = kit.claim(&job, &Peer::from(&first)).await;
    let begins = || vec![start(job.key, &holder), checkpoint(job.key, &holder, r#"{"page":1}"#)];
    assert!(matches!(kit.says(first.session, 1, begins()).await, Said::Applied(_)));
    let late = Holder {
        fence: Fence(7),
        ..holder.clone()
    };
    kit.says(first.session, 2, vec![complete(job.key, &late)]).await;
    kit.commit(create_token("one")).await;
    kit.sql().close().await;

    let again = kit.opened_again().await;
    // The server has not said that its connections are gone; the crawler's next one comes all the same.
    assert_eq!(
        again.says(first.session, 1, begins()).await,
        Said::Repeated {
            conflict: false,
            refused: None
        }
    );
    let second = again.comes("i").await;
    assert_eq!(
        (second.session.key, second.session.epoch),
        (first.session.key, Epoch(2))
    );
    assert_eq!((second.high_water, second.fingerprint), (2, -2));
    assert_eq!(second.refused.iter().collect::<Vec<_>>(), [(2, "stale")]);
    assert_eq!((second.leases[0].key, second.leases[0].attempt), (job.key, 1));
    assert_eq!(
        again.says(second.session, 1, begins()).await,
        Said::Repeated {
            conflict: false,
            refused: None
        }
    );
    assert_eq!(
        again.store.checkpoint(job.key).await.unwrap().as_deref(),
        Some(r#"{"page":1}"#)
    );
    let ends = vec![complete(job.key, &holder)];
    assert!(matches!(again.says(second.session, 3, ends).await, Said::Applied(_)));
    assert_eq!(again.view(&job).await.attempt, 1);
    assert_eq!(again.store.crawler_tokens().await.unwrap().len(), 1);
}

async fn a_number_costs_one_row_and_no_statement_more(database: TestDatabase) {
    let kit = Kit::over(database, Policy::default()).await;
    let session = kit.comes("i").await.session;
    let mut seq = 0;
    for count in [1, 400] {
        let before = kit.sql().statistics();
        let numbers = seq + 1..=seq + count;
        seq += count;
        let ops = numbers
            .map(|seq| said(session, seq, vec![]))
            .chain([Op::Renew(vec![session])]);
        for outcome in kit.together(ops.collect()).await {
            assert!(
                matches!(outcome, Outcome::Said(Said::Applied(_)) | Outcome::Renewed { .. }),
                "{outcome:?}"
            );
        }
        let after = kit.sql().statistics();
        let (batches, statements) = (after.batches - before.batches, after.statements - before.statements);
        // Begin, the clock, the session, its update, commit.
        assert!(
            statements <= 5 * batches,
            "{statements} statements in {batches} batches"
        );
        assert!(
            batches <= 2 + count as u64 / 10,
            "{batches} batches for {count} numbers"
        );
    }
    assert_eq!(kit.comes("i").await.high_water, seq);
}

async fn rows_that_contradict_themselves_are_refused(database: TestDatabase) {
    let kit = Kit::over(database, Policy::default()).await;
    kit.comes("i").await;
    kit.comes("j").await;
    kit.session("base").await;
    for change in [
        "instance_id = 'i' WHERE instance_id = 'j'",
        "instance_id = NULL WHERE instance_id = 'j'",
        "principal = NULL WHERE instance_id = 'j'",
        "crawler_id = NULL WHERE instance_id = 'j'",
        "principal = 'unix:1' WHERE instance_id IS NULL",
    ] {
        let error = kit.database().execute(&format!("UPDATE sessions SET {change}")).await;
        let error = error.expect_err(change);
        assert!(error.to_lowercase().contains("constraint"), "{change}: {error}");
    }
    let cursor = "INSERT INTO job_checkpoints (job_id, attempt, cursor, updated_at) VALUES (99, 1, '{}', 1)";
    kit.database()
        .execute(cursor)
        .await
        .expect_err("a checkpoint of no job");
}

/// A job that a session runs, as the first released version kept it.
const OLD: &[&str] = &[
    "INSERT INTO accounts (id, name, created_at) VALUES (1, 'acme', 1)",
    "INSERT INTO sessions (id, name, server, connected, capabilities, confirms, opened_at, lease_expires_at) \
     VALUES (2, 'legacy-1', 'crawlwire', true, '{\"labels\":[],\"slots\":1}', false, 1, {lease})",
    "INSERT INTO jobs (id, public_id, web_app_job_id, identity, account_id, root_id, depth, generation, job_type, \
     command, host, priority, labels, tags, status, fence, session_id, attempt, failures, misses, lane, due, \
     assigned_at, deadline, resume, children, tree_jobs, open_children, failed_children, tree_status, created_at, \
     updated_at) VALUES (3, 'old', 'old', 'old', 1, 3, 0, 'old', 'crawl_project', 'x', 'https://git.example', 1, \
     '[]', '[]', 'running', 1, 2, 1, 0, 0, 1, 1, 1, {lease}, false, 0, 0, 0, 0, 'open', 1, 1)",
    "INSERT INTO job_events (job_id, at, arrows, status, fence, attempt) VALUES (3, 1, 'submit', 'queued', 0, 0)",
    "INSERT INTO job_counts (shard, status, jobs) VALUES (0, 'running', 1)",
    "INSERT INTO job_progress (job_id, attempt, n, overall_completion, time_elapsed, entities, updated_at) VALUES \
     (3, 1, 5, 0.25, 7, '[{\"entity_type\":\"issues\",\"total_discovered\":9,\"total_processed\":4}]', 1)",
    "INSERT INTO account_counts (account_id, shard, open, held) VALUES (1, 0, 1, 1)",
];

async fn a_database_of_the_version_before_goes_on(database: TestDatabase) {
    let kit = Kit::over(database, Policy::default()).await;
    kit.sql().close().await;
    let pool = kit.database().pool().await;
    Migrator::down(&pool, None).await.unwrap();
    Migrator::up(&pool, Some(1)).await.unwrap();
    let lease = kit.clock.now().after(kit.policy.lease).0.to_string();
    for row in OLD {
        pool.execute_unprepared(&row.replace("{lease}", &lease)).await.unwrap();
    }
    if pool.get_database_backend() == DbBackend::Postgres {
        pool.execute_unprepared("SELECT setval('crawlwire_ids', 3)")
            .await
            .unwrap();
    }
    pool.close().await.unwrap();

    let kit = kit.opened_again().await;
    let old = SessionRef {
        key: SessionKey(2),
        epoch: Epoch(1),
    };
    assert_eq!(
        kit.commit(Op::Renew(vec![old])).await,
        Outcome::Renewed { lost: vec![] }
    );
    let view = kit.store.sessions(10).await.unwrap().remove(0);
    assert_eq!(
        (view.key, view.epoch, view.instance, view.held),
        (old.key, Epoch(1), None, 1)
    );
    let job = kit.store.job("old").await.unwrap().unwrap();
    let holder = Holder {
        session: old.key,
        name: "legacy-1".into(),
        fence: Fence(1),
    };
    assert_eq!(kit.commit(checkpoint(job.key, &holder, "{}")).await, Outcome::Done);
    // What it reported is there, and is counted in its tree with the next report.
    let told = kit.store.progress(job.key).await.unwrap().unwrap();
    assert_eq!((told.said.overall_completion, told.entities[0].done()), (0.25, 4));
    assert_eq!(told.worker_at(), told.updated_at);
    assert_eq!(kit.store.tree_progress(job.key).await.unwrap(), None);
    kit.commit(Op::Progress(vec![(job.key, holder.lease(), report(6))]))
        .await;
    let tree = kit.store.tree_progress(job.key).await.unwrap().unwrap();
    assert_eq!(
        tree.sum,
        Sum::of(report(6).work(), 0),
        "nobody said what was expected of it"
    );
    assert_eq!(
        moved(kit.commit(complete(job.key, &holder)).await).state,
        State::Completed
    );
    kit.submitted(new_job(5)).await;
    assert_eq!(kit.comes("i").await.leases, []);

    // And back: what the older versions know stays. In the first there were no instances.
    let mut kit = kit;
    let last = u32::try_from(Migrator::migrations().len()).unwrap() - 1;
    for steps in 1..=last {
        let epoch = if steps < last { i64::from(steps) + 1 } else { 1 };
        kit.sql().close().await;
        let pool = kit.database().pool().await;
        Migrator::down(&pool, Some(steps)).await.unwrap();
        Migrator::up(&pool, None).await.unwrap();
        pool.close().await.unwrap();
        kit = kit.opened_again().await;
        assert_eq!(kit.store.progress(job.key).await.unwrap().map(|it| it.n), Some(6));
        assert_eq!(kit.store.job("old").await.unwrap().unwrap().state, State::Completed);
        assert_eq!(kit.comes("i").await.session.epoch, Epoch(epoch));
    }
}

async fn a_command_works_beside_a_server(database: TestDatabase) {
    let kit = Kit::over(database, Policy::default()).await;
    kit.commit(create_token("one")).await;
    let beside = Database::open_beside(kit.database().config()).await.unwrap();
    assert!(matches!(
        *beside.commit(create_token("two")).await.unwrap(),
        Outcome::TokenCreated(_)
    ));
    let taken = beside.commit(create_token("one")).await.unwrap().into_inner();
    assert_eq!(taken, Outcome::Refused(Rejection::TokenNameTaken));
    let submitted = beside.commit(Op::Submit(Box::new(new_job(7)))).await;
    match submitted {
        Err(StoreError::Broken(_)) => {}
        // Several may share a PostgreSQL, and each gives keys.
        Ok(_) => assert!(kit.database().config().url.starts_with("postgres")),
        Err(error) => panic!("{error}"),
    }
    kit.submit().await;
    kit.commit(create_token("three")).await;
    beside.close().await;
    kit.commit(create_token("four")).await;
    assert_eq!(kit.store.crawler_tokens().await.unwrap().len(), 4);
    let all = Paging { limit: 10, after: None };
    assert_eq!(kit.store.audit(all).await.unwrap().items.len(), 4);
    kit.sql().close().await;
    // Nobody else has it open: it is as if it had been opened.
    let alone = Database::open_beside(kit.database().config()).await.unwrap();
    assert!(alone.commit(Op::Submit(Box::new(new_job(8)))).await.is_ok());
    alone.close().await;
}

#[tokio::test]
async fn beside_a_server_an_older_schema_is_left_alone() {
    let database = TestDatabase::sqlite();
    let server = Database::open(database.config()).await.unwrap();
    let pool = database.pool().await;
    Migrator::down(&pool, Some(1)).await.unwrap();
    pool.close().await.unwrap();
    let error = Database::open_beside(database.config()).await.unwrap_err();
    assert!(error.to_string().contains("older version"), "{error}");
    server.close().await;
}

async fn two_servers(database: &TestDatabase) -> [Arc<SqlStore>; 2] {
    let mut one = database.config();
    "one".clone_into(&mut one.server);
    let mut two = database.config();
    "two".clone_into(&mut two.server);
    [Database::open(one).await.unwrap(), Database::open(two).await.unwrap()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_instance_at_two_servers_at_once_has_one_session() {
    let Some(database) = TestDatabase::postgres().await else {
        return;
    };
    let [one, two] = two_servers(&database).await;
    for round in 0..40 {
        // Each server opens the same two, in another order, together with its own.
        let (a, b) = (format!("a-{round}"), format!("b-{round}"));
        let come = async |store: &SqlStore, names: [&str; 2]| {
            let mut tickets = Vec::new();
            for name in names {
                tickets.push(store.enqueue(of_instance(name, "unix:1")).await);
            }
            let mut opened = Vec::new();
            for ticket in tickets {
                match ticket.await.unwrap().into_inner() {
                    Outcome::SessionOpened(it) => opened.push(it.session),
                    other => panic!("{other:?}"),
                }
            }
            opened
        };
        let (mut left, right) = tokio::join!(come(&one, [&a, &b]), come(&two, [&b, &a]));
        left.reverse();
        for (left, right) in left.into_iter().zip(right) {
            assert_eq!(left.key, right.key);
            let mut epochs = [left.epoch.0, right.epoch.0];
            epochs.sort_unstable();
            assert_eq!(epochs, [1, 2]);
            let old = if left.epoch.0 == 1 { left } else { right };
            assert_eq!(
                *one.commit(said(old, 1, vec![])).await.unwrap(),
                Outcome::Said(Said::Replaced)
            );
        }
    }
    one.close().await;
    two.close().await;
}

/// One line over two connections to two servers: whichever is first has the effect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_line_at_two_servers_at_once_has_one_effect() {
    let Some(database) = TestDatabase::postgres().await else {
        return;
    };
    let [one, two] = two_servers(&database).await;
    let kit = Kit::around(one.clone());
    let opened = kit.comes("i").await;
    let peer = Peer::from(&opened);
    for seq in 1..=40 {
        let job = kit.submit().await;
        let holder = kit.claim(&job, &peer).await;
        let line = || {
            said(
                opened.session,
                seq,
                vec![start(job.key, &holder), complete(job.key, &holder)],
            )
        };
        let (left, right) = tokio::join!(one.commit(line()), two.commit(line()));
        let said = [left, right].map(|outcome| outcome.unwrap().into_inner());
        let applied = said.iter().filter(|it| matches!(it, Outcome::Said(Said::Applied(_))));
        let repeated = Outcome::Said(Said::Repeated {
            conflict: false,
            refused: None,
        });
        assert_eq!((applied.count(), said.contains(&repeated)), (1, true), "{said:?}");
        assert_eq!(kit.arrows(&job).await, ["submit", "claim", "start,finish"]);
    }
    one.close().await;
    two.close().await;
}
