//! What new jobs are expected to be: by the word of who found them, or the history of their types, read now and then.

mod support;

use crawlwire_progress::store::NewJob;
use crawlwire_progress::view::JobSpec;
use crawlwire_progress::weight::Weighed;
use crawlwire_protocol::message::JobType;
use serde_json::json;

use support::*;

fn project(id: &str) -> NewJob {
    NewJob {
        spec: JobSpec::new(JobType::CrawlProject, "gitlab.example"),
        ..new_job(id)
    }
}

/// Runs jobs of ten items each to their end.
async fn run(server: &Server, crawler: &mut Crawler, jobs: &[&str]) {
    for id in jobs {
        server.submit_job(project(id)).await;
        crawler.assignment().await;
        done(crawler.say(say::completed(id)).await);
    }
}

/// Waits for the next look at the history.
async fn looked_back(server: &Server) {
    let mut looks = server.store.looks_back.subscribe();
    let before = *looks.borrow();
    looks.wait_for(|looks| *looks > before).await.unwrap();
    // The router takes in what it read before anything else happens.
    tokio::task::yield_now().await;
}

/// What the tree of a submitted job weighs.
async fn weighed(server: &Server, id: &str) -> (u64, u64) {
    let Weighed { jobs, items } = server.job(id).await.tree.weighed;
    (jobs, items)
}

#[tokio::test(start_paused = true)]
async fn new_jobs_weigh_what_those_of_their_type_were() {
    let server = Server::by_hand(config()).await;
    let mut crawler = server.crawler().await;
    run(&server, &mut crawler, &["a", "b"]).await;
    looked_back(&server).await;
    run(&server, &mut crawler, &["c"]).await;
    assert_eq!(weighed(&server, "c").await, (0, 0), "two jobs say nothing");
    looked_back(&server).await;

    server.submit("root").await;
    crawler.assignment().await;
    assert_eq!(weighed(&server, "root").await, (0, 0), "groups have no history");
    done(crawler.say(say::discovered("root", &["x", "y"])).await);
    assert_eq!(weighed(&server, "root").await, (2, 20));
    let large = json!([{
        "job_type": "crawl_project", "entity_id": "z", "namespace_path": "z", "entity_name": "z",
        "estimated_size": { "issues": 500, "merge_requests": 200 },
    }]);
    done(crawler.say(say::found("root", &large)).await);
    assert_eq!(weighed(&server, "root").await, (3, 720), "who found it knows better");

    server.store.leave();
    looked_back(&server).await;
    server.store.come_back();
    server.submit_job(project("d")).await;
    assert_eq!(weighed(&server, "d").await, (1, 10), "what was known stays");
    server.stop().await;
}
