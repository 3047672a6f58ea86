//! What was taken how often, and what has to be taken.

use std::collections::BTreeMap;
use std::fmt::Write;

use crawlwire_progress::Arrow;

use crate::machine::step::{Answer, Fact, Opened, Said, Step};

/// An operation and what came of it; or `arrow` and its name.
pub(crate) type Label = (&'static str, &'static str);

/// How often each must be taken in a run.
pub(crate) const ENOUGH: u32 = 100;

/// Every refusal, and everything else besides arrows, that a store can answer. The one left out needs a thousand closed
/// gates.
const REQUIRED: &[(&str, &[&str])] = &[
    ("submit", &["queue_full", "name_taken"]),
    (
        "claim",
        &["stale", "not_found", "not_queued", "gate_closed", "account_share"],
    ),
    ("start", &["not_found", "stale", "already_started"]),
    ("complete", &["not_found", "stale"]),
    ("fail", &["not_found", "stale"]),
    ("release", &["not_found", "stale"]),
    ("confirm", &["not_found", "stale"]),
    ("return", &["not_found", "stale"]),
    ("checkpoint", &["not_found", "stale", "done"]),
    ("open", &["new", "back", "back with jobs", "instance_taken"]),
    (
        "said",
        &[
            "applied",
            "refused and settled",
            "repeated",
            "conflict",
            "gap",
            "replaced",
        ],
    ),
    ("adopt", &["not_found", "stale", "held_by_another", "still_connected"]),
    (
        "discover",
        &[
            "not_found",
            "stale",
            "accepted",
            "duplicate",
            "over_budget depth",
            "over_budget children",
            "over_budget tree",
            "over_budget account",
        ],
    ),
    ("report", &["stale", "kept", "milestone"]),
    ("tree", &["whole"]),
    ("renew", &["lost", "renewed"]),
    ("cancel", &["not_found", "already_so", "job_ended"]),
    ("pause", &["not_found", "already_so", "job_ended", "cancelling"]),
    ("resume", &["not_found", "not_paused"]),
    ("retry", &["not_found", "not_retryable"]),
    ("redrive", &["not_found", "not_redrivable"]),
    ("set_priority", &["not_found", "job_ended", "already_so"]),
    ("cancel_tree", &["not_found", "not_root"]),
    ("delete", &["not_found", "not_root", "tree_open", "gone"]),
    ("close_gate", &["no_such_account", "done"]),
    ("prune", &["gone"]),
];

/// What must be taken [`ENOUGH`] times.
pub(crate) fn required() -> impl Iterator<Item = Label> {
    let arrows = Arrow::ALL.iter().map(|arrow| ("arrow", arrow.as_str()));
    let others = REQUIRED
        .iter()
        .flat_map(|(op, whats)| whats.iter().map(|what| (*op, *what)));
    arrows.chain(others)
}

fn of_fact(fact: &Fact) -> Vec<Label> {
    let mut labels = vec![("arrow", fact.arrow.as_str()), (way(fact.arrow), fact.state.as_str())];
    if fact.passed.iter().any(|(_, percent)| *percent == 100) {
        labels.push(("tree", "whole"));
    }
    labels
}

/// Where an arrow leads, for those that lead to several places: counted, so that the table shows it.
fn way(arrow: Arrow) -> &'static str {
    match arrow {
        Arrow::Submit => "submit ▶",
        Arrow::Finish => "finish ▶",
        Arrow::Expire => "expire ▶",
        Arrow::Release => "release ▶",
        Arrow::Deadline => "deadline ▶",
        Arrow::Confirm => "confirm ▶",
        Arrow::Return => "return ▶",
        Arrow::Force => "force ▶",
        Arrow::Adopt => "adopt ▶",
        Arrow::Resume => "resume ▶",
        Arrow::Cancel | Arrow::Pause | Arrow::Retry | Arrow::Redrive | Arrow::Promote => "other ▶",
        _ => "held or new ▶",
    }
}

