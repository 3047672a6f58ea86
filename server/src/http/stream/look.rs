//! What is compared with what was told of it: crawlers, gates, errors, and the figures of the whole.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crawlwire_progress::StoreError;
use crawlwire_progress::admit::ClosedGate;
use crawlwire_progress::store::{ErrorFilter, Paging};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::frame::{About, Draft, Kind};
use crate::http::problem::Problem;
use crate::http::{Api, crawlers, json, progress, statistics};

/// Crawlers told of at a time. The rest is told a second later.
const CRAWLERS_MAX: usize = 200;

/// The newest errors that are looked at. When more were logged since the last look, the others are only in their list.
const ERRORS_MAX: usize = 100;

/// Numbers of errors that are remembered. Servers that share a database log beside each other, so a number may come after a
/// greater one.
const ERRORS_KNOWN_MAX: usize = 1_000;

/// Sums over all jobs are read so often, and never so often that a tenth of the time goes into that.
const AGGREGATE_EVERY: Duration = Duration::from_secs(1);
const AGGREGATE_REST: u32 = 10;

/// What of a crawler changes all the time, and is no news.
const OF_A_CRAWLER: [&str; 4] = ["/messages", "/connected_ms", "/silent_ms", "/high_water_seq"];

/// The same of all jobs together, and of the statistics.
const OF_THE_WHOLE: [&str; 3] = ["/at", "/server/uptime_ms", "/queue/oldest_ms"];

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// By name: the connection, and what the crawler looked like.
    crawlers: HashMap<String, (i64, u64)>,
    gates: Vec<ClosedGate>,
    /// None before the first look.
    errors: Option<BTreeSet<i64>>,
    /// What was read last, and when it may be read again.
    aggregate: Option<(Value, Instant)>,
    aggregate_told: Option<u64>,
    statistics: Option<u64>,
}

/// What something looks like, but for what changes all the time.
fn look_of(value: &Value, volatile: &[&str]) -> u64 {
    let mut value = value.clone();
    for pointer in volatile {
        if let Some(field) = value.pointer_mut(pointer) {
            *field = Value::Null;
        }
    }
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

fn whole(kind: Kind, of: Option<i64>, data: &Value) -> Draft {
    Draft {
        kind,
        about: About::All,
        of,
        data: data.to_string(),
    }
}

impl Looked {
    /// As it is now. What cannot be read counts as not told yet.
    pub(super) async fn at(api: &Api) -> Self {
        let mut looked = Self::default();
        let mut drafts = Vec::new();
        for (name, (connection, look, _)) in crawlers_now(api) {
            looked.crawlers.insert(name, (connection, look));
        }
        let _ = looked.gates(api, &mut drafts).await;
        let _ = looked.errors(api).await;
        looked
    }

    /// Crawlers that came, changed or left.
    pub(super) fn crawlers(&mut self, api: &Api, drafts: &mut Vec<Draft>) {
        let now = crawlers_now(api);
        self.crawlers.retain(|name, (connection, _)| {
            let stays = now.contains_key(name);
            if !stays {
                let gone = json!({ "id": name, "gone": true });
                drafts.push(whole(Kind::Crawler, Some(*connection), &gone));
            }
            stays
        });
        let mut left = CRAWLERS_MAX;
        for (name, (connection, look, value)) in now {
            let known = self.crawlers.get(&name).map(|(_, look)| *look);
            if known != Some(look) && left > 0 {
                left -= 1;
                drafts.push(whole(Kind::Crawler, Some(connection), &value));
                self.crawlers.insert(name, (connection, look));
            }
        }
    }

    /// Gates that were closed or opened.
    pub(super) async fn gates(&mut self, api: &Api, drafts: &mut Vec<Draft>) -> Result<(), StoreError> {
        let now = api.router.gates().await?;
        for closed in now.iter().filter(|closed| !self.gates.contains(closed)) {
            drafts.push(whole(Kind::Gate, None, &json::closed_gate(closed)));
        }
        let opened = self.gates.iter().filter(|before| {
            let mut still = now.iter();
            !still.any(|closed| closed.gate == before.gate)
        });
        for before in opened {
            drafts.push(whole(Kind::Gate, None, &json::open_gate(&before.gate)));
        }
        self.gates = now;
        Ok(())
    }

    /// Errors that were logged since the last look, oldest first, each with the job that it names.
    pub(super) async fn errors(&mut self, api: &Api) -> Result<Vec<(Option<String>, Value)>, StoreError> {
        let paging = Paging {
            limit: ERRORS_MAX,
            after: None,
        };
        let newest = api.store.errors(ErrorFilter::default(), paging).await?.items;
        let Some(known) = &mut self.errors else {
            self.errors = Some(newest.iter().map(|error| error.id).collect());
            return Ok(Vec::new());
        };
        let oldest = known.first().copied().unwrap_or(0);
        let mut told = Vec::new();
        for error in newest.iter().rev() {
            if error.id >= oldest && known.insert(error.id) {
                told.push((error.job.clone(), json::error(error)));
            }
        }
        while known.len() > ERRORS_KNOWN_MAX {
            known.pop_first();
        }
        Ok(told)
    }

    /// All jobs together, as they were a moment ago. The more there are, the longer it takes to read, and the less often it
    /// is read.
    pub(super) async fn together(&mut self, api: &Api) -> Result<Value, Problem> {
        let began = Instant::now();
        if let Some((value, until)) = &self.aggregate
            && began < *until
        {
            return Ok(value.clone());
        }
        let value = progress::all(api).await?;
        let now = Instant::now();
        let rest = (now - began).saturating_mul(AGGREGATE_REST).max(AGGREGATE_EVERY);
        self.aggregate = Some((value.clone(), now + rest));
        Ok(value)
    }

    /// All jobs together, if that is news. False when it is too early to look.
    pub(super) async fn aggregate(&mut self, api: &Api, drafts: &mut Vec<Draft>) -> Result<bool, Problem> {
        if self
            .aggregate
            .as_ref()
            .is_some_and(|(_, until)| Instant::now() < *until)
        {
            return Ok(false);
        }
        let now = self.together(api).await?;
        let look = Some(look_of(&now, &OF_THE_WHOLE));
        if look != self.aggregate_told {
            drafts.push(whole(Kind::Aggregate, Some(0), &now));
            self.aggregate_told = look;
        }
        Ok(true)
    }

    /// The figures of the whole, if they are news.
    pub(super) async fn statistics(&mut self, api: &Api, drafts: &mut Vec<Draft>) -> Result<(), StoreError> {
        let now = statistics::read(api).await?;
        let look = Some(look_of(&now, &OF_THE_WHOLE));
        if look != self.statistics {
            drafts.push(whole(Kind::Statistics, Some(0), &now));
            self.statistics = look;
        }
        Ok(())
    }
}

/// The crawlers of this server by name: connection, look, and all of it.
fn crawlers_now(api: &Api) -> HashMap<String, (i64, u64, Value)> {
    let crawlers = crawlers::all(api, usize::MAX);
    let named = crawlers.into_iter().filter_map(|value| {
        let name = value["id"].as_str()?.to_owned();
        let connection = value["connection"].as_i64()?;
        let look = look_of(&value, &OF_A_CRAWLER);
        Some((name, (connection, look, value)))
    });
    named.collect()
}
