//! Who looks at what, for the servers that hold it.

use std::time::Duration;

use crawlwire_progress::store::{WATCHED_FOR, WATCHES_MAX, Watch};
use crawlwire_progress::{Op, Outcome};

use crate::support::Kit;

const SECOND: Duration = Duration::from_secs(1);

fn watch(server: &str, watches: &[(&str, Duration)]) -> Op {
    let of = |(job, lasts): &(&str, Duration)| Watch {
        job: Some((*job).to_owned()).filter(|job| !job.is_empty()),
        lasts: *lasts,
    };
    Op::Watch {
        server: server.to_owned(),
        watches: watches.iter().map(of).collect(),
    }
}

/// By public id, empty for all jobs, with the seconds that are left.
async fn elsewhere(kit: &Kit, server: &str) -> Vec<(String, u64)> {
    let watches = kit.store.watched_elsewhere(server).await.unwrap();
    let watches = watches.into_iter();
    watches
        .map(|watch| (watch.job.unwrap_or_default(), watch.lasts.as_secs()))
        .collect()
}

fn told(watches: &[(&str, u64)]) -> Vec<(String, u64)> {
    watches.iter().map(|(job, left)| ((*job).to_owned(), *left)).collect()
}

pub(crate) async fn what_is_watched_is_told_to_other_servers_until_its_time_is_over(kit: Kit) {
    assert!(elsewhere(&kit, "one").await.is_empty());
    let outcome = kit.commit(watch("one", &[("b", WATCHED_FOR), ("a", SECOND * 2)])).await;
    assert_eq!(outcome, Outcome::Done);
    assert!(elsewhere(&kit, "one").await.is_empty(), "who looks here is known here");
    assert_eq!(elsewhere(&kit, "two").await, told(&[("a", 2), ("b", 15)]));
    kit.pass(SECOND);
    kit.commit(watch("two", &[("b", SECOND * 3), ("c", WATCHED_FOR * 100)]))
        .await;
    assert_eq!(elsewhere(&kit, "one").await, told(&[("b", 3), ("c", 15)]));
    assert_eq!(elsewhere(&kit, "two").await, told(&[("a", 1), ("b", 14)]));
    assert_eq!(
        elsewhere(&kit, "three").await,
        told(&[("a", 1), ("b", 14), ("c", 15)]),
        "whoever looks longest counts"
    );
    kit.pass(SECOND);
    assert_eq!(elsewhere(&kit, "two").await, told(&[("b", 13)]));
    // Who looks on is told in place of what was told before.
    kit.commit(watch("one", &[("b", SECOND * 4), ("", SECOND * 9)])).await;
    assert_eq!(elsewhere(&kit, "two").await, told(&[("", 9), ("b", 4)]));
    kit.pass(SECOND * 4);
    assert_eq!(elsewhere(&kit, "two").await, told(&[("", 5)]));
    // A server that says nothing any more.
    kit.pass(WATCHED_FOR);
    for server in ["one", "two", "three"] {
        assert!(elsewhere(&kit, server).await.is_empty(), "{server}");
    }
    // What is over goes when somebody looks again.
    kit.commit(watch("one", &[("d", SECOND)])).await;
    if let Some(database) = &kit.database {
        assert_eq!(database.execute("UPDATE watches SET until = until").await, Ok(1));
    }
}

pub(crate) async fn what_is_said_together_counts_as_said_one_after_the_other(kit: Kit) {
    let ops = vec![
        watch("one", &[("a", SECOND), ("a", SECOND * 3)]),
        watch("two", &[("a", SECOND * 2)]),
        watch("one", &[("b", SECOND)]),
        watch("one", &[]),
    ];
    assert_eq!(kit.together(ops).await, [const { Outcome::Done }; 4]);
    assert_eq!(elsewhere(&kit, "two").await, told(&[("a", 3), ("b", 1)]));
    assert_eq!(elsewhere(&kit, "one").await, told(&[("a", 2)]));
}

pub(crate) async fn more_watches_than_anybody_counts_are_as_good_as_all(kit: Kit) {
    let names: Vec<_> = (0..=WATCHES_MAX).map(|job| format!("{job:04}")).collect();
    let jobs: Vec<_> = names.iter().map(|job| (job.as_str(), SECOND * 5)).collect();
    kit.commit(watch("one", &jobs[..WATCHES_MAX])).await;
    assert_eq!(
        elsewhere(&kit, "two").await,
        told(&jobs[..WATCHES_MAX].iter().map(|(job, _)| (*job, 5)).collect::<Vec<_>>())
    );
    kit.commit(watch("two", &jobs)).await;
    assert_eq!(elsewhere(&kit, "one").await, told(&[("", 5)]));
    // Together they are too many, which is to be seen, and what is told has an end all the same.
    kit.commit(watch("three", &[("x", SECOND), ("y", SECOND)])).await;
    let seen = elsewhere(&kit, "four").await;
    assert_eq!((seen.len(), seen[0].0.as_str()), (WATCHES_MAX + 1, ""));
}