/// What an answer counts as.
pub(crate) fn labels(step: &Step, answer: &Answer) -> Vec<Label> {
    let op = step.name();
    match answer {
        Answer::Submitted(_, state) => vec![("arrow", "submit"), ("submit ▶", state.as_str())],
        Answer::Moved(fact) => of_fact(fact),
        Answer::Facts(facts) => facts.iter().flat_map(of_fact).collect(),
        Answer::Discovered(verdicts) => {
            let facts = verdicts.iter().filter_map(|(_, fact)| fact.as_ref());
            let words = verdicts.iter().map(|(verdict, _)| (op, *verdict));
            words.chain(facts.flat_map(of_fact)).collect()
        }
        Answer::Renewed(lost) => vec![(op, if lost.is_empty() { "renewed" } else { "lost" })],
        Answer::Reported(stale, _) if !stale.is_empty() => vec![(op, "stale")],
        Answer::Reported(_, passed) if passed.is_empty() => vec![(op, "kept")],
        Answer::Reported(..) => vec![(op, "kept"), (op, "milestone")],
        Answer::Gone(0) => vec![(op, "nothing")],
        Answer::Gone(_) => vec![(op, "gone")],
        Answer::Opened(Opened { epoch: 1, .. }) => vec![(op, "new")],
        Answer::Opened(Opened { leases, .. }) if leases.is_empty() => vec![(op, "back")],
        Answer::Opened(_) => vec![(op, "back with jobs")],
        Answer::Said(said) => of_said(step, said),
        Answer::Done => vec![(op, "done")],
        Answer::Refused(refusal) => vec![(op, *refusal)],
        Answer::NameTaken(_) => vec![(op, "name_taken")],
    }
}

fn of_said(step: &Step, said: &Said) -> Vec<Label> {
    let what = match said {
        Said::Applied(answers) if answers.iter().any(|answer| matches!(answer, Answer::Refused(_))) => {
            "refused and settled"
        }
        Said::Applied(_) => "applied",
        Said::Repeated { conflict: true, .. } => "conflict",
        Said::Repeated { refused: Some(_), .. } => "refused before",
        Said::Repeated { .. } => "repeated",
        Said::Gap(_) => "gap",
        Said::Replaced => "replaced",
    };
    let mut all = vec![("said", what)];
    if let (Said::Applied(answers), Step::Said { steps, .. }) = (said, step) {
        all.extend(
            steps
                .iter()
                .zip(answers)
                .flat_map(|(step, answer)| labels(step, answer)),
        );
    }
    all
}

/// How often each thing was taken in a run.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    pub(crate) counts: BTreeMap<Label, u32>,
    pub(crate) cases: u32,
    pub(crate) transitions: u32,
    pub(crate) steps: u32,
}

impl Coverage {
    pub(crate) fn count(&mut self, step: &Step, answer: &Answer) {
        self.steps += 1;
        for label in labels(step, answer) {
            *self.counts.entry(label).or_default() += 1;
        }
    }

    fn of(&self, label: Label) -> u32 {
        self.counts.get(&label).copied().unwrap_or(0)
    }

    /// The table, for people.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{} cases, {} transitions, {} operations\n",
            self.cases, self.transitions, self.steps
        );
        let mut row = "";
        for ((op, what), count) in &self.counts {
            let start = if *op == row { "," } else { "\n" };
            let head = if *op == row { String::new() } else { format!("{op}:") };
            let _ = write!(text, "{start}{head} {what} {count}");
            row = op;
        }
        text
    }

    /// What was not taken often enough.
    pub(crate) fn missing(&self) -> Vec<(Label, u32)> {
        let seldom = required().map(|label| (label, self.of(label), ENOUGH));
        seldom
            .filter(|(_, count, least)| count < least)
            .map(|(label, count, _)| (label, count))
            .collect()
    }
}
