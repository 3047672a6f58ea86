//! The same things in the words of the test and in those of the engine.

use std::sync::Arc;

use crawlwire_progress::admit::Gate;
use crawlwire_progress::job::{JobLimits, Tree};
use crawlwire_progress::store::{Found, NewJob};
use crawlwire_progress::view::{JobSpec, JobView};
use crawlwire_progress::{Arrow, PauseReason, State, Timestamp, Want};
use crawlwire_protocol::AccessToken;
use crawlwire_protocol::message::{DiscoveredJob, JobType};
use proptest::prop_assert_eq;

use crate::machine::model::Job;
use crate::machine::step::{Door, Item, JobNo, SessionNo, Submission};
use crate::machine::store::Checked;
use crate::machine::sums::weight;
use crate::machine::world::{Target, World};

/// What is compared of a job.
#[derive(Debug, PartialEq)]
pub(crate) struct Row {
    theirs: String,
    lineage: (Option<JobNo>, JobNo, i32),
    place: (String, String, Option<String>),
    token: bool,
    limits: JobLimits,
    state: (State, Option<PauseReason>),
    lease: (i64, Option<String>),
    counts: (i32, i32, i32),
    created_at: i64,
    assigned_at: Option<i64>,
    started_at: Option<i64>,
    deadline: Option<i64>,
    finished_at: Option<i64>,
    resume: bool,
    want: Option<(Want, i64)>,
    priority: f64,
    has_result: bool,
    error: Option<&'static str>,
    tree: Tree,
}

impl Row {
    pub(crate) fn of_view(view: &JobView) -> Self {
        let ms = |at: Option<Timestamp>| at.map(|at| at.0);
        let who = |error: &str| {
            let mut all = ["crawler", "expire", "deadline"].into_iter();
            all.find(|who| error.contains(&format!("\"{who}\"")))
                .unwrap_or("nobody")
        };
        Self {
            theirs: view.web_app_job_id.clone(),
            lineage: (view.parent_id.as_deref().map(number), number(&view.root_id), view.depth),
            place: (
                view.account_id.clone(),
                view.spec.host.clone(),
                view.spec.entity_id.clone(),
            ),
            token: view.credential.is_some(),
            limits: view.limits,
            state: (view.state, view.pause_reason),
            lease: (view.fence.0, view.session.clone()),
            counts: (view.attempt, view.failures, view.misses),
            created_at: view.created_at.0,
            assigned_at: ms(view.assigned_at),
            started_at: ms(view.started_at),
            deadline: ms(view.deadline),
            finished_at: ms(view.finished_at),
            resume: view.resume,
            want: view.want.map(|(want, until)| (want, until.0)),
            priority: view.spec.priority,
            has_result: view.result.is_some(),
            error: view.error.as_deref().map(who),
            tree: view.tree,
        }
    }

    pub(crate) fn of_job(job: &Job, world: &World) -> Self {
        Self {
            theirs: job.theirs.map_or_else(|| job_name(job.no), their_name),
            lineage: (job.parent, job.root, job.depth as i32),
            place: (
                account_name(job.account),
                host_name(job.host),
                Some(job.entity.to_string()),
            ),
            token: job.token,
            limits: job.limits,
            state: (job.state, job.pause),
            lease: (job.fence, job.session.map(|session| session_name(session).to_string())),
            counts: (job.attempt, job.failures, job.misses),
            created_at: job.created_at,
            assigned_at: job.assigned_at,
            started_at: job.started_at,
            deadline: job.deadline,
            finished_at: job.finished_at,
            resume: job.resume,
            want: job.want,
            priority: job.priority,
            has_result: job.has_result,
            error: job.error,
            tree: world.tree(job),
        }
    }
}

pub(crate) fn new_job(new: &Submission, run_at: Option<Timestamp>) -> NewJob {
    let spec = JobSpec {
        entity_id: Some("0".to_owned()),
        namespace_path: Some("group/project".to_owned()),
        priority: new.priority,
        ..JobSpec::new(JobType::CrawlProject, host_name(new.host))
    };
    NewJob {
        web_app_job_id: new.theirs.map(their_name),
        access_token: new.token.then(|| AccessToken::new(format!("glpat-{}", new.job))),
        resume: new.resume,
        run_at,
        limits: new.limits,
        weight: weight(new.job),
        ..NewJob::new(job_name(new.job), account_name(new.account), spec)
    }
}

