//! Answers that are lost with their connection.

use crawlwire_persistence::testing::TestDatabase;
use serde_json::json;

use crate::support::session::hello;
use crate::support::{SessionCrawler, Setup, on_both_databases, wait_until};

on_both_databases!(an_end_that_was_refused_is_no_success_to_the_next_connection);

fn an_end_that_was_refused_is_no_success_to_the_next_connection(database: TestDatabase) {
    let mut server = Setup::new(database).start();
    let mut greeting = hello("alpha", 1);
    // Nobody asks it to stop: what is wished of its jobs is done at once.
    greeting["features"] = json!([]);
    let mut crawler = SessionCrawler::begin(server.connect(), greeting);
    assert_eq!(crawler.welcome["refused"], json!([]));
    let (lost, ended) = (server.api().submit("crawl_project"), server.api().submit("crawl_user"));
    let mut jobs = [crawler.assignment(), crawler.assignment()];
    jobs.sort_by_key(|job| job.id != lost);
    for job in &jobs {
        crawler.started(job);
    }
    crawler.settle();
    let api = server.api();
    api.act(&lost, "cancel", &json!({ "by": "ada" })).ok();
    api.await_status(&lost, "cancelled");

    // Both are settled, and the crawler is gone before it hears how.
    crawler.completed(&jobs[0]);
    let last = crawler.completed(&jobs[1]);
    wait_until("its last number is settled", || {
        (api.crawlers()[0]["high_water_seq"] == last).then_some(())
    });
    crawler.vanish();
    server.kill();
    server.start();
    crawler.come_back(server.connect(), &[&jobs[0], &jobs[1]]);
    let welcome = &crawler.welcome;
    assert_eq!(
        (&welcome["high_water_seq"], &welcome["leases"]),
        (&json!(last), &json!([]))
    );
    assert_eq!(welcome["refused"], json!([{ "seq": last - 1, "code": "not_held" }]));
    let api = server.api();
    assert_eq!(api.job(&lost)["status"], "cancelled");
    assert_eq!(api.job(&ended)["status"], "completed");
}
