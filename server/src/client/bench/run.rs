//! What crawlers, web apps and the viewer of a bench share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::ACCOUNT;
use super::figures::{Figures, Kind};
use crate::client::args::BenchArgs;

/// A job that is under way.
#[derive(Debug)]
struct Underway {
    submitted: Instant,
    /// Tells whoever submitted it that it has ended.
    done: SyncSender<()>,
}

/// What is known at a moment. Locked for a few instructions only.
#[derive(Debug, Default)]
struct State {
    /// By the number of the job, which is its `entity_id`. As many as there are slots.
    underway: HashMap<String, Underway>,
    /// Ends that no viewer has seen yet. Those that a viewer misses for good are few.
    unseen: HashMap<String, Instant>,
    figures: Figures,
    /// Since when it counts, and until when it did.
    span: (Option<Instant>, Option<Instant>),
    acked: (u64, u64),
    failed: bool,
}

/// One run.
#[derive(Debug)]
pub(super) struct Run {
    /// A word that nothing else has.
    mark: String,
    numbers: AtomicU64,
    stopped: AtomicBool,
    state: Mutex<State>,
    /// The longest that a job may take before something is wrong.
    pub(super) patience: Duration,
}

impl Run {
    pub(super) fn new(args: &BenchArgs) -> Self {
        Self {
            mark: format!("bench-{}", Uuid::now_v7().simple()),
            numbers: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            state: Mutex::default(),
            patience: Duration::from_secs(args.patience),
        }
    }

    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    /// The host of its jobs, as the server writes it.
    pub(super) fn host(&self) -> String {
        format!("https://{}.invalid", self.mark)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn fail(&self) {
        self.state().failed = true;
    }

    pub(super) fn has_failed(&self) -> bool {
        self.state().failed
    }

    pub(super) fn under_way(&self) -> usize {
        self.state().underway.len()
    }

    /// From now on it counts.
    pub(super) fn begin(&self, acked: u64) {
        let mut state = self.state();
        state.span.0 = Some(Instant::now());
        state.acked.0 = acked;
    }

    /// From now on it does not, and nobody submits any more.
    pub(super) fn end(&self, acked: u64) {
        let mut state = self.state();
        state.span.1 = Some(Instant::now());
        state.acked.1 = acked;
        drop(state);
        self.stop();
    }

    /// A new job: its number, the request for it, and who tells of its end.
    pub(super) fn submit(&self) -> (String, Value, Receiver<()>) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed).to_string();
        let job = json!({
            "job_type": "crawl_project", "account_id": ACCOUNT, "gitlab_host": self.host(), "entity_id": number,
            "labels": [self.mark],
        });
        let (done, ended) = sync_channel(1);
        let underway = Underway {
            submitted: Instant::now(),
            done,
        };
        self.state().underway.insert(number.clone(), underway);
        (number, job, ended)
    }

    /// A job that does not come.
    pub(super) fn give_up(&self, number: &str) {
        self.state().underway.remove(number);
    }

    /// A crawler has been given it.
    pub(super) fn assigned(&self, number: &str) {
        let mut state = self.state();
        if let Some(underway) = state.underway.get(number) {
            let time = underway.submitted.elapsed();
            state.count(Kind::Assigned, time);
        }
    }

    /// A message was settled after this time.
    pub(super) fn acked(&self, time: Duration) {
        self.state().count(Kind::Acked, time);
    }

    /// A crawler is about to say that it has ended.
    pub(super) fn ending(&self, number: &str) {
        self.state().unseen.insert(number.to_owned(), Instant::now());
    }

    /// The server has settled its end.
    pub(super) fn ended(&self, number: &str) {
        let mut state = self.state();
        if state.is_counting() {
            state.figures.jobs += 1;
        }
        if let Some(underway) = state.underway.remove(number) {
            // Whoever waited may have given up.
            let _ = underway.done.try_send(());
        }
    }

    /// A viewer has seen that it has ended.
    pub(super) fn seen(&self, number: &str) {
        let mut state = self.state();
        if let Some(ending) = state.unseen.remove(number) {
            let time = ending.elapsed();
            state.count(Kind::Visible, time);
        }
    }

    /// What was measured.
    pub(super) fn figures(&self) -> Figures {
        let mut state = self.state();
        let mut figures = std::mem::take(&mut state.figures);
        if let (Some(begun), Some(ended)) = state.span {
            figures.elapsed = ended - begun;
        }
        figures.acks = state.acked.1 - state.acked.0;
        figures
    }
}

impl State {
    fn is_counting(&self) -> bool {
        self.span.0.is_some() && self.span.1.is_none()
    }

    fn count(&mut self, kind: Kind, time: Duration) {
        // What began while it counted is visible a little later.
        if self.is_counting() || (kind == Kind::Visible && self.span.0.is_some()) {
            self.figures.add(kind, time);
        }
    }
}
