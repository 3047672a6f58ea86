//! What lists can be asked for.

use crawlwire_progress::job::State;
use crawlwire_progress::store::{Act, ErrorFilter, JobFilter, Paging};
use crawlwire_progress::view::{ErrorRow, JobView};
use crawlwire_progress::{JobKey, Op, Timestamp};
use crawlwire_protocol::message::JobType;
use crawlwire_protocol::{Category, Severity};

use super::ALL;
use crate::support::{Kit, discover, report};

/// Names of the jobs that fit, newest first.
async fn names(kit: &Kit, filter: JobFilter) -> Vec<String> {
    let page = kit.store.jobs(filter, ALL).await.unwrap();
    assert_eq!(page.next, None);
    page.items.into_iter().map(|job| job.web_app_job_id).collect()
}

pub(crate) async fn lists_are_searched(kit: Kit) {
    for (name, account, host, entity, tags) in [
        ("one", "acme", "https://a.example", "17", vec!["nightly", "a"]),
        ("two%", "acme", "https://b.example", "1_7", vec!["Nightly"]),
        (
            "three_\\",
            "Äcme'; --",
            "https://a.example",
            "170",
            vec!["\"],[\"", ","],
        ),
        ("vier Ä", "other", "https://a.example", "x", vec!["night", "ly", "a\\b"]),
    ] {
        let mut new = kit.new_job();
        new.web_app_job_id = Some(name.to_owned());
        new.account_id = account.to_owned();
        new.spec.host = host.to_owned();
        new.spec.entity_id = Some(entity.to_owned());
        new.spec.namespace_path = None;
        new.spec.tags = tags.into_iter().map(str::to_owned).collect();
        if name == "vier Ä" {
            new.spec.job_type = JobType::CrawlUser;
        }
        kit.submitted(new).await;
    }
    let (one, two, three, four) = ("one", "two%", "three_\\", "vier Ä");
    let text = |text: &str| JobFilter {
        text: Some(text.to_owned()),
        ..JobFilter::default()
    };
    for (searched, found) in [
        ("ONE", vec![one]),
        ("%", vec![two]),
        ("_", vec![three, two]),
        ("\\", vec![three]),
        ("17", vec![three, one]),
        ("1_7", vec![two]),
        ("acme", vec![two, one]),
        ("CME", vec![three, two, one]),
        ("'; --", vec![three]),
        // Only letters of ASCII are the same, large or small.
        ("Ä", vec![four, three]),
        ("ä", vec![]),
        ("job-", vec![four, three, two, one]),
        ("$1", vec![]),
        ("', ''", vec![]),
    ] {
        assert_eq!(names(&kit, text(searched)).await, found, "{searched}");
    }
    let tag = |tag: &str| JobFilter {
        tag: Some(tag.to_owned()),
        ..JobFilter::default()
    };
    for (searched, found) in [
        ("nightly", vec![one]),
        ("Nightly", vec![two]),
        ("night", vec![four]),
        (",", vec![three]),
        ("\"],[\"", vec![three]),
        ("a\\b", vec![four]),
        ("a", vec![one]),
        ("\"", vec![]),
        ("[", vec![]),
        ("\",\"", vec![]),
    ] {
        assert_eq!(names(&kit, tag(searched)).await, found, "{searched}");
    }
    let host = |host: &str| JobFilter {
        host: Some(host.to_owned()),
        ..JobFilter::default()
    };
    assert_eq!(names(&kit, host("https://a.example")).await, [four, three, one]);
    assert_eq!(names(&kit, host("https://c.example")).await, Vec::<String>::new());
    let users = JobFilter {
        job_types: vec![JobType::CrawlUser, JobType::CrawlGroup],
        ..JobFilter::default()
    };
    assert_eq!(names(&kit, users.clone()).await, [four]);
    let all_of_it = JobFilter {
        states: vec![State::Queued, State::Failed],
        account_id: Some("other".to_owned()),
        host: Some("https://a.example".to_owned()),
        tag: Some("ly".to_owned()),
        text: Some("VIER".to_owned()),
        ..users
    };
    assert_eq!(names(&kit, all_of_it.clone()).await, [four]);
    let another = JobFilter {
        states: vec![State::Failed],
        ..all_of_it
    };
    assert_eq!(names(&kit, another).await, Vec::<String>::new());
    // Page by page it is the same.
    let first = kit
        .store
        .jobs(text("_"), Paging { limit: 1, after: None })
        .await
        .unwrap();
    assert_eq!(first.items[0].web_app_job_id, three);
    let paging = Paging {
        limit: 1,
        after: first.next,
    };
    let second = kit.store.jobs(text("_"), paging).await.unwrap();
    assert_eq!((second.items[0].web_app_job_id.as_str(), second.next), (two, None));
}

