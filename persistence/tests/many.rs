//! More rows than one step takes: windows, pages, deletions in steps, and counts that stay true.

mod support;

use std::time::Duration;

use crawlwire_persistence::testing::TestDatabase;
use crawlwire_progress::admit::Gate;
use crawlwire_progress::store::{Act, JobFilter, LOOKED_AT_MAX, Paging, RedriveFilter, SWEEP_MAX};
use crawlwire_progress::{Fence, JobKey, Op, Outcome, Policy, State, TreeStatus};
use sea_orm::{ConnectionTrait, Statement};
use support::{Kit, acts, discover, on_both, start};

on_both!(a_page_looks_at_a_bounded_number_of_rows,);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rows_go_in_steps_on_sqlite() {
    many_rows_go_in_steps_and_the_counts_stay_true(TestDatabase::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rows_go_in_steps_on_postgresql() {
    if let Some(database) = TestDatabase::postgres().await {
        many_rows_go_in_steps_and_the_counts_stay_true(database).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_behind_a_gate_do_not_keep_others_from_their_turn_on_sqlite() {
    jobs_behind_a_gate_do_not_keep_others_from_their_turn(TestDatabase::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_behind_a_gate_do_not_keep_others_from_their_turn_on_postgresql() {
    if let Some(database) = TestDatabase::postgres().await {
        jobs_behind_a_gate_do_not_keep_others_from_their_turn(database).await;
    }
}

/// Jobs in the states that they are counted in, and accounts with the jobs that they are said to have.
async fn assert_counts(database: &TestDatabase) {
    let counted = "SELECT status, sum(jobs) FROM job_counts GROUP BY status HAVING sum(jobs) <> 0";
    let found = "SELECT status, count(*) FROM jobs GROUP BY status";
    let counted_of = "SELECT account_id, sum(open), sum(held) FROM account_counts GROUP BY account_id \
                      HAVING sum(open) <> 0 OR sum(held) <> 0";
    let found_of = "SELECT account_id, sum(CASE WHEN finished_at IS NULL THEN 1 ELSE 0 END), \
                    sum(CASE WHEN session_id IS NULL THEN 0 ELSE 1 END) FROM jobs GROUP BY account_id \
                    HAVING sum(CASE WHEN finished_at IS NULL THEN 1 ELSE 0 END) > 0";
    let pool = database.pool().await;
    for (one, other) in [
        (counted, found),
        (found, counted),
        (counted_of, found_of),
        (found_of, counted_of),
    ] {
        let text = format!("{one} EXCEPT {other}");
        let rows = pool
            .query_all_raw(Statement::from_string(pool.get_database_backend(), text))
            .await;
        assert_eq!(rows.unwrap().len(), 0, "{one} differs from {other}");
    }
    pool.close().await.unwrap();
}

async fn many_rows_go_in_steps_and_the_counts_stay_true(database: TestDatabase) {
    const CHILDREN: usize = 1100;
    let kit = Kit::over(database, Policy::default()).await;
    let peer = kit.session("one").await;
    let root = kit.submit().await;
    let holder = kit.start(&root, &peer).await;
    let entities: Vec<_> = (1..=CHILDREN).map(|number| number.to_string()).collect();
    let entities: Vec<_> = entities.iter().map(String::as_str).collect();
    kit.commit(discover(root.key, &holder, "x", &entities)).await;
    assert_counts(kit.database()).await;

    // Each step says where the next goes on.
    let steps = async |op: &dyn Fn(Option<JobKey>) -> Op| {
        let (mut after, mut sizes) = (None, Vec::new());
        loop {
            let Outcome::Acted { facts, next } = kit.commit(op(after)).await else {
                panic!("not acted")
            };
            let jobs: std::collections::BTreeSet<_> = facts.iter().map(|fact| fact.job).collect();
            sizes.push(jobs.len());
            assert_counts(kit.database()).await;
            after = next;
            if after.is_none() {
                return sizes;
            }
        }
    };
    let by = || "somebody".to_owned();
    let cancel = |after| Op::CancelTree {
        root: root.key,
        after,
        by: by(),
    };
    assert_eq!(steps(&cancel).await, [501, 500, 100]);
    assert_eq!(kit.view(&root).await.tree.status, TreeStatus::Cancelled);
    kit.database()
        .execute("UPDATE jobs SET status = 'failed', tree_status = 'failed' WHERE depth = 1")
        .await
        .unwrap();
    kit.database()
        .execute("UPDATE job_counts SET status = 'failed' WHERE status = 'cancelled'")
        .await
        .unwrap();
    kit.database()
        .execute("UPDATE jobs SET status = 'failed', tree_status = 'failed' WHERE depth = 0")
        .await
        .unwrap();
    let redrive = |after| Op::Redrive {
        filter: RedriveFilter {
            failed: true,
            quarantined: true,
            account_id: Some("acme".to_owned()),
        },
        after,
        by: by(),
    };
    assert_eq!(steps(&redrive).await, [500, 500, 101]);
    assert_eq!(kit.view(&root).await.tree.open_children, CHILDREN as i64);
    assert_eq!(steps(&cancel).await, [501, 500, 100]);

    let mut deleted = Vec::new();
    loop {
        let delete = Op::Delete {
            root: root.key,
            by: by(),
        };
        let Outcome::Deleted { jobs, more } = kit.commit(delete).await else {
            panic!("not deleted")
        };
        deleted.push(jobs);
        assert_counts(kit.database()).await;
        if !more {
            break;
        }
    }
    assert_eq!(deleted, [500, 500, 101]);

    // Many small trees: as many as one operation may delete.
    let single = (0..600).map(|_| Op::Submit(Box::new(kit.new_job()))).collect();
    let mut ends = Vec::new();
    for outcome in kit.together(single).await {
        let Outcome::Submitted(view) = outcome else {
            panic!("{outcome:?}")
        };
        ends.push(acts(view.key, Act::Cancel));
    }
    kit.together(ends).await;
    kit.pass(Duration::from_secs(1));
    for (jobs, more) in [(500, true), (100, false)] {
        let prune = Op::Prune {
            jobs_before: kit.clock.now(),
            errors_before: kit.clock.now(),
        };
        assert_eq!(kit.commit(prune).await, Outcome::Pruned { jobs, errors: 0, more });
        assert_counts(kit.database()).await;
    }
    assert!(kit.store.counts().await.unwrap().is_empty());
}

async fn jobs_behind_a_gate_do_not_keep_others_from_their_turn(database: TestDatabase) {
    let kit = Kit::over(database, Policy::default()).await;
    let (peer, lost) = (kit.session("one").await, kit.session("lost").await);
    let many = (0..SWEEP_MAX + 10)
        .map(|_| Op::Submit(Box::new(kit.new_job())))
        .collect();
    let mut keys = Vec::new();
    for outcome in kit.together(many).await {
        let Outcome::Submitted(view) = outcome else {
            panic!("{outcome:?}")
        };
        keys.push(view.key);
    }
    kit.together(keys.iter().map(|key| peer.claims(*key)).collect()).await;
    kit.together(keys.iter().map(|key| start(*key, &peer.holds(Fence(1)))).collect())
        .await;
    let mut elsewhere = kit.new_job();
    elsewhere.spec.host = "https://other.example".to_owned();
    let elsewhere = kit.submitted(elsewhere).await;
    kit.start(&elsewhere, &lost).await;
    let close = Op::CloseGate {
        gate: Gate::Host("https://git.example".to_owned()),
        until: None,
        reason: None,
        by: "somebody".to_owned(),
    };
    kit.commit(close).await;
    kit.pass(kit.policy.job_timeout);
    kit.commit(Op::Renew(vec![peer.reference()])).await;
    let facts: Vec<_> = kit.sweep().await.into_iter().map(|fact| fact.job).collect();
    assert_eq!(facts, [elsewhere.key]);
}

async fn a_page_looks_at_a_bounded_number_of_rows(database: TestDatabase) {
    const PAGES: i64 = 3;
    let most = i64::try_from(LOOKED_AT_MAX).unwrap();
    let kit = Kit::over(database, Policy::default()).await;
    let first = kit.submit().await;
    // Many like it, of which the first and the last are found.
    let jobs = PAGES * most - 10;
    let columns = "account_id, depth, generation, job_type, command, host, priority, labels, tags, fence, attempt, \
                   failures, misses, lane, due, resume, children, tree_jobs, open_children, failed_children, created_at, \
                   updated_at, status, finished_at, tree_status, settled_at";
    let values = "account_id, depth, generation, job_type, command, host, priority, labels, tags, fence, attempt, \
                  failures, misses, lane, due, resume, children, tree_jobs, open_children, failed_children, created_at, \
                  updated_at, 'failed', 1, 'failed', 1";
    let copy = format!(
        "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {jobs}) \
         INSERT INTO jobs (id, public_id, web_app_job_id, identity, root_id, entity_id, {columns}) \
         SELECT 1000 + x, 'copy-' || x, 'copy-' || x, 'copy-' || x, 1000 + x, 'e' || x, {values} FROM jobs, n"
    );
    assert_eq!(kit.database().execute(&copy).await, Ok(jobs.unsigned_abs()));
    let ids = |filter: JobFilter| {
        let kit = &kit;
        async move {
            let (mut found, mut pages, mut after) = (Vec::new(), 0, None);
            loop {
                let page = kit
                    .store
                    .jobs(filter.clone(), Paging { limit: 1, after })
                    .await
                    .unwrap();
                assert!(page.items.len() <= 1);
                found.extend(page.items.into_iter().map(|job| job.public_id));
                (after, pages) = (page.next, pages + 1);
                if after.is_none() {
                    return (found, pages);
                }
            }
        }
    };
    let named = |text: &str| JobFilter {
        text: Some(text.to_owned()),
        ..JobFilter::default()
    };
    assert_eq!(
        ids(named(&first.public_id.to_uppercase())).await,
        (vec![first.public_id.clone()], PAGES)
    );
    assert_eq!(ids(named("nobody")).await, (Vec::new(), PAGES));
    let newest = format!("E{jobs}");
    assert_eq!(ids(named(&newest)).await, (vec![format!("copy-{jobs}")], PAGES));
    // What an index leads to is not looked at one by one.
    let queued = JobFilter {
        states: vec![State::Queued],
        ..named("job-")
    };
    assert_eq!(ids(queued).await, (vec![first.public_id.clone()], 1));
    let failed = JobFilter {
        states: vec![State::Failed, State::Completed],
        host: Some("https://none.example".to_owned()),
        ..JobFilter::default()
    };
    let (found, pages) = ids(failed).await;
    assert!(found.is_empty() && (PAGES..=2 * PAGES).contains(&pages), "{pages}");
    let of_account = JobFilter {
        account_id: Some("acme".to_owned()),
        tag: Some("c".to_owned()),
        ..JobFilter::default()
    };
    let (found, pages) = ids(of_account).await;
    assert!(found.is_empty() && (PAGES..=9 * PAGES).contains(&pages), "{pages}");
}
