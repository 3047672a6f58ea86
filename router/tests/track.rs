//! How far jobs are: what is followed, told, written, and noticed by the clock.

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use crawlwire_progress::admit::Gate;
use crawlwire_progress::track::{Activity, IssueKind, Milestones, NoEstimate, Phase};
use crawlwire_progress::{Arrow, Policy, State};
use crawlwire_router::{Event, ProgressConfig, RouterConfig, Standing};

use support::*;

const NEVER: Duration = Duration::from_secs(3600);

/// Soon enough to be waited for, long enough not to come at once.
const SOON: Duration = Duration::from_millis(40);

fn stalled_after(span: Duration) -> RouterConfig {
    RouterConfig {
        progress: ProgressConfig {
            quiet_after: span,
            stalled_after: span,
            ..ProgressConfig::default()
        },
        ..config()
    }
}

/// A crawler that works on a job.
async fn working(server: &Server, id: &str) -> Crawler {
    let mut crawler = server.crawler().await;
    server.submit(id).await;
    crawler.assignment().await;
    done(crawler.say(say::started(id)).await);
    crawler
}

async fn standing(server: &Server, id: &str) -> Standing {
    server.router.standing(&server.job(id).await).await.unwrap()
}

/// What was told of work, in order, until a job ended. Counters and jobs are told apart by their names.
async fn told_until_the_end(server: &mut Server) -> Vec<String> {
    let mut told = Vec::new();
    server
        .event("the end", |event| {
            match event {
                Event::EntityDiscovered { entity, .. } => told.push(format!("found {}", entity.entity_type)),
                Event::EntityCompleted { entity, .. } => told.push(format!("through {}", entity.entity_type)),
                Event::PhaseChanged { from, to, .. } => told.push(format!("{from} > {to}")),
                Event::TreeMilestone(passed) => told.push(format!("tree {}", passed.percent)),
                Event::Milestone { milestone, .. } => {
                    let of = milestone.entity.map_or("job".to_owned(), |entity| entity.entity_type);
                    told.push(format!("{of} {}", milestone.percent));
                    return (told.last()? == "issues 100").then_some(());
                }
                _ => {}
            }
            None
        })
        .await;
    told
}

#[tokio::test]
async fn what_becomes_of_the_work_is_told_once() {
    let mut server = Server::start();
    let crawler = working(&server, "a").await;
    for (done_by_then, remaining) in [(0, 100), (30, 70), (30, 70), (60, 40)] {
        done(crawler.say(say::counted("a", 50, done_by_then, remaining)).await);
    }
    done(crawler.say(say::completed("a")).await);
    let told = told_until_the_end(&mut server).await;
    let mut expected = vec![
        "found issues",
        "initializing > discovering",
        "discovering > processing",
        "issues 25",
        "job 25",
        "issues 50",
        "job 50",
        "processing > completed",
        "through issues",
        "issues 75",
        "issues 90",
        "issues 100",
        "job 75",
        "job 90",
        "job 100",
        "tree 25",
        "tree 50",
        "tree 75",
        "tree 90",
        "tree 100",
    ];
    let mut sorted = told.clone();
    sorted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sorted, expected, "{told:?}");
}

#[tokio::test]
async fn a_milestone_is_written_at_once() {
    let server = Server::with(
        RouterConfig {
            flush_interval: NEVER,
            ..config()
        },
        Policy::default(),
    );
    // The first flush is at once; this report must not be among what it writes.
    server.renewed().await;
    let crawler = working(&server, "a").await;
    done(crawler.say(say::counted("a", 100, 24, 76)).await);
    done(crawler.say(say::counted("a", 100, 26, 74)).await);
    let stored = server.stored_progress("a", |_| true).await;
    assert_eq!(stored.work().done, 26);
    assert_eq!(stored.milestones().len(), 1);
}