pub(crate) async fn trees_are_listed_from_any_job_on(kit: Kit) {
    let peer = kit.session("one").await;
    let root = kit.submit().await;
    let apart = kit.submit().await;
    let holder = kit.start(&root, &peer).await;
    kit.commit(discover(root.key, &holder, "x", &["a", "b"])).await;
    let find = async |id: &str| kit.store.job(id).await.unwrap().unwrap();
    let (a, b) = (find("x-a").await, find("x-b").await);
    let holder = kit.start(&a, &peer).await;
    kit.commit(discover(a.key, &holder, "y", &["c", "d"])).await;
    let d = find("y-d").await;
    let holder = kit.start(&d, &peer).await;
    kit.commit(discover(d.key, &holder, "z", &["e"])).await;
    let below = async |top: &JobView, limit: usize| {
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let page = kit.store.tree(top.key, Paging { limit, after }).await.unwrap();
            assert!(page.items.len() <= limit);
            ids.extend(page.items.into_iter().map(|job| job.public_id));
            after = page.next;
            if after.is_none() {
                return ids;
            }
        }
    };
    for limit in [1, 2, 100] {
        let whole = [&root.public_id, "x-a", "x-b", "y-c", "y-d", "z-e"];
        assert_eq!(below(&root, limit).await, whole, "parents before children");
        assert_eq!(below(&a, limit).await, ["x-a", "y-c", "y-d", "z-e"]);
        assert_eq!(below(&d, limit).await, ["y-d", "z-e"]);
        assert_eq!(below(&b, limit).await, ["x-b"]);
        assert_eq!(below(&apart, limit).await, [apart.public_id.as_str()]);
    }
    let gone = JobView {
        key: JobKey(i64::MAX),
        ..root.clone()
    };
    assert!(below(&gone, 10).await.is_empty());
    let of_root = |job: &JobView| JobFilter {
        root: Some(job.key),
        ..JobFilter::default()
    };
    let ids = async |filter: JobFilter| {
        let page = kit.store.jobs(filter, ALL).await.unwrap();
        page.items.into_iter().map(|job| job.public_id).collect::<Vec<_>>()
    };
    let whole = ["z-e", "y-d", "y-c", "x-b", "x-a", &root.public_id];
    assert_eq!(ids(of_root(&root)).await, whole);
    assert_eq!(ids(of_root(&apart)).await, [apart.public_id.as_str()]);
    assert!(ids(of_root(&a)).await.is_empty(), "no submitted job");
    let queued = JobFilter {
        states: vec![State::Queued],
        ..of_root(&root)
    };
    assert_eq!(ids(queued.clone()).await, ["z-e", "y-c", "x-b"]);
    let children = JobFilter {
        parent: Some(a.key),
        ..queued
    };
    assert_eq!(ids(children).await, ["y-c"]);
    kit.act(&apart, Act::Cancel).await;
    let cancelled = JobFilter {
        states: vec![State::Cancelled],
        ..of_root(&apart)
    };
    assert_eq!(ids(cancelled).await, [apart.public_id]);
}

pub(crate) async fn reports_are_read_together(kit: Kit) {
    let peer = kit.session("one").await;
    let (one, two, none) = (kit.submit().await, kit.submit().await, kit.submit().await);
    for (job, n) in [(&one, 3), (&two, 4)] {
        let holder = kit.start(job, &peer).await;
        kit.commit(Op::Progress(vec![(job.key, holder.lease(), report(n))]))
            .await;
    }
    let read = kit
        .store
        .trackers(vec![one.key, two.key, none.key, JobKey(i64::MAX)])
        .await
        .unwrap();
    assert_eq!(read.len(), 2);
    for job in [&one, &two] {
        let alone = kit.store.progress(job.key).await.unwrap().unwrap();
        let together = &read[&job.key];
        assert_eq!((together.n, &together.said), (alone.n, &alone.said));
        assert!(together.history.points().is_empty());
    }
    assert!(kit.store.trackers(Vec::new()).await.unwrap().is_empty());
}

pub(crate) async fn errors_are_found_by_what_they_are(kit: Kit) {
    let error = |number: i64, category, severity, job: Option<&str>| ErrorRow {
        at: Timestamp(number),
        category,
        severity,
        code: format!("code-{number}"),
        job: job.map(str::to_owned),
        connection: None,
        message: "text".to_owned(),
    };
    let rows = vec![
        error(1, "network", "low", Some("one")),
        error(2, "network", "high", None),
        error(3, "database", "high", Some("two")),
        error(4, "internal", "critical", Some("one")),
    ];
    kit.commit(Op::RecordErrors(rows)).await;
    let codes = async |filter: ErrorFilter| {
        let page = kit.store.errors(filter, ALL).await.unwrap();
        assert_eq!(page.next, None);
        page.items.into_iter().map(|error| error.at.0).collect::<Vec<_>>()
    };
    let job = |job: &str| ErrorFilter {
        job: Some(job.to_owned()),
        ..ErrorFilter::default()
    };
    assert_eq!(codes(ErrorFilter::default()).await, [4, 3, 2, 1]);
    assert_eq!(codes(job("one")).await, [4, 1]);
    assert_eq!(codes(job("One")).await, Vec::<i64>::new());
    let high = ErrorFilter {
        severities: vec![Severity::High, Severity::Critical],
        ..ErrorFilter::default()
    };
    assert_eq!(codes(high.clone()).await, [4, 3, 2]);
    let network = ErrorFilter {
        categories: vec![Category::Network],
        ..high.clone()
    };
    assert_eq!(codes(network).await, [2]);
    assert_eq!(
        codes(ErrorFilter {
            severities: high.severities,
            ..job("one")
        })
        .await,
        [4]
    );
    let first = kit
        .store
        .errors(job("one"), Paging { limit: 1, after: None })
        .await
        .unwrap();
    let paging = Paging {
        limit: 1,
        after: first.next,
    };
    let second = kit.store.errors(job("one"), paging).await.unwrap();
    assert_eq!((second.items[0].at.0, second.next), (1, None));
}
