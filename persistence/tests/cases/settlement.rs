//! Trees: when they are over, and what becomes of them then.

use std::time::Duration;

use crawlwire_progress::lifecycle::Refusal;
use crawlwire_progress::store::{Act, ErrorFilter, JobFilter, RedriveFilter, Rejection};
use crawlwire_progress::view::{ErrorRow, JobView};
use crawlwire_progress::{Arrow, Op, Outcome, State, Timestamp, TreeStatus};

use super::{ALL, refused, steps, verdicts};
use crate::support::{Kit, Peer, complete, discover, fail, moved};

/// A submitted job, one below it and one below that, all running.
async fn three_levels(kit: &Kit, peer: &Peer) -> [JobView; 3] {
    let root = kit.submit().await;
    let holder = kit.start(&root, peer).await;
    let prefix = root.public_id.clone();
    kit.commit(discover(root.key, &holder, &prefix, &["a"])).await;
    let child = kit.store.job(&format!("{prefix}-a")).await.unwrap().unwrap();
    let child_holder = kit.start(&child, peer).await;
    kit.commit(discover(child.key, &child_holder, &prefix, &["b"])).await;
    let grandchild = kit.store.job(&format!("{prefix}-b")).await.unwrap().unwrap();
    kit.start(&grandchild, peer).await;
    [root, child, grandchild]
}

async fn statuses(kit: &Kit, jobs: &[JobView; 3]) -> [(State, TreeStatus); 3] {
    let mut found = Vec::new();
    for job in jobs {
        let view = kit.view(job).await;
        assert_eq!(view.tree.settled_at.is_some(), view.tree.status != TreeStatus::Open);
        assert_eq!(view.tree.status, view.tree.status_with(view.state));
        found.push((view.state, view.tree.status));
    }
    found.try_into().unwrap()
}

pub(crate) async fn a_tree_settles_over_three_levels_and_a_retry_reopens_it(kit: Kit) {
    let peer = kit.session("one").await;
    let jobs = three_levels(&kit, &peer).await;
    let [root, child, grandchild] = &jobs;
    let holder = peer.holds(crawlwire_progress::Fence(1));
    moved(kit.commit(complete(root.key, &holder)).await);
    moved(kit.commit(complete(child.key, &holder)).await);
    let (done, open) = ((State::Completed, TreeStatus::Open), (State::Running, TreeStatus::Open));
    assert_eq!(
        statuses(&kit, &jobs).await,
        [done, done, open],
        "a job's own status does not wait"
    );
    kit.pass(Duration::from_secs(1));
    moved(kit.commit(fail(grandchild.key, &holder, false)).await);
    let bad = (State::Completed, TreeStatus::Failed);
    assert_eq!(
        statuses(&kit, &jobs).await,
        [bad, bad, (State::Failed, TreeStatus::Failed)]
    );
    let view = kit.view(root).await;
    assert_eq!((view.tree.settled_at, view.tree.jobs), (Some(kit.clock.now()), 2));
    assert_eq!((view.tree.failed_children, view.tree.open_children), (1, 0));

    kit.act(grandchild, Act::Retry).await;
    assert_eq!(
        statuses(&kit, &jobs).await,
        [done, done, (State::Queued, TreeStatus::Open)]
    );
    let holder = kit.start(grandchild, &peer).await;
    moved(kit.commit(complete(grandchild.key, &holder)).await);
    let good = (State::Completed, TreeStatus::Completed);
    assert_eq!(statuses(&kit, &jobs).await, [good; 3]);
    assert_eq!(kit.view(root).await.tree.failed_children, 0);
}

pub(crate) async fn a_tree_is_cancelled_as_a_whole(kit: Kit) {
    let peer = kit.session("one").await;
    let jobs = three_levels(&kit, &peer).await;
    let [root, child, _] = &jobs;
    let cancel = |root| Op::CancelTree {
        root,
        after: None,
        by: "somebody".to_owned(),
    };
    assert_eq!(
        refused(kit.commit(cancel(child.key)).await),
        Rejection::Job(Refusal::NotRoot)
    );
    // What is found just before is cancelled with the rest.
    let holder = peer.holds(crawlwire_progress::Fence(1));
    let found = discover(child.key, &holder, "late", &["c"]);
    let mut outcomes = kit.together(vec![found, cancel(root.key)]).await;
    let Some(Outcome::Acted { facts, next: None }) = outcomes.pop() else {
        panic!("{outcomes:?}")
    };
    let ended: Vec<_> = facts.iter().filter(|fact| fact.state == State::Cancelled).collect();
    assert_eq!(ended.len(), 4, "{facts:?}");
    assert_eq!(ended[0].job, root.key, "the root first");
    let over = (State::Cancelled, TreeStatus::Cancelled);
    assert_eq!(statuses(&kit, &jobs).await, [over; 3]);
    let audit = &kit.store.audit(ALL).await.unwrap().items[0];
    assert_eq!((audit.act.as_str(), &audit.target), ("cancel_tree", &root.public_id));
    let Outcome::Acted { facts, next: None } = kit.commit(cancel(root.key)).await else {
        panic!("not acted")
    };
    assert!(facts.is_empty(), "{facts:?}");
}

