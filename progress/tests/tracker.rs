//! How far a job is: what holds whatever a crawler reports, and in whatever order.

use std::time::Duration;

use crawlwire_progress::track::{
    Activity, EntityName, Facts, IssueKind, Kept, Milestones, NoEstimate, Phase, Thresholds, TotalKind, Tracker,
};
use crawlwire_progress::{State, Timestamp};
use crawlwire_protocol::message::{JobCompleted, JobProgress, ProgressData};
use proptest::prelude::*;

const THRESHOLDS: Thresholds = Thresholds {
    quiet_after: Duration::from_secs(60),
    stalled_after: Duration::from_secs(300),
    lost_after: Duration::from_secs(30),
};

const RUNNING: Facts = Facts {
    state: State::Running,
    attempt: 1,
    failures: 0,
    link_at: None,
    waits: false,
};

/// A counter: what is found and processed, and what the crawler says remains.
fn count(entity_type: &str, found: u64, done: u64, remaining: Option<f64>) -> ProgressData {
    ProgressData {
        estimated_remaining: remaining,
        ..ProgressData::new(entity_type, found.try_into().unwrap(), done.try_into().unwrap())
    }
}

fn report(counts: Vec<ProgressData>) -> JobProgress {
    JobProgress {
        progress: counts,
        overall_completion: 0.5.try_into().unwrap(),
        time_elapsed: 1.0.try_into().unwrap(),
        estimated_time_remaining: None,
        job_type: None,
    }
}

fn completed(counts: Vec<ProgressData>) -> JobCompleted {
    JobCompleted {
        job_type: "crawl_user".to_owned(),
        final_counts: counts,
        total_duration: 5000.0.try_into().unwrap(),
        output_files: vec![],
        summary: String::new(),
    }
}

/// A job, its reports numbered and a second apart.
struct Job {
    tracker: Tracker,
    milestones: Milestones,
    now: i64,
    passed: Vec<(Option<String>, u8)>,
    completed: Vec<String>,
}

impl Job {
    fn new() -> Self {
        Self {
            tracker: Tracker::begin(1, None, Timestamp(0)),
            milestones: Milestones::default(),
            now: 0,
            passed: vec![],
            completed: vec![],
        }
    }

    fn says(&mut self, counts: Vec<ProgressData>) -> crawlwire_progress::track::Changes {
        self.now += 1000;
        let (n, now) = (self.now, Timestamp(self.now));
        let changes = self.tracker.report(&report(counts), n, now, &self.milestones);
        self.note(&changes);
        changes
    }

    fn completes(&mut self, counts: Vec<ProgressData>) {
        self.now += 1000;
        let (n, now) = (self.now, Timestamp(self.now));
        let changes = self.tracker.complete(&completed(counts), n, now, &self.milestones);
        self.note(&changes);
    }

    fn note(&mut self, changes: &crawlwire_progress::track::Changes) {
        let passed = changes.milestones.iter().map(|milestone| {
            let entity = milestone.entity.as_ref().map(|entity| entity.entity_type.clone());
            (entity, milestone.percent)
        });
        self.passed.extend(passed);
        let completed = changes.completed.iter().map(|name| name.entity_type.clone());
        self.completed.extend(completed);
    }

    fn try_again(&mut self) {
        self.tracker = Tracker::begin(self.tracker.attempt + 1, Some(&self.tracker), Timestamp(self.now));
    }

    fn issues(&self) -> Vec<IssueKind> {
        self.tracker.issues().iter().map(|issue| issue.kind).collect()
    }
}

#[test]
fn the_first_example_of_the_documents() {
    let mut job = Job::new();
    assert_eq!(job.tracker.phase(), Phase::Initializing);
    let changes = job.says(vec![count("projects", 150, 45, None), count("issues", 1200, 350, None)]);
    assert_eq!(changes.phase, Some((Phase::Initializing, Phase::Processing)));
    let names: Vec<_> = changes.discovered.iter().map(|name| &*name.entity_type).collect();
    assert_eq!(names, ["projects", "issues"]);
    assert_eq!(
        job.tracker.said.overall_completion, 0.5,
        "what the crawler said is not touched"
    );
    // 395 of 150 + 15 and 1,200 + 120: nobody said that there will not be more.
    assert_eq!(job.tracker.work().done, 395);
    assert_eq!(job.tracker.work().expected, 1485);
    assert_eq!(job.tracker.completion(), 0.265993, "395 / 1,485");
    let snapshot = job.tracker.snapshot(RUNNING, Timestamp(job.now), THRESHOLDS);
    assert!(snapshot.discovering);
    assert_eq!(snapshot.eta, Err(NoEstimate::TotalOpen));
    job.completes(vec![
        count("projects", 150, 150, None),
        count("issues", 1200, 1200, None),
    ]);
    assert_eq!((job.tracker.completion(), job.tracker.phase()), (1.0, Phase::Completed));
    assert_eq!(job.issues(), []);
    assert_eq!(job.completed, ["projects", "issues"]);
}

