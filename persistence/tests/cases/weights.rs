//! What jobs are expected to be: the history of types, and weights in rows and sums.

use std::sync::Arc;

use crawlwire_progress::job::State;
use crawlwire_progress::store::{Ending, NewJob};
use crawlwire_progress::track::{Milestones, Tracker};
use crawlwire_progress::view::JobSpec;
use crawlwire_progress::weight::{TypeHistory, Weighed, Weights};
use crawlwire_progress::{Op, Timestamp};
use crawlwire_protocol::message::{JobProgress, JobType, ProgressData};

use crate::support::{Kit, Peer, complete, discover, moved};

/// Of so many items, all of them processed.
fn counted(n: i64, items: u32) -> Arc<Tracker> {
    let counter = ProgressData {
        estimated_remaining: Some(0.0),
        ..ProgressData::new("issues", items.into(), items.into())
    };
    let message = JobProgress {
        progress: vec![counter],
        overall_completion: 1.0.try_into().unwrap(),
        time_elapsed: 1.0.try_into().unwrap(),
        estimated_time_remaining: None,
        job_type: None,
    };
    let mut tracker = Tracker::begin(1, None, Timestamp(0));
    tracker.report(&message, n, Timestamp(n), &Milestones::default());
    Arc::new(tracker)
}

/// Runs a job of a type to an end, good or bad.
async fn run(kit: &Kit, peer: &Peer, job_type: JobType, items: u32, well: bool) {
    let new = kit.new_job();
    let spec = JobSpec { job_type, ..new.spec };
    let job = kit.submitted(NewJob { spec, ..new }).await;
    let holder = kit.start(&job, peer).await;
    let ending = if well {
        Ending::Completed {
            result: "{}".to_owned(),
        }
    } else {
        Ending::Failed {
            error: "{}".to_owned(),
            recoverable: false,
        }
    };
    let fact = moved(
        kit.commit(Op::Finish {
            job: job.key,
            holder,
            ending,
            progress: Some(counted(1, items)),
        })
        .await,
    );
    assert_eq!(fact.state, if well { State::Completed } else { State::Failed });
}

pub(crate) async fn the_history_of_types_is_that_of_jobs_which_ended_well(kit: Kit) {
    let peer = kit.session("one").await;
    assert!(kit.store.type_history().await.unwrap().is_empty());
    for items in [10, 20, 31] {
        run(&kit, &peer, JobType::CrawlUser, items, true).await;
    }
    for items in [1000, 2000] {
        run(&kit, &peer, JobType::CrawlGroup, items, true).await;
    }
    // None of these counts: it failed, it has not ended, nothing of it was counted, it has not even begun.
    run(&kit, &peer, JobType::CrawlGroup, 3000, false).await;
    let running = kit.submit().await;
    let holder = kit.start(&running, &peer).await;
    kit.commit(Op::Progress(vec![(running.key, holder.lease(), counted(1, 50))]))
        .await;
    let uncounted = kit.submit().await;
    let holder = kit.start(&uncounted, &peer).await;
    moved(kit.commit(complete(uncounted.key, &holder)).await);
    kit.submit().await;
    let history = kit.store.type_history().await.unwrap();
    let of_type = |jobs, items| TypeHistory { jobs, items };
    assert_eq!(
        history,
        [
            (JobType::CrawlUser, of_type(3, 61)),
            (JobType::CrawlGroup, of_type(2, 3000))
        ]
        .into()
    );
    let mut weights = Weights::default();
    weights.learn(&history);
    assert_eq!(
        JobType::ALL.map(|job_type| weights.of(job_type)),
        [0, 20, 0, 0],
        "two jobs say nothing"
    );
}

pub(crate) async fn weights_are_kept_with_jobs_and_in_the_sums_of_trees(kit: Kit) {
    let peer = kit.session("one").await;
    let root = kit
        .submitted(NewJob {
            weight: 7,
            ..kit.new_job()
        })
        .await;
    let weighed = |jobs, items| Weighed { jobs, items };
    assert_eq!(root.tree.weighed, weighed(1, 7));
    let holder = kit.start(&root, &peer).await;
    let mut found = discover(root.key, &holder, "x", &["a", "b", "c"]);
    if let Op::Discover { items, .. } = &mut found {
        (items[0].weight, items[1].weight) = (100, 30);
    }
    kit.commit(found).await;
    assert_eq!(kit.view(&root).await.tree.weighed, weighed(3, 137));
    let child = kit.store.job("x-a").await.unwrap().unwrap();
    assert_eq!(child.tree.weighed, Weighed::NONE, "told at the top alone");

    let holder = kit.start(&child, &peer).await;
    for n in 1..3 {
        kit.commit(Op::Progress(vec![(child.key, holder.lease(), counted(n, 50))]))
            .await;
        let tree = kit.store.tree_progress(root.key).await.unwrap().unwrap();
        assert_eq!((tree.sum.weighed, tree.sum.expected), (weighed(1, 100), 50), "once");
        // 7 and 30 that are expected, and for the third as much as the first found.
        assert_eq!(tree.sum.expected_silent(kit.view(&root).await.tree.size()), Some(87));
    }
    let totals = kit.store.totals().await.unwrap();
    assert_eq!(totals.fleet.size, kit.view(&root).await.tree.size());
    assert_eq!(totals.fleet.sum.weighed, weighed(1, 100));
    assert_eq!(totals.accounts[0].1, totals.fleet);
    assert_eq!(totals.hosts[0].1, totals.fleet);
}