pub(crate) async fn what_has_ended_is_deleted_with_everything_below(kit: Kit) {
    let peer = kit.session("one").await;
    let jobs = three_levels(&kit, &peer).await;
    let [root, child, grandchild] = &jobs;
    let kept = kit.submit().await;
    let delete = |root| Op::Delete {
        root,
        by: "somebody".to_owned(),
    };
    let holder = peer.holds(crawlwire_progress::Fence(1));
    assert_eq!(
        refused(kit.commit(delete(child.key)).await),
        Rejection::Job(Refusal::NotRoot)
    );
    for job in [root, child] {
        assert_eq!(
            refused(kit.commit(delete(root.key)).await),
            Rejection::Job(Refusal::TreeOpen)
        );
        moved(kit.commit(complete(job.key, &holder)).await);
    }
    // The end of the last one and the deletion, together.
    let last = complete(grandchild.key, &holder);
    let outcomes = kit.together(vec![last, delete(root.key)]).await;
    assert_eq!(outcomes[1], Outcome::Deleted { jobs: 3, more: false });
    for job in &jobs {
        assert_eq!(kit.store.job(&job.public_id).await.unwrap(), None);
        assert!(kit.store.events(job.key, ALL).await.unwrap().items.is_empty());
        assert_eq!(kit.store.progress(job.key).await.unwrap(), None);
    }
    let listed = kit.store.jobs(JobFilter::default(), ALL).await.unwrap().items;
    assert_eq!(listed.len(), 1);
    let counts = kit.store.counts().await.unwrap();
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [(State::Queued, 1)]);
    assert_eq!(
        refused(kit.commit(delete(root.key)).await),
        Rejection::Job(Refusal::NotFound)
    );
    assert_eq!(kit.store.audit(ALL).await.unwrap().items[0].act, "delete");
    // Names are free again.
    let mut again = kit.new_job();
    again.public_id.clone_from(&root.public_id);
    kit.submitted(again).await;
    assert_eq!(kit.view(&kept).await, kept);
}

pub(crate) async fn old_trees_and_errors_are_pruned(kit: Kit) {
    let peer = kit.session("one").await;
    let mut trees = Vec::new();
    for _ in 0..2 {
        let jobs = three_levels(&kit, &peer).await;
        for job in &jobs {
            let holder = peer.holds(crawlwire_progress::Fence(1));
            moved(kit.commit(complete(job.key, &holder)).await);
        }
        trees.push(jobs);
        kit.pass(Duration::from_secs(10));
    }
    let open = three_levels(&kit, &peer).await;
    let error = |at| ErrorRow {
        at,
        category: "network",
        severity: "low",
        code: "x".to_owned(),
        job: None,
        connection: None,
        message: "x".to_owned(),
    };
    let now = kit.clock.now();
    let before = Timestamp(now.0 - 10_000);
    kit.commit(Op::RecordErrors(vec![error(Timestamp(1)), error(before), error(now)]))
        .await;
    let prune = |before| Op::Prune {
        jobs_before: before,
        errors_before: before,
    };
    let pruned = |jobs, errors| Outcome::Pruned {
        jobs,
        errors,
        more: false,
    };
    assert_eq!(kit.commit(prune(before)).await, pruned(3, 1));
    assert_eq!(
        kit.store.errors(ErrorFilter::default(), ALL).await.unwrap().items.len(),
        2
    );
    assert_eq!(kit.store.job(&trees[0][0].public_id).await.unwrap(), None);
    assert_eq!(kit.view(&trees[1][0]).await.state, State::Completed);
    kit.pass(Duration::from_secs(3600));
    assert_eq!(kit.commit(prune(kit.clock.now())).await, pruned(3, 2));
    assert_eq!(kit.commit(prune(kit.clock.now())).await, pruned(0, 0));
    assert_eq!(
        statuses(&kit, &open).await,
        [(State::Running, TreeStatus::Open); 3],
        "open trees stay"
    );
}

