//! How far jobs and trees are, over databases: what is added up stays true through restarts, several servers, and the end.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use crawlwire_persistence::Database;
use crawlwire_persistence::testing::TestDatabase;
use crawlwire_progress::store::{HISTORIES_MAX, Holder};
use crawlwire_progress::sums::{Sum, TreeMilestone, TreeView};
use crawlwire_progress::track::{Milestones, Tracker};
use crawlwire_progress::view::JobView;
use crawlwire_progress::weight::Weighed;
use crawlwire_progress::{Fence, JobKey, Op, Outcome, Policy, Timestamp};
use crawlwire_protocol::message::{JobProgress, ProgressData};
use sea_orm::{ConnectionTrait, Statement};
use support::{Kit, Peer, complete, discover, give_back, moved, on_both};

on_both!(
    a_restart_changes_no_number,
    what_is_deleted_leaves_nothing,
    histories_are_kept_of_the_last_attempts,
    rows_that_contradict_themselves_are_refused,
    a_report_costs_no_more_statements_than_it_has_kinds_of_rows,
);

/// A report of so many items of so many.
fn report(n: i64, done: u32, found: u32) -> Arc<Tracker> {
    let counter = ProgressData {
        estimated_remaining: (done == found).then_some(0.0).or(Some(f64::from(found - done))),
        ..ProgressData::new("issues", found.into(), done.into())
    };
    let message = JobProgress {
        progress: vec![counter],
        overall_completion: (f64::from(done) / f64::from(found)).try_into().unwrap(),
        time_elapsed: 1.0.try_into().unwrap(),
        estimated_time_remaining: None,
        job_type: None,
    };
    let mut tracker = Tracker::begin(1, None, Timestamp(0));
    tracker.report(&message, n, Timestamp(n * 1000), &Milestones::default());
    Arc::new(tracker)
}

