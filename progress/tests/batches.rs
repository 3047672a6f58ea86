//! A batch has the effect that its operations have one by one. So it does not matter what arrived together.

mod support;

use std::time::Duration;

use crawlwire_progress::plan::Plan;
use crawlwire_progress::store::{Holder, Op};
use crawlwire_progress::{Fence, JobKey, Policy, SessionKey};
use proptest::prelude::*;
use proptest::sample::Index;

use support::sheet::Sheet;
use support::*;

const SESSIONS: i64 = 3;

/// An operation, before it is known which jobs there are.
#[derive(Debug, Clone)]
enum Rough {
    Submit { name: Option<u8>, account: u8, token: bool },
    Claim,
    Start,
    Complete,
    Fail,
    Release,
    Adopt,
    Discover { entities: Vec<u8> },
    Report { n: i64 },
    Open,
    Renew,
    Disconnect,
    Recover,
    Sweep,
}

/// With the job, the session and how far the fence is from the one the job has before the batch.
type Aimed = (Rough, Index, i64, i64);

fn rough() -> impl Strategy<Value = Rough> {
    prop_oneof![
        2 => (prop::option::of(0..4_u8), 0..2_u8, any::<bool>())
            .prop_map(|(name, account, token)| Rough::Submit { name, account, token }),
        6 => Just(Rough::Claim),
        6 => Just(Rough::Start),
        1 => Just(Rough::Complete),
        2 => Just(Rough::Fail),
        1 => Just(Rough::Release),
        2 => Just(Rough::Adopt),
        3 => prop::collection::vec(0..6_u8, 1..4).prop_map(|entities| Rough::Discover { entities }),
        3 => (1..9_i64).prop_map(|n| Rough::Report { n }),
        1 => Just(Rough::Open),
        3 => Just(Rough::Renew),
        2 => Just(Rough::Disconnect),
        1 => Just(Rough::Recover),
        2 => Just(Rough::Sweep),
    ]
}

fn aimed() -> impl Strategy<Value = Aimed> {
    (
        rough(),
        any::<Index>(),
        1..=SESSIONS,
        prop_oneof![3 => Just(0_i64), 3 => Just(1), 1 => -1..3_i64],
    )
}

fn sheet() -> Sheet {
    let mut sheet = Sheet::new(Policy {
        lease: Duration::from_secs(60),
        job_timeout: Duration::from_secs(100),
        retry_attempts: 1,
        misses_max: 3,
        queued_jobs_max: 6,
        tree_depth_max: 2,
        children_max: 3,
        tree_jobs_max: 4,
        ..Policy::default()
    });
    for key in 1..=SESSIONS {
        sheet.job(key);
        sheet.session(key, Some("process").filter(|_| key < SESSIONS));
    }
    sheet
}

/// Makes an operation of a rough one, for the jobs of this sheet. `serial` keeps public ids apart.
fn op(sheet: &Sheet, (rough, index, session, offset): Aimed, serial: usize) -> Op {
    let keys: Vec<JobKey> = sheet.jobs.keys().copied().collect();
    let job = *index.get(&keys);
    let session = SessionKey(session);
    let held = sheet.jobs[&job].job.session;
    let holder: Holder = holder(
        held.filter(|_| offset == 0).unwrap_or(session),
        Fence(sheet.jobs[&job].job.fence.0 + offset),
    );
    match rough {
        Rough::Submit { name, account, token } => {
            let id = format!("new-{serial}");
            let mut new = if token { with_token(&id, &id) } else { new_job(&id) };
            new.web_app_job_id = name.map(|name| format!("web-{name}"));
            new.account_id = format!("account-{account}");
            Op::Submit(Box::new(new))
        }
        Rough::Claim => claim(job, session),
        Rough::Start => start(job, &holder),
        Rough::Complete => complete(job, &holder),
        Rough::Fail => fail(job, &holder, true),
        Rough::Release => release(job, &holder),
        Rough::Adopt => adopt(&sheet.jobs[&job].public_id, session),
        Rough::Discover { entities } => {
            let entities: Vec<_> = entities.iter().map(u8::to_string).collect();
            discover(
                job,
                &holder,
                groups(&entities.iter().map(String::as_str).collect::<Vec<_>>()),
            )
        }
        Rough::Report { n } => report(job, holder.lease(), n),
        Rough::Open => open("another", Some("process")),
        Rough::Renew => Op::Renew(vec![session]),
        Rough::Disconnect => Op::Disconnect(session),
        // A server that starts says so before it speaks of any session, so that is never in a batch with others.
        Rough::Recover => recover(true),
        Rough::Sweep => Op::Sweep,
    }
}

/// What one statement could not write: a row twice.
fn each_row_once(plan: &Plan) -> Result<(), TestCaseError> {
    fn once<T: Ord>(rows: impl Iterator<Item = T>) -> bool {
        let mut rows: Vec<_> = rows.collect();
        let all = rows.len();
        rows.sort();
        rows.dedup();
        rows.len() == all
    }
    prop_assert!(once(plan.changed.iter().map(|changed| changed.job.key)));
    prop_assert!(once(plan.sessions.iter().map(|session| session.key)));
    prop_assert!(once(plan.credentials.iter().map(|write| write.key)));
    prop_assert!(once(plan.new_jobs.iter().map(|new| new.job.key)));
    prop_assert!(once(plan.new_jobs.iter().map(|new| new.identity.clone())));
    prop_assert!(once(plan.new_accounts.iter().map(|(_, name)| name.clone())));
    prop_assert!(once(plan.events.iter().map(|event| event.job)));
    prop_assert!(plan.events.iter().all(|event| !event.arrows.is_empty()));
    Ok(())
}

proptest! {
    #[test]
    fn a_batch_is_its_operations_one_by_one(
        batches in prop::collection::vec((0..50_000_u64, prop::collection::vec(aimed(), 1..12)), 1..12),
    ) {
        let (mut together, mut single) = (sheet(), sheet());
        let mut serial = 0;
        for (millis, aimed) in batches {
            let now = together.now.after(Duration::from_millis(millis));
            (together.now, single.now) = (now, now);
            let ops: Vec<_> = aimed
                .into_iter()
                .map(|aimed| {
                    serial += 1;
                    op(&together, aimed, serial)
                })
                .collect();
            each_row_once(&together.plan(ops.clone()))?;
            let at_once = together.batch(ops.clone());
            let one_by_one: Vec<_> = ops.into_iter().flat_map(|op| single.batch(vec![op])).collect();
            prop_assert_eq!(at_once, one_by_one);
            prop_assert_eq!(&together.jobs, &single.jobs);
            prop_assert_eq!(&together.sessions, &single.sessions);
            prop_assert_eq!(&together.accounts, &single.accounts);
            prop_assert_eq!(&together.names, &single.names);
            prop_assert_eq!(&together.identities, &single.identities);
            prop_assert_eq!(&together.progress, &single.progress);
            let places = |sheet: &Sheet| -> Vec<_> {
                sheet.credentials.iter().map(|(place, credential)| (place.clone(), credential.key)).collect()
            };
            prop_assert_eq!(places(&together), places(&single));
            prop_assert_eq!(together.backlog, together.backlog_recounted());
            prop_assert_eq!(single.backlog, single.backlog_recounted());
        }
    }
}
