//! Figures of the whole: how many jobs, how fast, how busy.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::{Json, Router, routing};
use crawlwire_progress::admit::Gate;
use crawlwire_progress::view::StateCounts;
use crawlwire_progress::{State as JobState, StoreError};
use crawlwire_protocol::message::Role;
use crawlwire_router::{SessionInfo, Stats};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::problem::Problem;
use super::{Api, json};

/// The time that rates are told of.
const WINDOW: Duration = Duration::from_secs(60);

/// Below this span a rate would say more of chance than of speed.
const WINDOW_MIN: Duration = Duration::from_secs(1);

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/statistics", routing::get(statistics))
}

async fn statistics(state: State<Api>) -> Result<Json<Value>, Problem> {
    Ok(Json(read(&state).await?))
}

/// What was counted at some moments of the last minute. Taken every few seconds, and so bounded.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<VecDeque<(Instant, Stats)>>);

/// How much happened in a second.
#[derive(Debug, PartialEq)]
struct Rates {
    completed: f64,
    failed: f64,
    reports: f64,
    items: f64,
}

impl Meter {
    /// Remembers what was counted by now.
    pub(crate) fn sample(&self, stats: Stats) {
        self.sample_at(stats, Instant::now());
    }

    fn sample_at(&self, stats: Stats, now: Instant) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The youngest that is a whole window old stays.
        while samples.get(1).is_some_and(|(at, _)| *at + WINDOW <= now) {
            samples.pop_front();
        }
        samples.push_back((now, stats));
    }

    /// Over the last minute, or as long as it has been counted.
    fn rates(&self, now: Stats, at: Instant) -> Rates {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let within = samples.iter().find(|(taken, _)| *taken + WINDOW > at);
        let (since, before) = within.or(samples.back()).copied().unwrap_or((at, now));
        let seconds = at.saturating_duration_since(since).max(WINDOW_MIN).as_secs_f64();
        let rate = |of: fn(&Stats) -> u64| of(&now).saturating_sub(of(&before)) as f64 / seconds;
        Rates {
            completed: rate(|stats| stats.completed),
            failed: rate(|stats| stats.failed_jobs),
            reports: rate(|stats| stats.reports),
            items: rate(|stats| stats.items),
        }
    }
}

/// How many jobs there are in each state, by its name.
pub(super) fn by_state(counts: &StateCounts) -> impl Iterator<Item = (String, Value)> {
    let count = |state: &JobState| counts.get(state).copied().unwrap_or(0);
    JobState::ALL
        .iter()
        .map(move |state| (state.as_str().to_owned(), count(state).into()))
}

/// All figures, as they are now.
pub(super) async fn read(api: &Api) -> Result<Value, StoreError> {
    let counts = api.store.counts().await?;
    let waiting = counts.get(&JobState::Queued).copied().unwrap_or(0);
    let oldest = match waiting {
        0 => None,
        _ => api.store.oldest_queued().await?,
    };
    let now = json::clock();
    let is_paused = api
        .router
        .gates()
        .await?
        .iter()
        .any(|closed| closed.gate == Gate::Queue);
    let sessions = api.router.sessions();
    let crawlers: Vec<_> = sessions.iter().filter(|info| works(info)).collect();
    let errors = api.router.errors_lately();
    let rates = api.meter.rates(api.router.stats(), Instant::now());
    Ok(json!({
        "counts": by_state(&counts).collect::<Map<_, _>>(),
        "queue": {
            "paused": is_paused,
            "waiting": waiting,
            "oldest_ms": oldest.map(|oldest| now.since(oldest).as_millis() as u64),
        },
        "crawlers": crawlers.len(),
        "slots": slots(&crawlers),
        "rates": {
            "finished_per_minute": rounded(rates.completed * 60.0),
            "failed_per_minute": rounded(rates.failed * 60.0),
            "items_per_second": rounded(rates.items),
            "reports_per_second": rounded(rates.reports),
        },
        "errors": { "last_hour": errors.values().sum::<u64>(), "by_category": errors },
        "server": {
            "name": api.name,
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_ms": api.status.uptime().as_millis() as u64,
            "database": api.database,
        },
        "at": json::time(now),
    }))
}

/// Whether it takes jobs. Who only looks has no places.
fn works(info: &SessionInfo) -> bool {
    info.greeting
        .as_ref()
        .is_none_or(|greeting| greeting.role == Role::Crawler)
}

/// Places for jobs, and those that are taken. Jobs that are as good as over count until the crawler has said so.
fn slots(crawlers: &[&SessionInfo]) -> Value {
    let used: usize = crawlers.iter().map(|info| info.jobs.len() + info.lingering.len()).sum();
    let all: usize = crawlers.iter().map(|info| info.capabilities.slots).sum();
    json!({ "used": used, "all": (!crawlers.is_empty()).then_some(all) })
}

/// Two decimal places are as good as such a figure is.
fn rounded(rate: f64) -> f64 {
    (rate * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(completed: u64) -> Stats {
        Stats {
            completed,
            items: completed * 10,
            ..Stats::default()
        }
    }

    #[test]
    fn rates_are_those_of_the_last_minute() {
        let (meter, start) = (Meter::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let rate = |done: u64, seconds: u64| meter.rates(counted(done), at(seconds)).completed;
        assert_eq!(rate(7, 0), 0.0, "nothing was counted yet");
        meter.sample_at(counted(0), at(0));
        assert_eq!(rate(5, 0), 5.0, "no less than a second");
        assert_eq!(rate(20, 10), 2.0);
        for seconds in (5..=300).step_by(5) {
            meter.sample_at(counted(seconds * 3), at(seconds));
        }
        assert_eq!(rate(900, 300), 3.0);
        assert_eq!(meter.rates(counted(900), at(300)).items, 30.0);
        // Nothing happened since.
        assert!(rate(900, 330) < 3.0);
        assert_eq!(rate(900, 400), 0.0);
        assert!(meter.0.lock().unwrap().len() <= 14);
    }
}