#[test]
fn the_whole_is_never_claimed_before_the_end() {
    let mut job = Job::new();
    job.says(vec![count("commits", 10, 10, Some(0.0))]);
    assert_eq!(job.tracker.total().kind, TotalKind::Known);
    assert_eq!(job.tracker.phase(), Phase::Completing);
    assert_eq!(job.tracker.completion(), 0.99);
    assert!(!job.passed.contains(&(None, 100)), "{:?}", job.passed);
    assert!(
        job.passed.contains(&(Some("commits".to_owned()), 100)),
        "the counter itself is at its end"
    );
    job.completes(vec![count("commits", 10, 10, None)]);
    assert_eq!(job.passed.iter().filter(|passed| **passed == (None, 100)).count(), 1);
    assert_eq!(job.completed, ["commits"], "told once");
}

#[test]
fn milestones_are_passed_once_in_the_life_of_a_job() {
    let mut job = Job::new();
    job.says(vec![count("commits", 100, 60, Some(40.0))]);
    let first = job.passed.clone();
    assert_eq!(
        first.iter().filter(|(entity, _)| entity.is_none()).count(),
        2,
        "25 and 50: {first:?}"
    );
    job.try_again();
    assert_eq!(job.tracker.completion(), 0.0, "an attempt begins anew");
    assert_eq!(job.tracker.milestones().len(), 2, "what was passed stays known");
    job.says(vec![count("commits", 100, 60, Some(40.0))]);
    assert_eq!(job.passed, first);
    job.try_again();
    job.says(vec![]);
    job.try_again();
    job.says(vec![count("commits", 100, 80, Some(20.0))]);
    let commits = Some("commits".to_owned());
    assert_eq!(
        job.passed[first.len()..],
        [(None, 75), (commits, 75)],
        "also when an attempt said nothing of it"
    );
}

#[test]
fn a_mismatch_at_the_end_is_shown() {
    let issues = |last: Vec<ProgressData>| {
        let mut job = Job::new();
        job.says(vec![count("users", 10, 7, None), count("groups", 5, 5, None)]);
        job.completes(last);
        assert_eq!(job.tracker.completion(), 1.0);
        let wrong = job.tracker.issues().iter().map(|issue| {
            assert_eq!(issue.kind, IssueKind::TotalsMismatch);
            issue.entity.clone().unwrap().entity_type
        });
        wrong.collect::<Vec<_>>()
    };
    assert!(issues(vec![count("users", 10, 10, None), count("groups", 5, 5, None)]).is_empty());
    assert_eq!(issues(vec![count("users", 10, 10, None)]), ["groups"], "not spoken of");
    assert_eq!(
        issues(vec![count("users", 10, 6, None), count("groups", 5, 5, None)]),
        ["users"],
        "fewer"
    );
    assert_eq!(
        issues(vec![count("users", 10, 9, None), count("groups", 5, 5, None)]),
        ["users"],
        "one left out"
    );
    assert_eq!(
        issues(vec![]),
        ["users"],
        "no counts at the end: the last ones are looked at"
    );
}

#[test]
fn odd_counts_are_shown_and_change_nothing_else() {
    let mut job = Job::new();
    job.says(vec![count("notes", 10, 12, None)]);
    assert_eq!(job.issues(), [IssueKind::ProcessedAboveDiscovered]);
    let before = job.tracker.completion();
    job.says(vec![count("notes", 10, 3, None)]);
    assert_eq!(
        job.issues(),
        [IssueKind::ProcessedAboveDiscovered, IssueKind::CounterFell]
    );
    assert_eq!(job.tracker.completion(), before);
    assert_eq!(job.tracker.work().done, 12);
}

#[test]
fn counters_and_their_names_are_bounded() {
    let mut job = Job::new();
    let many = (0..300).map(|number| count(&format!("{number}"), 1, 0, None)).collect();
    job.says(many);
    assert_eq!(job.tracker.entities.len(), crawlwire_progress::track::ENTITIES_MAX);
    assert_eq!(job.issues(), [IssueKind::TooManyEntities]);
    let mut job = Job::new();
    job.says(vec![count(&"ß".repeat(1000), 1, 0, None)]);
    job.says(vec![count(&"ß".repeat(1000), 2, 1, None)]);
    assert_eq!(job.tracker.entities.len(), 1, "cut the same way each time");
    assert!(job.tracker.entities[0].said.entity_type.len() <= 128);
}

