//! Queries as the planner is asked about them by a test.

use crawlwire_progress::store::{ErrorFilter, JobFilter};
use crawlwire_progress::{AccountKey, JobKey, State};
use crawlwire_protocol::Severity;
use crawlwire_protocol::message::JobType;
use sea_orm::{DbBackend, Value};

use super::jobs::{NAMED_JOBS, OLDEST_QUEUED, below, last_looked_at};
use super::listing::Listing;
use super::records::{ERRORS, SESSIONS};
use crate::sql;

/// Queries over `jobs`, with values in the place of parameters; for the test that asks the planner about them. The first
/// account has the key 2, after the first job.
pub(crate) fn hot(backend: DbBackend) -> Vec<(String, String)> {
    let asked = r#"'{"after": 0, "lanes": 100, "per_lane": 10}'"#;
    let held = r#"'{"sessions": [1, 2, 3]}'"#;
    let mut texts = vec![
        ("ready".to_owned(), sql::READY.text(backend).replace("$1", asked)),
        ("held".to_owned(), sql::HELD.text(backend).replace("$1", held)),
        (
            "totals".to_owned(),
            sql::TOTALS.text(backend).replace("$1", r#"'{"limit": 100}'"#),
        ),
        (
            "type history".to_owned(),
            sql::TYPE_HISTORY.text(backend).replace("$1", r#"'{"limit": 5000}'"#),
        ),
        ("running".to_owned(), sql::RUNNING.text(backend).to_owned()),
        (
            "feed".to_owned(),
            sql::FEED
                .text(backend)
                .replace("$1", r#"'{"after": 10, "until": 500, "limit": 100}'"#),
        ),
        (
            "progress elsewhere".to_owned(),
            sql::PROGRESS_ELSEWHERE
                .text(backend)
                .replace("$1", r#"'{"server": "one", "at": 0, "job": 0, "limit": 500}'"#),
        ),
        ("oldest queued".to_owned(), OLDEST_QUEUED.to_owned()),
        ("sessions".to_owned(), SESSIONS.replace("$1", "0").replace("$2", "100")),
    ];
    for (name, filter) in filters() {
        let account = filter.account_id.as_ref().map(|_| AccountKey(2));
        let listing = Listing::of_jobs(backend, &filter, account);
        add(&mut texts, backend, NAMED_JOBS, (name, &listing));
    }
    for (name, filter) in error_filters() {
        let listing = Listing::of_errors(&filter);
        add(&mut texts, backend, ERRORS, (name, &listing));
    }
    for (root, top) in [(JobKey(1), JobKey(1)), (JobKey(1), JobKey(3))] {
        let bound = (root != top).then_some(10_000);
        let chosen = below(backend, (root, top), (0, bound), 51);
        texts.push((format!("below {top}"), format!("{NAMED_JOBS} {chosen}")));
    }
    texts.push(("bound below".to_owned(), last_looked_at(JobKey(1), 0)));
    texts
}

/// What lists are asked for, by name.
fn filters() -> Vec<(String, JobFilter)> {
    let account_id = Some("acme".to_owned());
    let each = State::ALL.iter().map(|state| vec![*state]).chain([Vec::new()]);
    let mut filters = Vec::new();
    for states in each {
        for account_id in [None, account_id.clone()] {
            for (parent, root) in [(None, None), (Some(JobKey(1)), None), (None, Some(JobKey(1)))] {
                filters.push(JobFilter {
                    states: states.clone(),
                    account_id: account_id.clone(),
                    parent,
                    root,
                    ..JobFilter::default()
                });
            }
        }
    }
    let searched: Vec<_> = filters
        .iter()
        .map(|filter| JobFilter {
            job_types: vec![JobType::CrawlUser],
            host: Some("https://x".to_owned()),
            tag: Some("tag".to_owned()),
            text: Some("text".to_owned()),
            ..filter.clone()
        })
        .collect();
    filters.extend(searched);
    let named = filters.into_iter().map(|filter| (format!("{filter:?}"), filter));
    named.collect()
}

fn add(texts: &mut Vec<(String, String)>, backend: DbBackend, select: &str, (name, listing): (String, &Listing)) {
    let (chosen, values) = listing.page(backend, 20_000, Some(10_000), 51);
    if let Some((text, values)) = listing.bound(20_000) {
        texts.push((format!("bound of {name}"), with_values(text, values)));
    }
    texts.push((name, with_values(format!("{select} {chosen}"), values)));
}

fn error_filters() -> Vec<(String, ErrorFilter)> {
    let mut filters = Vec::new();
    for job in [None, Some("some".to_owned())] {
        for severities in [Vec::new(), vec![Severity::High]] {
            filters.push(ErrorFilter {
                severities,
                job: job.clone(),
                ..ErrorFilter::default()
            });
        }
    }
    let named = filters.into_iter().map(|filter| (format!("{filter:?}"), filter));
    named.collect()
}

fn with_values(text: String, values: Vec<Value>) -> String {
    let numbered = values.into_iter().enumerate().rev();
    numbered.fold(text, |text, (number, value)| {
        text.replace(&format!("${}", number + 1), &value.to_string())
    })
}
