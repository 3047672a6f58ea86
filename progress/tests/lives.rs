//! Whatever crawlers and people do, and however late, lives stay sound; and where a guard is taken out, it is noticed.

mod support;

use std::cell::RefCell;
use std::collections::BTreeSet;

use crawlwire_progress::{Arrow, Policy};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use support::play::{Play, tight};
use support::step::{Step, step};

/// Plays many plays; the arrows that were met.
fn played(policy: &Policy) -> Result<BTreeSet<Arrow>, TestError<Vec<Step>>> {
    let met = RefCell::new(BTreeSet::new());
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    runner.run(&prop::collection::vec(step(), 1..160), |steps| {
        let mut play = Play::new(policy.clone());
        for op in play.opening() {
            play.watched(op)?;
        }
        for step in &steps {
            play.step(step)?;
        }
        met.borrow_mut().extend(play.end()?);
        Ok(())
    })?;
    Ok(met.into_inner())
}

#[test]
fn lives_stay_sound_and_every_arrow_is_met() {
    match played(&tight()) {
        Ok(met) => assert_eq!(met, Arrow::ALL.iter().copied().collect(), "the steps are too tame"),
        Err(failed) => panic!("{failed}"),
    }
}

#[cfg(feature = "testing")]
mod without {
    use crawlwire_progress::policy::Guard;

    use super::*;

    /// What the plays show when a guard is gone.
    fn shows(guard: Guard) -> String {
        let policy = Policy {
            without: Some(guard),
            ..tight()
        };
        match played(&policy) {
            Ok(_) => panic!("nobody misses {guard:?}"),
            Err(failed) => failed.to_string(),
        }
    }

    #[test]
    fn the_fence_lines_of_lost_leases_have_effects() {
        let shown = shows(Guard::Fence);
        assert!(shown.contains("had an effect"), "{shown}");
    }

    #[test]
    fn the_second_look_leases_end_before_their_time() {
        let shown = shows(Guard::Expiry);
        assert!(shown.contains("too early"), "{shown}");
    }

    #[test]
    fn the_identity_of_children_a_thing_is_crawled_twice() {
        let shown = shows(Guard::ChildIdentity);
        assert!(shown.contains("a thing is twice in a crawl"), "{shown}");
    }

    #[test]
    fn the_way_of_a_finish_work_that_was_done_is_lost() {
        let shown = shows(Guard::FinishOverWant);
        assert!(shown.contains("a finish wins"), "{shown}");
    }
}
