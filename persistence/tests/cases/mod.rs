//! The cases of the suite, and what they share.

mod accounts;
mod acts;
mod feed;
mod gates;
mod instances;
mod life;
mod lists;
mod sessions;
mod settlement;
mod submissions;
mod trees_and_lists;
mod views;
mod watches;
mod weights;

use crawlwire_progress::discovery::Verdict;
use crawlwire_progress::store::{Paging, Rejection};
use crawlwire_progress::{Arrow, Fact, Outcome, Policy, State};

pub(crate) use self::accounts::*;
pub(crate) use self::acts::*;
pub(crate) use self::feed::*;
pub(crate) use self::gates::*;
pub(crate) use self::instances::*;
pub(crate) use self::life::*;
pub(crate) use self::lists::*;
pub(crate) use self::sessions::*;
pub(crate) use self::settlement::*;
pub(crate) use self::submissions::*;
pub(crate) use self::trees_and_lists::*;
pub(crate) use self::views::*;
pub(crate) use self::watches::*;
pub(crate) use self::weights::*;

const ALL: Paging = Paging {
    limit: 100,
    after: None,
};

pub(crate) fn policy(case: &str) -> Policy {
    let policy = Policy {
        misses_max: 2,
        ..Policy::default()
    };
    match case {
        "budgets_hold_discoveries_back" => Policy {
            tree_depth_max: 2,
            children_max: 3,
            tree_jobs_max: 4,
            ..policy
        },
        "a_full_queue_refuses_submissions_but_not_discoveries" | "a_repeated_submission_is_one" => Policy {
            queued_jobs_max: 2,
            ..policy
        },
        "an_account_holds_no_more_than_its_share" => Policy {
            account_held_max: Some(2),
            ..policy
        },
        _ => policy,
    }
}

fn refused(outcome: Outcome) -> Rejection {
    match outcome {
        Outcome::Refused(rejection) => rejection,
        other => panic!("{other:?}"),
    }
}

fn verdicts(outcome: Outcome) -> Vec<Verdict> {
    match outcome {
        Outcome::Discovered(verdicts) => verdicts.into_iter().map(|(verdict, _)| verdict).collect(),
        other => panic!("{other:?}"),
    }
}

fn steps(facts: &[Fact]) -> Vec<(Arrow, State)> {
    facts.iter().map(|fact| (fact.arrow, fact.state)).collect()
}
