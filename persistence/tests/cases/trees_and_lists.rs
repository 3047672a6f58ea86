//! Many jobs: discoveries, limits, lists.

use crawlwire_progress::discovery::{Budget, Verdict};
use crawlwire_progress::store::{ErrorFilter, JobFilter, Paging, Rejection};
use crawlwire_progress::view::ErrorRow;
use crawlwire_progress::{Op, Outcome, State, Timestamp};

use super::{ALL, refused, verdicts};
use crate::support::{Kit, complete, discover, fail, moved};

pub(crate) async fn discoveries_are_unique_for_good(kit: Kit) {
    use Verdict::{Accepted, Duplicate};
    let peer = kit.session("one").await;
    let root = kit.submit().await;
    let holder = kit.start(&root, &peer).await;
    let found = |prefix: &str| discover(root.key, &holder, prefix, &["a", "b", "a"]);
    assert_eq!(verdicts(kit.commit(found("x")).await), [Accepted, Accepted, Duplicate]);
    assert_eq!(
        verdicts(kit.commit(found("y")).await),
        [Duplicate, Duplicate, Duplicate]
    );
    let child = kit.store.job("x-a").await.unwrap().unwrap();
    assert_eq!(
        (child.parent_id.as_deref(), child.root_id.as_str(), child.depth),
        (Some(root.public_id.as_str()), root.public_id.as_str(), 1)
    );
    assert_eq!(
        (&child.spec.host, &child.spec.provider, &child.account_id),
        (&root.spec.host, &root.spec.provider, &root.account_id)
    );
    let child_holder = kit.start(&child, &peer).await;
    moved(kit.commit(complete(child.key, &child_holder)).await);
    assert_eq!(
        verdicts(kit.commit(found("z")).await),
        [Duplicate, Duplicate, Duplicate],
        "finished ones count"
    );
    let other = kit.store.job("x-b").await.unwrap().unwrap();
    let other_holder = kit.start(&other, &peer).await;
    assert_eq!(
        verdicts(kit.commit(discover(other.key, &other_holder, "w", &["a", "c"])).await),
        [Duplicate, Accepted],
        "found by another parent"
    );
    let grandchild = kit.store.job("w-c").await.unwrap().unwrap();
    assert_eq!((grandchild.depth, &grandchild.root_id), (2, &root.public_id));
    assert_eq!(kit.view(&root).await.tree.children, 2);
    assert_eq!(kit.arrows(&child).await[0], "discover");
    let apart = kit.submit().await;
    let apart_holder = kit.start(&apart, &peer).await;
    assert_eq!(
        verdicts(kit.commit(discover(apart.key, &apart_holder, "v", &["a"])).await),
        [Accepted],
        "another crawl is another world"
    );
}

pub(crate) async fn budgets_hold_discoveries_back(kit: Kit) {
    use Verdict::{Accepted, OverBudget};
    let peer = kit.session("one").await;
    let root = kit.submit().await;
    let holder = kit.start(&root, &peer).await;
    assert_eq!(
        verdicts(
            kit.commit(discover(root.key, &holder, "x", &["a", "b", "c", "d"]))
                .await
        ),
        [Accepted, Accepted, Accepted, OverBudget(Budget::Children)]
    );
    let child = kit.store.job("x-a").await.unwrap().unwrap();
    let holder = kit.start(&child, &peer).await;
    assert_eq!(
        verdicts(kit.commit(discover(child.key, &holder, "y", &["e", "f"])).await),
        [Accepted, OverBudget(Budget::Tree)]
    );
    let deep = kit.store.job("y-e").await.unwrap().unwrap();
    let holder = kit.start(&deep, &peer).await;
    assert_eq!(
        verdicts(kit.commit(discover(deep.key, &holder, "z", &["g"])).await),
        [OverBudget(Budget::Depth)]
    );
}

pub(crate) async fn a_full_queue_refuses_submissions_but_not_discoveries(kit: Kit) {
    let peer = kit.session("one").await;
    let first = kit.submit().await;
    let holder = kit.start(&first, &peer).await;
    kit.submit().await;
    kit.submit().await;
    let submit = || Op::Submit(Box::new(kit.new_job()));
    assert_eq!(refused(kit.commit(submit()).await), Rejection::QueueFull { limit: 2 });
    let found = kit.commit(discover(first.key, &holder, "x", &["a"])).await;
    assert_eq!(verdicts(found), [Verdict::Accepted]);
    for ready in kit.ready(10).await {
        kit.commit(peer.claims(ready.key)).await;
    }
    assert!(matches!(kit.commit(submit()).await, Outcome::Submitted(_)));
}