/// A tree of a root and so many children, all running, the children without children.
async fn running_tree(kit: &Kit, peer: &Peer, children: usize) -> Vec<(JobView, Holder)> {
    let root = kit.submit().await;
    let holder = kit.start(&root, peer).await;
    let names: Vec<_> = (0..children).map(|child| format!("child-{child}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let prefix = format!("below-{}", root.key);
    let mut found = discover(root.key, &holder, &prefix, &names);
    if let Op::Discover { items, .. } = &mut found {
        // Of every other one something is expected.
        let expected = items.iter_mut().skip(1).step_by(2);
        expected.for_each(|found| found.weight = 30);
    }
    kit.commit(found).await;
    let mut jobs = vec![(root, holder)];
    for name in names {
        let child = kit.store.job(&format!("{prefix}-{name}")).await.unwrap().unwrap();
        let holder = kit.start(&child, peer).await;
        jobs.push((child, holder));
    }
    jobs
}

fn reports<'a>(jobs: impl IntoIterator<Item = &'a (JobView, Holder)>, report: &Arc<Tracker>) -> Op {
    let jobs = jobs.into_iter();
    Op::Progress(
        jobs.map(|(job, holder)| (job.key, holder.lease(), report.clone()))
            .collect(),
    )
}

fn passed(outcome: Outcome) -> Vec<TreeMilestone> {
    match outcome {
        Outcome::Progressed { stale, passed } if stale.is_empty() => passed,
        other => panic!("{other:?}"),
    }
}

async fn tree(kit: &Kit, root: JobKey) -> TreeView {
    kit.store.tree_progress(root).await.unwrap().unwrap()
}

async fn a_restart_changes_no_number(database: TestDatabase) {
    let kit = Kit::over(database, Policy::default()).await;
    let peer = kit.session("one").await;
    let jobs = running_tree(&kit, &peer, 3).await;
    let root = jobs[0].0.key;
    let percents = |told: &[TreeMilestone]| told.iter().map(|it| it.percent).collect::<Vec<_>>();
    let told = passed(kit.commit(reports(&jobs[..3], &report(1, 4, 10))).await);
    assert_eq!(percents(&told), [25]);
    let seen = async |kit: &Kit| {
        let store = &kit.store;
        (
            tree(kit, root).await,
            store.totals().await.unwrap(),
            store.running().await.unwrap(),
            store.progress(jobs[1].0.key).await.unwrap(),
            store.histories(jobs[1].0.key).await.unwrap(),
        )
    };
    let before = seen(&kit).await;
    assert_eq!(
        (before.0.sum.done, before.0.sum.expected, before.0.sum.jobs_reported),
        (12, 30, 3)
    );
    assert_eq!(before.1.fleet.size.jobs, 4, "the silent one is among them");
    assert_eq!(
        before.3.as_ref(),
        Some(&*report(1, 4, 10)),
        "a tracker is read as it was written"
    );
    kit.sql().close().await;
    let kit = kit.opened_again().await;
    assert_eq!(seen(&kit).await, before);
    assert_eq!(
        passed(kit.commit(reports(&jobs[..3], &report(1, 4, 10))).await),
        [],
        "late ones"
    );
    assert_eq!(seen(&kit).await, before);
    let told = passed(kit.commit(reports(&jobs[..3], &report(2, 10, 10))).await);
    assert_eq!(percents(&told), [50, 75]);
    assert!(
        told.iter()
            .all(|it| it.root == root && it.root_id == jobs[0].0.public_id)
    );
}

async fn what_is_deleted_leaves_nothing(database: TestDatabase) {
    let kit = Kit::over(database, Policy::default()).await;
    let peer = kit.session("one").await;
    let jobs = running_tree(&kit, &peer, 2).await;
    kit.commit(reports(&jobs, &report(1, 3, 10))).await;
    for (job, holder) in &jobs {
        let fact = moved(kit.commit(complete(job.key, holder)).await);
        let whole = job.key == jobs[2].0.key;
        assert_eq!(
            fact.passed.last().map(|it| it.percent),
            whole.then_some(100),
            "{}",
            job.public_id
        );
    }
    assert_eq!(kit.store.totals().await.unwrap().fleet.trees, 0, "it is over");
    let by = "somebody".to_owned();
    let root = jobs[0].0.key;
    let deleted = kit.commit(Op::Delete { root, by }).await;
    assert_eq!(deleted, Outcome::Deleted { jobs: 3, more: false });
    for table in ["job_progress", "job_history", "tree_progress"] {
        let rest = kit.database().execute(&format!("DELETE FROM {table}")).await;
        assert_eq!(rest, Ok(0), "{table}");
    }
}

async fn histories_are_kept_of_the_last_attempts(database: TestDatabase) {
    let kit = Kit::over(database, Policy::default()).await;
    let peer = kit.session("one").await;
    let job = kit.submit().await;
    for attempt in 1..=HISTORIES_MAX + 3 {
        let holder = kit.start(&job, &peer).await;
        kit.commit(reports(&[(job.clone(), holder.clone())], &report(1, 1, 10)))
            .await;
        let kept = kit.store.histories(job.key).await.unwrap();
        assert_eq!(kept.last().map(|(kept, _)| *kept), Some(attempt));
        assert_eq!(kept.len(), attempt.min(HISTORIES_MAX) as usize);
        moved(kit.commit(give_back(job.key, &holder)).await);
    }
    let rows = kit.database().execute("UPDATE job_history SET points = points").await;
    assert_eq!(rows, Ok(HISTORIES_MAX as u64));
}

async fn rows_that_contradict_themselves_are_refused(database: TestDatabase) {
    let kit = Kit::over(database, Policy::default()).await;
    let peer = kit.session("one").await;
    let jobs = running_tree(&kit, &peer, 1).await;
    kit.commit(reports(&jobs, &report(1, 3, 10))).await;
    for change in [
        "job_progress SET done = expected + 1",
        "tree_progress SET done = expected + 1",
        "tree_progress SET done = -1",
        "tree_progress SET open_jobs = jobs_reported + 1",
        "tree_progress SET reached = 101",
        "tree_progress SET weighed_reported = jobs_reported + 1, weight_reported = 1000",
        "tree_progress SET weighed_reported = 1, weight_reported = 0",
        "jobs SET weight = -1",
        "jobs SET tree_weighed = tree_jobs + 2, tree_weight = 1000",
        "jobs SET tree_weighed = 1, tree_weight = 0",
        "tree_progress SET root_id = 99999",
    ] {
        let error = kit
            .database()
            .execute(&format!("UPDATE {change}"))
            .await
            .expect_err(change);
        assert!(error.to_lowercase().contains("constraint"), "{change}: {error}");
    }
}

async fn a_report_costs_no_more_statements_than_it_has_kinds_of_rows(database: TestDatabase) {
    let kit = Kit::over(database, Policy::default()).await;
    let peer = kit.session("one").await;
    let jobs = running_tree(&kit, &peer, 40).await;
    for n in 1..4 {
        let before = kit.sql().statistics();
        kit.commit(reports(&jobs, &report(n, 3, 10))).await;
        let after = kit.sql().statistics();
        assert_eq!(after.batches - before.batches, 1);
        // Begin, the clock, the jobs, their session, their reports, the tree twice; reports, histories, the tree; commit.
        assert!(after.statements - before.statements <= 11, "{after:?} {before:?}");
    }
}

/// Both flush the same trees at the same time, from the first report on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_flush_one_tree_add_up_and_tell_each_milestone_once() {
    const ROUNDS: u32 = 20;
    let Some(database) = TestDatabase::postgres().await else {
        return;
    };
    let open = async |name: &str| {
        let mut config = database.config();
        config.server = name.to_owned();
        Kit::around(Database::open(config).await.unwrap())
    };
    let (one, two) = (open("one").await, open("two").await);
    let peer = one.session("one").await;
    let mut trees = Vec::new();
    for _ in 0..3 {
        trees.push(running_tree(&one, &peer, 6).await);
    }
    // Each has its half of every tree, and comes to the trees in another order.
    let halves: [Vec<_>; 2] = [0, 1].map(|half| {
        let mut jobs: Vec<_> = trees.iter().flatten().cloned().collect();
        if half == 1 {
            jobs.reverse();
        }
        jobs.into_iter().skip(half).step_by(2).collect()
    });
    let flush = async |kit: &Kit, jobs: &[(JobView, Holder)]| {
        let mut told = Vec::new();
        for round in 1..=ROUNDS {
            let report = report(i64::from(round), round, ROUNDS);
            told.extend(passed(kit.commit(reports(jobs, &report)).await));
        }
        told
    };
    let (mut told, other) = tokio::join!(flush(&one, &halves[0]), flush(&two, &halves[1]));
    told.extend(other);
    let mut percents = BTreeMap::<JobKey, Vec<u8>>::new();
    told.iter()
        .for_each(|it| percents.entry(it.root).or_default().push(it.percent));
    let retries = [&one, &two].map(|kit| kit.sql().statistics().retries);
    assert_eq!(
        retries,
        [0, 0],
        "they wait for each other and do not lock each other out"
    );
    for jobs in &trees {
        let root = jobs[0].0.key;
        let mut percents = percents.remove(&root).unwrap();
        percents.sort_unstable();
        assert_eq!(percents, [25, 50, 75, 90]);
        assert_eq!(tree(&one, root).await.sum, recomputed(&database, root).await);
        assert_eq!(tree(&one, root).await.sum.done, 7 * u64::from(ROUNDS));
    }
    assert_eq!(one.store.totals().await.unwrap(), two.store.totals().await.unwrap());
    let late = (trees[0][1].0.clone(), peer.holds(Fence(9)));
    let stale = one.commit(reports(&[late], &report(99, 1, 1))).await;
    assert!(matches!(stale, Outcome::Progressed { stale, .. } if stale.len() == 1));
}

/// The sum of a tree, from the rows of its jobs.
async fn recomputed(database: &TestDatabase, root: JobKey) -> Sum {
    let pool = database.pool().await;
    let text = format!(
        "SELECT count(*), sum(p.done)::bigint, sum(p.expected)::bigint, count(*) FILTER (WHERE p.open_totals), \
         count(*) FILTER (WHERE j.weight > 0), sum(j.weight)::bigint \
         FROM job_progress AS p JOIN jobs AS j ON j.id = p.job_id WHERE j.root_id = {root}"
    );
    let row = pool
        .query_one_raw(Statement::from_string(pool.get_database_backend(), text))
        .await
        .unwrap()
        .unwrap();
    let cell = |index| u64::try_from(row.try_get_by_index::<i64>(index).unwrap()).unwrap();
    Sum {
        jobs_reported: cell(0),
        done: cell(1),
        expected: cell(2),
        open_jobs: cell(3),
        weighed: Weighed {
            jobs: cell(4),
            items: cell(5),
        },
    }
}
