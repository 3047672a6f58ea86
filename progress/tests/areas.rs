//! Areas: the places that crawls found, and who may see them.

mod support;

use crawlwire_progress::store::Holder;
use crawlwire_progress::{JobKey, Policy, SessionKey};
use crawlwire_protocol::message::{DiscoveredJob, JobType};

use support::*;

fn crawl(world: &World, account_id: &str, session: SessionKey) -> (JobKey, Holder) {
    let id = format!("{account_id}-{}", world.store.rows().len());
    let mut new = new_job(&id);
    new.account_id = account_id.to_owned();
    world.submit(new);
    let job = world.store.rows().last().unwrap().key;
    (job, world.running(job, session))
}

fn at(path: &str) -> Vec<(String, DiscoveredJob)> {
    let mut items = groups(&["place"]);
    items[0].1.namespace_path = path.to_owned();
    items
}

fn paths(world: &World, account_id: &str) -> Vec<String> {
    world.areas(account_id).into_iter().map(|area| area.path).collect()
}

#[test]
fn a_place_is_kept_once_with_its_newest_path_whoever_finds_it() {
    let world = World::new(Policy::default());
    let session = world.open("s", None);
    let (acme, acme_holder) = crawl(&world, "acme", session);
    let (other, other_holder) = crawl(&world, "other", session);
    world.store.apply(discover(acme, &acme_holder, at("old")));
    let since = world.now();
    world.store.apply(discover(acme, &acme_holder, at("old")));
    assert_eq!(paths(&world, "acme"), ["old"]);
    assert_eq!(paths(&world, "other"), [""; 0], "not seen yet");

    world.later(std::time::Duration::from_secs(1));
    world.store.apply(discover(other, &other_holder, at("new")));
    let (mine, theirs) = (world.areas("acme").remove(0), world.areas("other").remove(0));
    assert_eq!((mine.id, &*mine.path), (theirs.id, "new"), "one place");
    assert_eq!((mine.since, theirs.since), (since, world.now()));
    assert_eq!(
        (&*mine.host, &*mine.kind, &*mine.entity_id, &*mine.name),
        (HOST, "group", "place", "place")
    );
    assert_eq!(world.areas("nobody"), []);
}

#[test]
fn of_two_who_find_a_place_in_one_batch_the_later_one_names_it() {
    for order in [[0, 1], [1, 0]] {
        let world = World::new(Policy::default());
        let session = world.open("s", None);
        let crawls = ["acme", "other"].map(|account| crawl(&world, account, session));
        let ops = order.map(|who| {
            let (job, holder) = &crawls[who];
            discover(*job, holder, at(&format!("found by {who}")))
        });
        world.store.apply_all(ops.to_vec());
        let last = vec![format!("found by {}", order[1])];
        assert_eq!((paths(&world, "acme"), paths(&world, "other")), (last.clone(), last));
    }
}

#[test]
fn what_is_no_new_job_is_a_place_all_the_same_and_a_search_is_none() {
    let world = World::new(Policy {
        children_max: 0,
        ..Policy::default()
    });
    let session = world.open("s", None);
    let (job, holder) = crawl(&world, "acme", session);
    let found = [
        JobType::CrawlUser,
        JobType::CrawlGroup,
        JobType::CrawlProject,
        JobType::DiscoverNamespaces,
    ];
    let items = found.map(|job_type| (format!("{job_type:?}"), item(job_type, "1")));
    world.store.apply(discover(job, &holder, items.to_vec()));
    assert_eq!(world.store.rows().len(), 1, "over budget");
    let mut kinds: Vec<_> = world.areas("acme").into_iter().map(|area| area.kind).collect();
    kinds.sort();
    assert_eq!(kinds, ["group", "project", "user"]);
    let stale = Holder {
        fence: holder.fence.next(),
        ..holder
    };
    world.store.apply(discover(job, &stale, groups(&["2"])));
    assert_eq!(world.areas("acme").len(), 3, "a line of a lost lease finds nothing");
}
