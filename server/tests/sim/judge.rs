//! What must be true in the end, whatever the weather was.

use crawlwire_progress::store::{JobFilter, Paging};
use crawlwire_progress::view::{EventView, JobView};
use crawlwire_progress::{State, Store};
use crawlwire_protocol::message::JobType;

use crate::crawler::{Book, FOUND};
use crate::disk::Disk;

const ALL: Paging = Paging {
    limit: 100_000,
    after: None,
};

/// Everything that is wrong.
pub(crate) async fn judge(disk: &Disk, book: &Book) -> Vec<String> {
    let (numbers, mut wrong) = disk.numbers();
    wrong.append(&mut book.words().wrong);
    let jobs = disk.memory.jobs(JobFilter::default(), ALL).await.expect("jobs").items;
    for job in &jobs {
        let events = disk.memory.events(job.key, ALL).await.expect("events").items;
        one(job, &events, &mut wrong);
        let children = JobFilter {
            parent: Some(job.key),
            ..JobFilter::default()
        };
        let children = disk.memory.jobs(children, ALL).await.expect("children").items.len();
        let found = if job.spec.job_type == JobType::DiscoverNamespaces {
            FOUND
        } else {
            0
        };
        if children != found {
            wrong.push(format!("{} has {children} children", job.public_id));
        }
    }
    let ended: Vec<_> = {
        let words = book.words();
        words.completed.iter().chain(&words.discovered).cloned().collect()
    };
    for id in &ended {
        if !jobs
            .iter()
            .any(|job| job.public_id == *id && job.state == State::Completed)
        {
            wrong.push(format!("the end of {id} was acknowledged, and is lost"));
        }
    }
    for session in disk.memory.sessions(usize::MAX).await.expect("sessions") {
        let instance = session.instance.expect("a crawler of the session protocol");
        let said = numbers.get(&session.key).copied().unwrap_or(0);
        if instance.high_water as u64 != said {
            wrong.push(format!(
                "{} is at {}, and said {said}",
                session.name, instance.high_water
            ));
        }
        if session.held > 0 {
            wrong.push(format!("{} still holds {} jobs", session.name, session.held));
        }
    }
    wrong
}

/// It has ended once, and every attempt but the first was due to a lease that ran out.
fn one(job: &JobView, events: &[EventView], wrong: &mut Vec<String>) {
    let arrows = events.iter().flat_map(|event| &event.arrows);
    let count = |name: &str| arrows.clone().filter(|arrow| *arrow == name).count();
    let (starts, finishes, expired) = (count("start"), count("finish"), count("expire"));
    let lawful = job.state == State::Completed
        && finishes == 1
        && starts == job.attempt as usize
        && starts <= 1 + expired
        && count("deadline") + count("return") + count("force") == 0;
    if !lawful {
        let history: Vec<_> = events.iter().map(|event| (event.at, event.arrows.join(","))).collect();
        wrong.push(format!(
            "{} is {} in attempt {}: {history:?}",
            job.public_id, job.state, job.attempt
        ));
    }
}
