//! What happens to all jobs, whichever server does it.

use crawlwire_progress::store::Act;
use crawlwire_progress::track::History;
use crawlwire_progress::view::{FeedCursor, FeedItem};
use crawlwire_progress::{JobKey, Op, Timestamp};

use super::ALL;
use crate::support::{Kit, complete, discover, give_back, moved, report};

/// What happened behind a place, page by page; and where it goes on.
async fn behind(kit: &Kit, mut place: FeedCursor, limit: usize) -> (Vec<FeedItem>, FeedCursor) {
    let mut items = Vec::new();
    loop {
        let page = kit.store.feed(place, limit).await.unwrap();
        assert!(page.items.len() <= limit && page.next >= place);
        if page.items.is_empty() {
            return (items, page.next);
        }
        place = page.next;
        items.extend(page.items);
    }
}

fn arrows(items: &[FeedItem]) -> Vec<(&str, String)> {
    let told = items.iter();
    told.map(|item| (item.public_id.as_str(), item.event.arrows.join(",")))
        .collect()
}

pub(crate) async fn the_feed_tells_once_what_happens_to_every_job(kit: Kit) {
    let peer = kit.session("one").await;
    let before = kit.submit().await;
    let start = kit.store.feed_end().await.unwrap();
    assert_eq!(
        behind(&kit, start, 10).await,
        (Vec::new(), start),
        "what was before is behind us"
    );

    let root = kit.submit().await;
    let holder = kit.start(&root, &peer).await;
    kit.commit(discover(root.key, &holder, "below", &["x", "y"])).await;
    moved(kit.commit(complete(root.key, &holder)).await);
    kit.act(&before, Act::Cancel).await;

    let (all, end) = behind(&kit, start, 1000).await;
    let id = root.public_id.as_str();
    let expected = [
        (id, "submit"),
        (id, "claim"),
        (id, "start"),
        ("below-x", "discover"),
        ("below-y", "discover"),
        (id, "finish"),
        (before.public_id.as_str(), "cancel"),
    ];
    assert_eq!(arrows(&all), expected.map(|(id, arrow)| (id, arrow.to_owned())));
    assert!(all.is_sorted_by(|one, next| one.event.id < next.event.id));
    for item in &all {
        let view = kit.store.job(&item.public_id).await.unwrap().unwrap();
        assert_eq!(
            (item.job, &item.root_id, &item.account_id, item.job_type),
            (view.key, &view.root_id, &view.account_id, view.spec.job_type)
        );
        let root = kit.store.job(&item.root_id).await.unwrap().unwrap();
        assert_eq!(item.root, root.key);
        let events = kit.store.events(item.job, ALL).await.unwrap().items;
        assert!(events.contains(&item.event), "{item:?}");
    }
    for limit in [1, 2, 3, 6, 7, 8] {
        assert_eq!(
            behind(&kit, start, limit).await,
            (all.clone(), end),
            "{limit} at a time"
        );
    }
    assert_eq!(kit.store.feed_end().await.unwrap(), end);
    assert_eq!(behind(&kit, FeedCursor(all[4].event.id), 2).await.0, all[5..]);

    // What is deleted is told of no more, and its numbers are not used again.
    kit.act(&before, Act::Retry).await;
    kit.act(&before, Act::Cancel).await;
    let (again, behind_it) = behind(&kit, end, 10).await;
    assert_eq!(again.len(), 2);
    let by = "me".to_owned();
    kit.commit(Op::Delete { root: before.key, by }).await;
    assert_eq!(behind(&kit, end, 10).await.0, []);
    let next = kit.submit().await;
    let (items, _) = behind(&kit, behind_it, 10).await;
    assert_eq!(arrows(&items), [(next.public_id.as_str(), "submit".to_owned())]);
    assert_eq!(behind(&kit, end, 10).await.0, items);
}

pub(crate) async fn reports_about_jobs_of_other_servers_are_told_as_they_come(kit: Kit) {
    let here = kit.session_at("here", "one").await;
    let (there, yonder) = (
        kit.session_at("there", "two").await,
        kit.session_at("yonder", "three").await,
    );
    let heard = async |server: &str, after: (i64, JobKey), limit: usize| {
        let after = (Timestamp(after.0), after.1);
        let heard = kit.store.progress_elsewhere(server, after, limit).await.unwrap();
        let told = heard.into_iter().map(|heard| (heard.public_id, heard.tracker.n));
        told.collect::<Vec<_>>()
    };
    let first = JobKey(0);
    let mut jobs = Vec::new();
    for peer in [&here, &there, &there, &yonder] {
        let job = kit.submit().await;
        jobs.push((kit.start(&job, peer).await, job));
    }
    assert!(
        heard("one", (0, first), 10).await.is_empty(),
        "nobody has said anything"
    );
    let say = async |at: usize, n: i64| {
        let (holder, job) = &jobs[at];
        kit.commit(Op::Progress(vec![(job.key, holder.lease(), report(n))]))
            .await;
    };
    // They are heard at these moments, too.
    for (at, n) in [(0, 3), (1, 5), (2, 4), (3, 5)] {
        say(at, n).await;
    }
    let told = |numbers: &[(usize, i64)]| -> Vec<(String, i64)> {
        let told = numbers.iter().map(|(at, n)| (jobs[*at].1.public_id.clone(), *n));
        told.collect()
    };
    assert_eq!(heard("one", (0, first), 10).await, told(&[(2, 4), (1, 5), (3, 5)]));
    assert_eq!(heard("two", (0, first), 10).await, told(&[(0, 3), (3, 5)]));
    assert_eq!(
        heard("four", (0, first), 10).await,
        told(&[(0, 3), (2, 4), (1, 5), (3, 5)])
    );
    // Page by page, though two were heard at one moment.
    assert_eq!(heard("one", (0, first), 2).await, told(&[(2, 4), (1, 5)]));
    assert_eq!(heard("one", (5, jobs[1].1.key), 2).await, told(&[(3, 5)]));
    assert_eq!(heard("one", (5, first), 2).await, told(&[(1, 5), (3, 5)]));
    say(2, 6).await;
    assert_eq!(heard("one", (5, jobs[3].1.key), 10).await, told(&[(2, 6)]));

    // What is told of a job: the report, and where it stands.
    let (holder, root) = &jobs[3];
    let child = {
        kit.commit(discover(root.key, holder, "below", &["x"])).await;
        kit.store.job("below-x").await.unwrap().unwrap()
    };
    let below = kit.start(&child, &there).await;
    kit.commit(Op::Progress(vec![(child.key, below.lease(), report(9))]))
        .await;
    let all = kit
        .store
        .progress_elsewhere("one", (Timestamp(9), first), 10)
        .await
        .unwrap();
    let [last] = &all[..] else { panic!("{all:?}") };
    assert_eq!((last.job, &last.root_id), (child.key, &root.public_id));
    let mut stored = kit.store.progress(child.key).await.unwrap().unwrap();
    stored.history = History::default();
    assert_eq!(last.tracker, stored);

    // Only of jobs that run, and of the attempt that runs.
    moved(kit.commit(complete(child.key, &below)).await);
    let (holder, waiting) = &jobs[1];
    moved(kit.commit(give_back(waiting.key, holder)).await);
    kit.start(waiting, &yonder).await;
    assert_eq!(heard("one", (0, first), 10).await, told(&[(3, 5), (2, 6)]));
}