pub(crate) async fn lists_are_paged_and_filtered(kit: Kit) {
    let peer = kit.session("one").await;
    let mut jobs = Vec::new();
    for number in 0..7 {
        let mut new = kit.new_job();
        new.account_id = if number % 2 == 0 { "even" } else { "odd" }.to_owned();
        jobs.push(kit.submitted(new).await);
    }
    let holder = kit.start(&jobs[0], &peer).await;
    kit.commit(discover(jobs[0].key, &holder, "x", &["a", "b"])).await;
    moved(kit.commit(complete(jobs[0].key, &holder)).await);
    let holder = kit.start(&jobs[2], &peer).await;
    moved(kit.commit(fail(jobs[2].key, &holder, false)).await);
    kit.start(&jobs[3], &peer).await;
    kit.claim(&jobs[4], &peer).await;
    let list = async |filter: JobFilter| {
        let page = kit.store.jobs(filter, ALL).await.unwrap();
        assert_eq!(page.next, None);
        page.items.into_iter().map(|view| view.public_id).collect::<Vec<_>>()
    };
    let with = |states: &[State], account: Option<&str>| JobFilter {
        states: states.to_vec(),
        account_id: account.map(str::to_owned),
        ..JobFilter::default()
    };
    let id = |at: usize| jobs[at].public_id.clone();
    let (a, b) = ("x-a".to_owned(), "x-b".to_owned());
    assert_eq!(
        list(with(&[], None)).await,
        [b.clone(), a.clone(), id(6), id(5), id(4), id(3), id(2), id(1), id(0)]
    );
    assert_eq!(list(with(&[State::Failed], None)).await, [id(2)]);
    assert_eq!(
        list(with(&[State::Completed, State::Running, State::Assigned], None)).await,
        [id(4), id(3), id(0)]
    );
    assert_eq!(list(with(&[State::Queued], Some("odd"))).await, [id(5), id(1)]);
    assert_eq!(list(with(&[], Some("odd"))).await, [id(5), id(3), id(1)]);
    assert_eq!(list(with(&[], Some("nobody"))).await, Vec::<String>::new());
    assert_eq!(
        list(with(&[State::Delayed, State::Paused], None)).await,
        Vec::<String>::new()
    );
    let children = JobFilter {
        parent: Some(jobs[0].key),
        ..with(&[], Some("even"))
    };
    assert_eq!(list(children.clone()).await, [b, a]);
    let none = JobFilter {
        states: vec![State::Completed],
        ..children
    };
    assert_eq!(list(none).await, Vec::<String>::new());

    let mut after = None;
    let mut seen = Vec::new();
    loop {
        let paging = Paging { limit: 4, after };
        let page = kit.store.jobs(JobFilter::default(), paging).await.unwrap();
        seen.extend(page.items.into_iter().map(|view| view.public_id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, list(with(&[], None)).await, "each once, over three pages");
}

pub(crate) async fn histories_and_errors_are_paged(kit: Kit) {
    let peer = kit.session("one").await;
    let job = kit.submit().await;
    let holder = kit.start(&job, &peer).await;
    moved(kit.commit(complete(job.key, &holder)).await);
    let first = kit
        .store
        .events(job.key, Paging { limit: 3, after: None })
        .await
        .unwrap();
    assert_eq!(first.items.len(), 3);
    assert_eq!(
        (first.items[1].session.as_deref(), first.items[1].state),
        (Some("one"), State::Assigned)
    );
    let rest = Paging {
        limit: 3,
        after: first.next,
    };
    let rest = kit.store.events(job.key, rest).await.unwrap();
    assert_eq!((rest.items.len(), rest.next), (1, None));
    assert_eq!(rest.items[0].arrows, ["finish"]);

    let error = |number: i64| ErrorRow {
        at: Timestamp(number),
        category: "network",
        severity: "low",
        code: format!("code-{number}"),
        job: (number == 2).then(|| job.public_id.clone()),
        connection: None,
        message: "a\u{7}b".to_owned(),
    };
    kit.commit(Op::RecordErrors(vec![error(1), error(2), error(3)])).await;
    let newest = kit
        .store
        .errors(ErrorFilter::default(), Paging { limit: 2, after: None })
        .await
        .unwrap();
    let codes: Vec<_> = newest.items.iter().map(|error| error.code.as_str()).collect();
    assert_eq!(codes, ["code-3", "code-2"]);
    assert_eq!(newest.items[1].job, Some(job.public_id.clone()));
    assert_eq!(newest.items[0].message, "a\u{7}b");
    let last = Paging {
        limit: 2,
        after: newest.next,
    };
    let last = kit.store.errors(ErrorFilter::default(), last).await.unwrap();
    assert_eq!((last.items.len(), last.next), (1, None));
}
