//! The steps of a play, drawn by chance.

use crawlwire_progress::admit::Gate;
use crawlwire_progress::store::Act;
use proptest::prelude::*;

use super::HOST;

/// Who speaks of a job: the one that may, one that could earlier, or a liar.
#[derive(Debug, Clone)]
pub(crate) enum Who {
    Holder { job: usize },
    Earlier { index: usize },
    Liar { job: usize, session: usize, fence: i64 },
}

#[derive(Debug, Clone)]
pub(crate) enum Says {
    Start,
    Complete,
    Fail { recoverable: bool },
    Release,
    Confirm,
    Return,
    Checkpoint { page: u8 },
    Discover { entities: Vec<u8> },
    Report { n: i64 },
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Wait {
        millis: u64,
    },
    Submit {
        name: Option<u8>,
        other: bool,
        token: bool,
        run_in: Option<u64>,
    },
    Open {
        process: Option<u8>,
        confirms: bool,
    },
    Renew {
        slot: usize,
    },
    Disconnect {
        slot: usize,
    },
    Claim {
        job: usize,
        slot: usize,
    },
    Adopt {
        job: usize,
        slot: usize,
    },
    Say {
        who: Who,
        what: Says,
    },
    Act {
        job: usize,
        act: Act,
    },
    Many(Many),
    Close {
        gate: Gate,
        millis: Option<u64>,
    },
    Unlock {
        gate: Gate,
    },
    Recover {
        connected: bool,
    },
    Sweep,
}

/// What chooses its jobs by a condition. What is chosen was so before the batch.
#[derive(Debug, Clone)]
pub(crate) enum Many {
    CancelTree { job: usize },
    Redrive { other: bool },
    Delete { job: usize },
    Prune { age: u64 },
}

/// Sessions at a time.
pub(crate) const SLOTS: usize = 3;

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        6 => (0..8_usize).prop_map(|job| Who::Holder { job }),
        2 => (0..40_usize).prop_map(|index| Who::Earlier { index }),
        1 => (0..8_usize, 0..SLOTS, 0..6_i64).prop_map(|(job, session, fence)| Who::Liar { job, session, fence }),
    ]
}

fn says() -> impl Strategy<Value = Says> {
    prop_oneof![
        8 => Just(Says::Start),
        2 => Just(Says::Complete),
        4 => prop::bool::weighted(0.8).prop_map(|recoverable| Says::Fail { recoverable }),
        2 => Just(Says::Release),
        6 => Just(Says::Confirm),
        2 => Just(Says::Return),
        2 => any::<u8>().prop_map(|page| Says::Checkpoint { page }),
        5 => prop::collection::vec(0..5_u8, 1..4).prop_map(|entities| Says::Discover { entities }),
        3 => (1..20_i64).prop_map(|n| Says::Report { n }),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => Just(Act::Cancel),
        3 => Just(Act::Pause),
        3 => Just(Act::Resume),
        3 => Just(Act::Retry),
        4 => Just(Act::Redrive),
        1 => (0..3_i32).prop_map(|value| Act::SetPriority(value.into())),
    ]
}

fn many() -> impl Strategy<Value = Many> {
    prop_oneof![
        2 => (0..8_usize).prop_map(|job| Many::CancelTree { job }),
        5 => any::<bool>().prop_map(|other| Many::Redrive { other }),
        2 => (0..8_usize).prop_map(|job| Many::Delete { job }),
        1 => (0..100_000_u64).prop_map(|age| Many::Prune { age }),
    ]
}

fn gate() -> impl Strategy<Value = Gate> {
    let credentials = |account_id: &str| Gate::Credentials {
        account_id: account_id.to_owned(),
        host: HOST.to_owned(),
    };
    prop_oneof![
        1 => Just(Gate::Queue),
        1 => Just(Gate::Host(HOST.to_owned())),
        2 => Just(credentials("acme")),
        1 => Just(credentials("other")),
    ]
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let slot = || 0..SLOTS;
    let run_in = prop::option::weighted(0.2, 0..60_000_u64);
    let submit = (
        prop::option::weighted(0.3, 0..4_u8),
        any::<bool>(),
        any::<bool>(),
        run_in,
    );
    prop_oneof![
        8 => (0..40_000_u64).prop_map(|millis| Step::Wait { millis }),
        4 => submit.prop_map(|(name, other, token, run_in)| Step::Submit { name, other, token, run_in }),
        4 => (prop::option::weighted(0.8, 0..2_u8), prop::bool::weighted(0.7))
            .prop_map(|(process, confirms)| Step::Open { process, confirms }),
        8 => slot().prop_map(|slot| Step::Renew { slot }),
        2 => slot().prop_map(|slot| Step::Disconnect { slot }),
        16 => (0..8_usize, slot()).prop_map(|(job, slot)| Step::Claim { job, slot }),
        4 => (0..8_usize, slot()).prop_map(|(job, slot)| Step::Adopt { job, slot }),
        28 => (who(), says()).prop_map(|(who, what)| Step::Say { who, what }),
        8 => (0..8_usize, act()).prop_map(|(job, act)| Step::Act { job, act }),
        3 => many().prop_map(Step::Many),
        2 => (gate(), prop::option::weighted(0.7, 0..30_000_u64))
            .prop_map(|(gate, millis)| Step::Close { gate, millis }),
        4 => gate().prop_map(|gate| Step::Unlock { gate }),
        1 => prop::bool::weighted(0.9).prop_map(|connected| Step::Recover { connected }),
        6 => Just(Step::Sweep),
    ]
}