#[test]
fn waiting_is_not_working() {
    let mut job = Job::new();
    job.says(vec![count("users", 100, 1, Some(99.0))]);
    assert_eq!(job.tracker.worked(Timestamp(job.now)), Duration::from_secs(1));
    job.tracker.look(Timestamp(5_000), true, THRESHOLDS);
    job.tracker.look(Timestamp(1_000_000), true, THRESHOLDS);
    assert_eq!(job.tracker.worked(Timestamp(1_000_000)), Duration::from_secs(5));
    let waits = Facts { waits: true, ..RUNNING };
    let snapshot = job.tracker.snapshot(waits, Timestamp(1_000_000), THRESHOLDS);
    assert_eq!(
        (snapshot.activity, snapshot.eta),
        (Some(Activity::Waiting), Err(NoEstimate::Waiting))
    );
    // The gate opens: whoever waited could not go forward, so it is not stalled at once.
    assert_eq!(job.tracker.look(Timestamp(1_001_000), false, THRESHOLDS), None);
    assert_eq!(job.tracker.look(Timestamp(1_003_000), false, THRESHOLDS), None);
    assert_eq!(job.tracker.worked(Timestamp(1_003_000)), Duration::from_secs(7));
    assert_eq!(job.tracker.waited(Timestamp(1_003_000)), Duration::from_secs(996));
}

#[test]
fn a_stall_is_told_once_until_the_work_goes_on() {
    let mut job = Job::new();
    job.says(vec![count("users", 100, 1, None)]);
    let look = |job: &mut Job, seconds: i64| job.tracker.look(Timestamp(seconds * 1000), false, THRESHOLDS);
    assert_ne!(look(&mut job, 300), Some(IssueKind::Stalled));
    let n = job.tracker.n;
    assert_eq!(look(&mut job, 301), Some(IssueKind::Stalled));
    assert!(job.tracker.n > n, "news, to be stored");
    assert_eq!(look(&mut job, 302), None);
    job.now = 310_000;
    job.says(vec![count("users", 100, 1, None)]);
    let snapshot = job.tracker.snapshot(RUNNING, Timestamp(job.now), THRESHOLDS);
    assert_eq!(
        snapshot.activity,
        Some(Activity::Stalled),
        "it speaks, and nothing is done"
    );
    job.says(vec![count("users", 100, 2, None)]);
    let snapshot = job.tracker.snapshot(RUNNING, Timestamp(job.now), THRESHOLDS);
    assert_eq!(snapshot.activity, Some(Activity::Running));
    assert_eq!(look(&mut job, 700), Some(IssueKind::Stalled), "a second time");
    let stalled = job
        .tracker
        .issues()
        .iter()
        .find(|issue| issue.kind == IssueKind::Stalled);
    assert_eq!(stalled.map(|issue| issue.times), Some(2));
}

#[test]
fn a_later_attempt_is_not_paid_for_what_it_found_there() {
    let mut job = Job::new();
    job.try_again();
    for done in (1000..1020).step_by(2) {
        job.says(vec![count("users", 2000, done, Some(2000.0 - done as f64))]);
    }
    let pace = job.tracker.pace().unwrap();
    let rate = pace.rates(job.tracker.worked(Timestamp(job.now))).overall;
    assert!(
        (1.0..=2.5).contains(&rate),
        "{rate} a second, of 2 that were done in each"
    );
}

/// What a crawler may do to one of three counters.
#[derive(Debug, Clone)]
struct Said {
    which: usize,
    found: u64,
    done: u64,
    remaining: Option<f64>,
    pause: i64,
}

fn said() -> impl Strategy<Value = Said> {
    let number = prop_oneof![4 => 0..200_u64, 1 => Just(i64::MAX as u64), 1 => 0..=u64::MAX / 2];
    let remaining = prop_oneof![
        3 => Just(None),
        1 => Just(Some(0.0)),
        3 => (0..1000_u16).prop_map(|halves| Some(f64::from(halves) / 2.0)),
        1 => Just(Some(f64::MAX)),
        1 => Just(Some(-1.0)),
    ];
    (0..3_usize, number.clone(), number, remaining, -1000..100_000_i64).prop_map(
        |(which, found, done, remaining, pause)| Said {
            which,
            found,
            done,
            remaining,
            pause,
        },
    )
}