pub(crate) fn found((no, entity, priority): &Item) -> Found {
    let item = DiscoveredJob {
        job_type: JobType::CrawlProject,
        entity_id: entity.to_string(),
        namespace_path: format!("group/{entity}"),
        entity_name: entity.to_string(),
        priority: *priority,
        estimated_size: None,
    };
    Found {
        public_id: job_name(*no),
        item,
        weight: weight(*no),
    }
}

pub(crate) fn gate(door: Door) -> Gate {
    match door {
        Door::Queue => Gate::Queue,
        Door::Host(host) => Gate::Host(host_name(host)),
        Door::Credentials { account, host } => Gate::Credentials {
            account_id: account_name(account),
            host: host_name(host),
        },
    }
}

pub(crate) fn word(verdict: crawlwire_progress::discovery::Verdict) -> &'static str {
    use crawlwire_progress::discovery::{Budget, Verdict};
    match verdict {
        Verdict::Accepted => "accepted",
        Verdict::Duplicate => "duplicate",
        Verdict::Refused => "refused",
        Verdict::OverBudget(Budget::Depth) => "over_budget depth",
        Verdict::OverBudget(Budget::Children) => "over_budget children",
        Verdict::OverBudget(Budget::Tree) => "over_budget tree",
        Verdict::OverBudget(Budget::Account) => "over_budget account",
    }
}

pub(crate) fn number(public_id: &str) -> JobNo {
    public_id
        .trim_start_matches("job-")
        .parse()
        .expect("a job of this test")
}

pub(crate) fn their_name(name: u8) -> String {
    format!("theirs-{name}")
}

pub(crate) fn session_name(session: SessionNo) -> Arc<str> {
    format!("session-{session}").into()
}

pub(crate) fn server_name(server: u8) -> String {
    format!("server-{server}")
}

pub(crate) fn job_name(no: JobNo) -> String {
    format!("job-{no:06}")
}

pub(crate) fn account_name(account: u8) -> String {
    format!("account-{account}")
}

pub(crate) fn host_name(host: u8) -> String {
    format!("https://host-{host}.example")
}

pub(crate) fn target_name(target: Target) -> String {
    let door = |door| match door {
        Door::Queue => "queue".to_owned(),
        Door::Host(host) => format!("host {}", host_name(host)),
        Door::Credentials { account, host } => format!("credentials {} {}", account_name(account), host_name(host)),
    };
    match target {
        Target::Job(no) => job_name(no),
        Target::Door(it) => door(it),
        Target::Jobs(None) => "all accounts".to_owned(),
        Target::Jobs(Some(account)) => account_name(account),
    }
}

pub(crate) fn cursor(number: u8) -> String {
    format!(r#"{{"page":{number}}}"#)
}

/// Fence and attempt, from the arrows alone: a lease that is given or taken away raises the fence.
pub(crate) fn replayed(history: &[Arrow]) -> (i64, i32) {
    history.iter().fold((0, 0), |(fence, attempt), arrow| match arrow {
        Arrow::Claim | Arrow::Release | Arrow::Return | Arrow::Expire | Arrow::Deadline | Arrow::Force => {
            (fence + 1, attempt)
        }
        Arrow::Start => (fence, attempt + 1),
        _ => (fence, attempt),
    })
}

/// What the states mean.
pub(crate) fn keeps_the_rules(view: &JobView) -> Checked {
    let (state, leased) = (view.state, view.state.is_leased());
    let rules = [
        view.session.is_some() == leased,
        view.assigned_at.is_some() == leased,
        view.deadline.is_some() == (state == State::Running),
        view.finished_at.is_some() == state.is_terminal(),
        view.pause_reason.is_some() == (state == State::Paused),
        view.run_at.is_none() || matches!(state, State::Delayed | State::Paused),
        view.run_at.is_some() || state != State::Delayed,
        view.want.is_none() || leased,
        view.failures <= view.attempt,
    ];
    prop_assert_eq!(rules.iter().position(|holds| !holds), None, "{:?}", view);
    Ok(())
}
