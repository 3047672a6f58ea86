//! Jobs read together, by their rows; and which waits longest.

use std::time::Duration;

use crawlwire_progress::JobKey;
use crawlwire_progress::store::Act;

use crate::support::Kit;

pub(crate) async fn jobs_are_read_together(kit: Kit) {
    let first = kit.submit().await;
    let second = kit.submit().await;
    let gone = JobKey(second.key.0 + 1_000_000);
    let views = kit.store.views(vec![second.key, gone, first.key]).await.unwrap();
    let keys: Vec<_> = views.keys().copied().collect();
    assert_eq!(keys, [first.key, second.key]);
    for job in [&first, &second] {
        assert_eq!(
            Some(views[&job.key].clone()),
            kit.store.job(&job.public_id).await.unwrap()
        );
    }
    assert!(kit.store.views(Vec::new()).await.unwrap().is_empty());
}

pub(crate) async fn the_oldest_of_those_that_wait_is_known(kit: Kit) {
    assert_eq!(kit.store.oldest_queued().await.unwrap(), None);
    let first = kit.submit().await;
    kit.pass(Duration::from_secs(1));
    let second = kit.submit().await;
    assert_eq!(kit.store.oldest_queued().await.unwrap(), Some(first.created_at));
    kit.act(&first, Act::Pause).await;
    assert_eq!(kit.store.oldest_queued().await.unwrap(), Some(second.created_at));
}