const NAMES: [&str; 3] = ["users", "groups", "projects"];

impl Said {
    fn counts(&self) -> Vec<ProgressData> {
        vec![count(NAMES[self.which], self.found, self.done, self.remaining)]
    }
}

/// What goes through a row of the database and back.
fn through_a_row(tracker: &Tracker) -> Tracker {
    let entities = serde_json::to_string(&tracker.entities).unwrap();
    let kept = serde_json::to_string(&tracker.kept).unwrap();
    let history = serde_json::to_string(&tracker.history).unwrap();
    Tracker {
        entities: serde_json::from_str(&entities).unwrap(),
        kept: serde_json::from_str::<Kept>(&kept).unwrap(),
        history: serde_json::from_str(&history).unwrap(),
        ..tracker.clone()
    }
}

proptest! {
    /// Within an attempt our completion only rises, stays below 1 until the end, and is 1 at the end, whatever is said.
    #[test]
    fn completion_only_rises(all in proptest::collection::vec(said(), 1..60), again in 0..60_usize) {
        let mut job = Job::new();
        let mut last = 0.0;
        for (index, said) in all.iter().enumerate() {
            if index == again {
                job.try_again();
                last = 0.0;
            }
            job.now += said.pause;
            job.says(said.counts());
            let completion = job.tracker.completion();
            prop_assert!((last..=0.99).contains(&completion), "{completion} after {last}");
            last = completion;
            let work = job.tracker.work();
            prop_assert!(work.done <= work.expected);
            // Whatever was said, there is a range or a reason.
            let snapshot = job.tracker.snapshot(RUNNING, Timestamp(job.now), THRESHOLDS);
            if let Ok(range) = snapshot.eta {
                prop_assert!(range.low <= range.likely && range.likely <= range.high);
            }
        }
        job.completes(vec![]);
        prop_assert_eq!(job.tracker.completion(), 1.0);
        prop_assert_eq!(job.tracker.work().done, job.tracker.work().expected);
        let mut passed = job.passed.clone();
        passed.sort();
        passed.dedup();
        prop_assert_eq!(passed.len(), job.passed.len(), "each milestone once: {:?}", job.passed);
        for name in [None].into_iter().chain(NAMES.map(Some)) {
            let of: Vec<_> = job.passed.iter().filter(|(entity, _)| entity.as_deref() == name).collect();
            prop_assert!(of.is_sorted(), "{of:?}");
        }
    }

    /// A server that is started anew in the middle shows what it would have shown.
    #[test]
    fn a_restart_changes_no_number(all in proptest::collection::vec(said(), 1..40), at in 0..40_usize) {
        let (mut job, mut restarted) = (Job::new(), Job::new());
        for (index, said) in all.iter().enumerate() {
            if index == at {
                restarted.tracker = through_a_row(&restarted.tracker);
            }
            for job in [&mut job, &mut restarted] {
                job.now += said.pause.max(0);
                job.says(said.counts());
                job.tracker.look(Timestamp(job.now), said.which == 0, THRESHOLDS);
            }
        }
        prop_assert_eq!(job.passed, restarted.passed);
        prop_assert_eq!(job.tracker, restarted.tracker);
    }

    /// Only what changed is told: the same report again changes nothing.
    #[test]
    fn a_repeated_report_changes_nothing(all in proptest::collection::vec(said(), 1..20)) {
        let mut job = Job::new();
        for said in &all {
            job.says(said.counts());
        }
        let (completion, work) = (job.tracker.completion(), job.tracker.work());
        let changes = job.says(all.last().unwrap().counts());
        prop_assert!(!changes.forward);
        prop_assert!(changes.milestones.is_empty() && changes.discovered.is_empty() && changes.completed.is_empty());
        prop_assert_eq!((job.tracker.completion(), job.tracker.work()), (completion, work));
    }
}

#[test]
fn a_name_has_two_parts() {
    let mut job = Job::new();
    let notes = |of: Option<&str>| ProgressData {
        sub_collection: of.map(str::to_owned),
        ..count("issues", 10, 1, None)
    };
    let changes = job.says(vec![notes(None), notes(Some("notes"))]);
    let name = |sub_collection: Option<&str>| EntityName {
        entity_type: "issues".to_owned(),
        sub_collection: sub_collection.map(str::to_owned),
    };
    assert_eq!(changes.discovered, [name(None), name(Some("notes"))]);
}