#[tokio::test]
async fn a_job_that_does_not_go_forward_is_noticed_once() {
    let mut server = Server::with(stalled_after(SOON), Policy::default());
    let crawler = working(&server, "a").await;
    let is_stalled = |event| match event {
        Event::Stalled { public_id, .. } => Some(public_id),
        _ => None,
    };
    // It has said nothing but that it began.
    assert_eq!(server.event("that it is stalled", is_stalled).await, "a");
    assert_eq!(standing(&server, "a").await.snapshot.activity, Some(Activity::Stalled));
    let errors = server.errors(1).await;
    assert_eq!(
        (
            errors[0].code.as_str(),
            errors[0].category.as_str(),
            errors[0].job.as_deref()
        ),
        ("job_stalled", "job_processing", Some("a"))
    );

    // It speaks, and goes forward.
    done(crawler.say(say::counted("a", 100, 10, 90)).await);
    let stored = server.stored_progress("a", |tracker| tracker.work().done == 10).await;
    assert_eq!(stored.issues()[0].kind, IssueKind::Stalled);
    // It speaks, and does not.
    let mut times = 0;
    while times < 2 {
        done(crawler.say(say::counted("a", 100, 10, 90)).await);
        let issues = server.router.progress(server.job("a").await.key).unwrap();
        times = issues.issues()[0].times;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(server.event("that it is stalled again", is_stalled).await, "a");
}

#[tokio::test]
async fn behind_a_closed_gate_a_job_waits_and_is_not_stalled() {
    let mut server = Server::with(stalled_after(SOON), Policy::default());
    let crawler = working(&server, "a").await;
    done(crawler.say(say::counted("a", 100, 10, 90)).await);
    let gate = Gate::Host("gitlab.example".to_owned());
    server
        .router
        .close_gate(gate.clone(), None, None, "somebody")
        .await
        .unwrap();
    // So many looks that it would be stalled long since.
    let began = tokio::time::Instant::now();
    while began.elapsed() < SOON * 4 {
        server.renewed().await;
    }
    let waiting = standing(&server, "a").await;
    assert_eq!(waiting.snapshot.activity, Some(Activity::Waiting));
    assert_eq!(waiting.snapshot.eta, Err(NoEstimate::Waiting));
    assert!(waiting.tracker.waited(waiting.at) >= SOON * 2);
    assert!(waiting.tracker.issues().is_empty());
    server.router.open_gate(gate, "somebody").await.unwrap();
    let stalled = server.event("that it is stalled", |event| match event {
        Event::Stalled { public_id, .. } => Some(public_id),
        _ => None,
    });
    assert_eq!(stalled.await, "a", "nothing holds it back any more");
}

#[tokio::test]
async fn the_next_attempt_knows_what_was_passed_and_begins_its_counts_anew() {
    let mut server = Server::start();
    let mut crawler = working(&server, "a").await;
    done(crawler.say(say::counted("a", 100, 60, 40)).await);
    assert_eq!(standing(&server, "a").await.tracker.milestones().len(), 2);
    done(crawler.say(say::failed_without_counts("a")).await);
    assert_eq!(server.arrow("a", Arrow::Finish).await.state, State::Delayed);
    let between = standing(&server, "a").await;
    assert_eq!(
        (between.snapshot.phase, between.snapshot.eta),
        (Phase::Initializing, Err(NoEstimate::NotStarted))
    );
    assert_eq!(between.tracker.work().done, 60, "as it was when it failed");
    server.store.later(Duration::from_secs(3600));
    crawler.assignment().await;
    done(crawler.say(say::counted("a", 100, 61, 39)).await);
    let again = standing(&server, "a").await;
    assert_eq!((again.tracker.attempt, again.tracker.milestones().len()), (2, 2));
    assert_eq!((again.snapshot.error_rate, again.snapshot.retry_rate), (0.5, 0.5));
    done(crawler.say(say::counted("a", 100, 76, 24)).await);
    let passed = server.event("the next milestone", |event| match event {
        Event::Milestone { milestone, .. } if milestone.attempt == 2 && milestone.entity.is_none() => {
            Some(milestone.percent)
        }
        _ => None,
    });
    assert_eq!(passed.await, 75);
}

#[tokio::test]
async fn another_connection_goes_on_with_the_same_numbers() {
    let server = Server::start();
    let mut first = server.connect(Some("unix:1"));
    done(first.say(say::heartbeat()).await);
    server.submit("a").await;
    first.assignment().await;
    done(first.say(say::counted("a", 100, 60, 40)).await);
    let before = standing(&server, "a").await.tracker;
    first.leave().await;
    let stored = standing(&server, "a").await;
    assert_eq!(
        (stored.tracker.work(), stored.snapshot.clocks.link_at),
        (before.work(), None)
    );
    let second = server.connect(Some("unix:1"));
    done(second.say(say::counted("a", 100, 60, 40)).await);
    let after = standing(&server, "a").await;
    assert_eq!(after.tracker.work(), before.work(), "what was done stays done");
    assert_eq!(after.tracker.milestones(), before.milestones());
    assert_eq!(after.tracker.began_at(), before.began_at());
    assert!(after.tracker.n > before.n && after.snapshot.clocks.link_at.is_some());
}

/// 100 jobs, about each of which a crawler reports 50 times a second. Time is simulated, so the number of flushes is exact.
#[tokio::test(start_paused = true)]
async fn what_busy_jobs_cost_is_bound_by_the_flushes() {
    const JOBS: usize = 100;
    const REPORTS: u64 = 100;
    const FLUSHES: usize = 4;
    let between = Duration::from_millis(20);
    let config = RouterConfig {
        slots_per_crawler: JOBS,
        flush_interval: between * 25,
        sweep_interval: Duration::from_secs(1),
        ..config()
    };
    // Milestones are written at once, and are counted elsewhere.
    let milestones = Milestones::try_from(vec![]).unwrap();
    let policy = Policy {
        milestones,
        ..Policy::default()
    };
    let server = Server::with(config, policy);
    let mut crawler = server.crawler().await;
    let mut jobs: Vec<String> = (0..JOBS).map(|number| format!("job-{number}")).collect();
    for job in &jobs {
        server.submit(job).await;
        crawler.assignment().await;
        done(crawler.say(say::started(job)).await);
    }
    let before = server.store.progress_rows.load(Ordering::Relaxed);
    for number in 1..=REPORTS {
        // Whose turn comes first does not matter.
        jobs.rotate_left(7);
        for job in &jobs {
            done(crawler.say(say::counted(job, REPORTS, number, REPORTS - number)).await);
        }
        tokio::time::sleep(between).await;
    }
    let rows = server.store.progress_rows.load(Ordering::Relaxed) - before;
    assert!((JOBS..=JOBS * (FLUSHES + 1)).contains(&rows), "{rows} rows");
    tokio::time::sleep(between * 26).await;
    for job in &jobs {
        let stored = server.stored_progress(job, |_| true).await;
        assert_eq!(stored.work().done, REPORTS, "{job}: nothing is older than a flush");
    }
}
