//! The operations, drawn by chance.

use crawlwire_progress::admit::Gate;
use crawlwire_progress::store::Act;
use proptest::prelude::*;

/// An operation, by the numbers of what it speaks of, because keys differ from store to store.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Submit {
        name: Option<u8>,
        account: u8,
        host: u8,
        token: bool,
        priority: f64,
        later: Option<u64>,
        label: bool,
    },
    Open {
        identity: Option<u8>,
        confirms: bool,
    },
    Claim {
        job: usize,
        peer: usize,
    },
    Start {
        job: usize,
        peer: usize,
        fence: i64,
    },
    Finish {
        job: usize,
        peer: usize,
        fence: i64,
        end: u8,
    },
    Release {
        job: usize,
        peer: usize,
        fence: i64,
    },
    Adopt {
        job: usize,
        peer: usize,
    },
    Discover {
        job: usize,
        peer: usize,
        fence: i64,
        first: u8,
        count: u8,
    },
    Report {
        job: usize,
        peer: usize,
        fence: i64,
        n: i64,
    },
    Renew {
        peer: usize,
    },
    Disconnect {
        peer: usize,
    },
    Recover {
        connected: bool,
    },
    Sweep,
    Confirm {
        job: usize,
        peer: usize,
        fence: i64,
    },
    Act {
        job: usize,
        act: Act,
    },
    CancelTree {
        job: usize,
    },
    Redrive {
        quarantined: bool,
        failed: bool,
        account: Option<u8>,
    },
    Delete {
        job: usize,
    },
    CloseGate {
        gate: Gate,
        seconds: Option<u64>,
    },
    OpenGate {
        gate: Gate,
    },
    Prune {
        seconds: i64,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        Just(Act::Cancel),
        Just(Act::Pause),
        Just(Act::Pause),
        Just(Act::Resume),
        Just(Act::Retry),
        Just(Act::Redrive),
        (-9.0..9.0_f64).prop_map(Act::SetPriority),
    ]
}

pub(crate) fn gate() -> impl Strategy<Value = Gate> {
    let host = (0..2_u8).prop_map(host);
    prop_oneof![
        Just(Gate::Queue),
        host.clone().prop_map(Gate::Host),
        (0..2_u8, host).prop_map(|(account, host)| Gate::Credentials {
            account_id: format!("account-{account}"),
            host
        }),
    ]
}

pub(crate) fn host(number: u8) -> String {
    format!("https://host-{number}.example")
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let (job, peer, fence) = (0..8_usize, 0..4_usize, 1..5_i64);
    let lease = (job.clone(), peer.clone(), fence);
    let submit = (
        prop::option::weighted(0.3, 0..4_u8),
        0..2_u8,
        0..2_u8,
        any::<bool>(),
        -9.0..9.0_f64,
        prop::option::weighted(0.2, 0..30_u64),
        any::<bool>(),
    );
    prop_oneof![
        3 => submit.prop_map(|(name, account, host, token, priority, later, label)| Step::Submit {
            name, account, host, token, priority, later, label
        }),
        2 => (prop::option::of(0..2_u8), any::<bool>()).prop_map(|(identity, confirms)| Step::Open { identity, confirms }),
        6 => (job.clone(), peer.clone()).prop_map(|(job, peer)| Step::Claim { job, peer }),
        5 => lease.clone().prop_map(|(job, peer, fence)| Step::Start { job, peer, fence }),
        4 => (lease.clone(), 0..3_u8).prop_map(|((job, peer, fence), end)| Step::Finish { job, peer, fence, end }),
        1 => lease.clone().prop_map(|(job, peer, fence)| Step::Release { job, peer, fence }),
        2 => (job.clone(), peer.clone()).prop_map(|(job, peer)| Step::Adopt { job, peer }),
        2 => lease.clone().prop_map(|(job, peer, fence)| Step::Confirm { job, peer, fence }),
        6 => (job.clone(), act()).prop_map(|(job, act)| Step::Act { job, act }),
        1 => job.clone().prop_map(|job| Step::CancelTree { job }),
        1 => (any::<bool>(), any::<bool>(), prop::option::of(0..2_u8))
            .prop_map(|(quarantined, failed, account)| Step::Redrive { quarantined, failed, account }),
        1 => job.prop_map(|job| Step::Delete { job }),
        1 => (gate(), prop::option::of(0..40_u64)).prop_map(|(gate, seconds)| Step::CloseGate { gate, seconds }),
        1 => gate().prop_map(|gate| Step::OpenGate { gate }),
        1 => (0..60_i64).prop_map(|seconds| Step::Prune { seconds }),
        4 => (lease.clone(), 0..4_u8, 1..4_u8)
            .prop_map(|((job, peer, fence), first, count)| Step::Discover { job, peer, fence, first, count }),
        3 => (lease, 0..9_i64).prop_map(|((job, peer, fence), n)| Step::Report { job, peer, fence, n }),
        2 => peer.clone().prop_map(|peer| Step::Renew { peer }),
        2 => peer.prop_map(|peer| Step::Disconnect { peer }),
        1 => any::<bool>().prop_map(|connected| Step::Recover { connected }),
        3 => Just(Step::Sweep),
    ]
}