pub(crate) async fn those_that_fit_are_redriven(kit: Kit) {
    let peer = kit.session("one").await;
    let (failed, quarantined, paused) = (kit.submit().await, kit.submit().await, kit.submit().await);
    let mut foreign = kit.new_job();
    foreign.account_id = "others".to_owned();
    let foreign = kit.submitted(foreign).await;
    for job in [&failed, &foreign] {
        let holder = kit.start(job, &peer).await;
        moved(kit.commit(fail(job.key, &holder, false)).await);
    }
    for _ in 0..kit.policy.misses_max {
        let holder = kit.claim(&quarantined, &peer).await;
        moved(
            kit.commit(Op::Release {
                job: quarantined.key,
                holder,
            })
            .await,
        );
    }
    kit.act(&paused, Act::Pause).await;
    let redrive = async |quarantined, failed, account: Option<&str>| {
        let filter = RedriveFilter {
            quarantined,
            failed,
            account_id: account.map(str::to_owned),
        };
        let by = "somebody".to_owned();
        match kit
            .commit(Op::Redrive {
                filter,
                after: None,
                by,
            })
            .await
        {
            Outcome::Acted { facts, next: None } => {
                assert!(
                    steps(&facts)
                        .iter()
                        .all(|step| *step == (Arrow::Redrive, State::Queued))
                );
                facts.into_iter().map(|fact| fact.job).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(redrive(false, false, None).await.is_empty());
    assert!(redrive(true, true, Some("nobody")).await.is_empty());
    assert_eq!(redrive(true, false, Some("acme")).await, [quarantined.key]);
    assert_eq!(redrive(false, true, Some("others")).await, [foreign.key]);
    assert_eq!(redrive(true, true, None).await, [failed.key]);
    assert_eq!(kit.view(&paused).await.state, State::Paused);
    assert_eq!(kit.view(&quarantined).await.misses, 0);
}

pub(crate) async fn places_are_kept_once_and_seen_by_accounts(kit: Kit) {
    let peer = kit.session("one").await;
    let mut foreign = kit.new_job();
    foreign.account_id = "others".to_owned();
    let (root, foreign) = (kit.submit().await, kit.submitted(foreign).await);
    let (holder, foreign_holder) = (kit.start(&root, &peer).await, kit.start(&foreign, &peer).await);
    let areas = async |account: &str| kit.store.areas(account, ALL).await.unwrap().items;
    kit.commit(discover(root.key, &holder, "x", &["a", "b", "a"])).await;
    let first = areas("acme").await;
    let mut ids: Vec<_> = first.iter().map(|area| area.entity_id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!((first[0].kind.as_str(), &first[0].host), ("project", &root.spec.host));
    assert_eq!(
        (first[0].path.clone(), first[0].since),
        (format!("group/{}", first[0].name), kit.clock.now())
    );
    kit.pass(Duration::from_secs(1));
    // Found once more, under another name, by another account as well.
    let mut renamed = discover(root.key, &holder, "y", &["a"]);
    if let Op::Discover { items, .. } = &mut renamed {
        items[0].item.entity_name = "renamed".to_owned();
    }
    let theirs = discover(foreign.key, &foreign_holder, "z", &["b", "c"]);
    let outcomes = kit.together(vec![renamed, theirs]).await;
    assert_eq!(
        outcomes
            .into_iter()
            .map(verdicts)
            .map(|all| all.len())
            .collect::<Vec<_>>(),
        [1, 2]
    );
    let again = areas("acme").await;
    let names = |areas: &[crawlwire_progress::view::AreaView]| {
        let mut names: Vec<_> = areas
            .iter()
            .map(|area| (area.id, area.name.clone(), area.since))
            .collect();
        names.sort();
        names
    };
    let mut expected = names(&first);
    expected
        .iter_mut()
        .filter(|(_, name, _)| name == "a")
        .for_each(|(_, name, _)| *name = "renamed".to_owned());
    assert_eq!(names(&again), expected, "the same rows");
    assert_eq!(areas("others").await.len(), 2);
    assert!(areas("nobody").await.is_empty());
    let mut after = None;
    for expected in &again {
        let paging = crawlwire_progress::store::Paging { limit: 1, after };
        let page = kit.store.areas("acme", paging).await.unwrap();
        assert_eq!(page.items.as_slice(), std::slice::from_ref(expected));
        after = page.next;
    }
    assert_eq!(after, None);
}

pub(crate) async fn lanes_are_looked_at_in_turn(kit: Kit) {
    use crawlwire_progress::store::ReadyQuery;

    let mut expected = std::collections::BTreeMap::<i64, Vec<_>>::new();
    for number in 0..12_u64 {
        let mut new = kit.new_job();
        new.spec.host = format!("https://host-{}.example", number % 4);
        new.spec.priority = number as f64;
        let job = kit.submitted(new).await;
        kit.pass(Duration::from_millis(1));
        let lane = crawlwire_progress::priority::lane(job.account, &job.spec.host, job.spec.job_type, &[]);
        expected.entry(lane).or_default().insert(0, job.key);
    }
    assert_eq!(expected.len(), 4);
    let ready = async |after_lane, lanes, per_lane| {
        let query = ReadyQuery {
            after_lane,
            lanes,
            per_lane,
        };
        let mut found = Vec::<(i64, Vec<_>)>::new();
        for job in kit.store.ready(query).await.unwrap() {
            match found.last_mut().filter(|(lane, _)| *lane == job.lane) {
                Some((_, keys)) => keys.push(job.key),
                None => found.push((job.lane, vec![job.key])),
            }
        }
        found
    };
    let all: Vec<_> = expected.clone().into_iter().collect();
    assert_eq!(ready(None, 9, 9).await, all);
    let two: Vec<_> = all.iter().map(|(lane, keys)| (*lane, keys[..2].to_vec())).collect();
    assert_eq!(ready(None, 3, 2).await, two[..3]);
    assert_eq!(ready(Some(all[1].0), 1, 2).await, two[2..3]);
    assert_eq!(ready(Some(all[3].0), 9, 9).await, []);
    assert_eq!(ready(None, 0, 9).await, []);
    assert_eq!(ready(None, 9, 0).await, []);
}
