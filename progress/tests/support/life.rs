//! A life told by its events alone.

use std::collections::BTreeSet;

use crawlwire_progress::view::EventView;
use crawlwire_progress::{Arrow, Fence, State};
use proptest::prelude::*;

pub(crate) struct Life {
    pub(crate) state: State,
    pub(crate) fence: Fence,
    pub(crate) attempt: i32,
    pub(crate) holder: Option<String>,
}

impl Life {
    pub(crate) fn replay(events: &[EventView], taken: &mut BTreeSet<Arrow>) -> Result<Self, TestCaseError> {
        let mut life = Self {
            state: State::Queued,
            fence: Fence(0),
            attempt: 0,
            holder: None,
        };
        for (index, event) in events.iter().enumerate() {
            for name in &event.arrows {
                let arrow = Arrow::named(name).expect("a known arrow");
                taken.insert(arrow);
                prop_assert_eq!(
                    index == 0,
                    matches!(arrow, Arrow::Submit | Arrow::Discover),
                    "created once"
                );
                life.take(arrow, event)?;
            }
            prop_assert_eq!(
                (life.state, life.fence, life.attempt),
                (event.state, event.fence, event.attempt)
            );
        }
        Ok(life)
    }

    fn take(&mut self, arrow: Arrow, event: &EventView) -> Result<(), TestCaseError> {
        let from = self.state;
        // Of two arrows in one event the first leads to no end.
        let state = match arrow {
            Arrow::Start => State::Running,
            Arrow::WantCancel | Arrow::WantPause | Arrow::SetPriority => from,
            _ => event.state,
        };
        prop_assert!(leads_to(arrow, from).contains(&state), "{arrow} from {from} to {state}");
        let gave = matches!(arrow, Arrow::Claim | Arrow::Adopt);
        let lost = matches!(
            arrow,
            Arrow::Expire | Arrow::Release | Arrow::Return | Arrow::Deadline | Arrow::Force | Arrow::Claim
        );
        if from.is_leased() && !gave {
            prop_assert_eq!(&self.holder, &event.session, "two holders under one fence");
        }
        self.state = state;
        self.attempt += i32::from(arrow == Arrow::Start);
        if lost {
            self.fence = self.fence.next();
        }
        if gave {
            self.holder.clone_from(&event.session);
        } else if !state.is_leased() {
            self.holder = None;
        }
        Ok(())
    }
}

/// Where an arrow may lead.
fn leads_to(arrow: Arrow, from: State) -> &'static [State] {
    use State::{Assigned, Cancelled, Completed, Delayed, Failed, Paused, Queued, Running};
    match (arrow, from) {
        (Arrow::Submit, Queued) => &[Queued, Delayed],
        (Arrow::Discover, Queued) | (Arrow::Promote, Delayed) => &[Queued],
        (Arrow::Claim, Queued) | (Arrow::Adopt, Assigned) => &[Assigned],
        (Arrow::Start, Assigned) | (Arrow::Adopt, Running) => &[Running],
        (Arrow::Finish, Running) => &[Completed, Failed, Delayed, Cancelled, Paused],
        (Arrow::Expire | Arrow::Release, Assigned) => &[Queued, Paused, Cancelled],
        (Arrow::Return, Assigned | Running) => &[Queued, Paused, Cancelled],
        (Arrow::Expire, Running) => &[Queued, Failed, Paused, Cancelled],
        (Arrow::Deadline, Running) => &[Delayed, Failed, Paused, Cancelled],
        (Arrow::WantCancel | Arrow::WantPause, Assigned) => &[Assigned],
        (Arrow::WantCancel | Arrow::WantPause, Running) => &[Running],
        (Arrow::Confirm | Arrow::Force, Assigned | Running) => &[Cancelled, Paused],
        (Arrow::Cancel, Delayed | Queued | Paused) => &[Cancelled],
        (Arrow::Pause, Delayed | Queued) => &[Paused],
        (Arrow::Resume, Paused) => &[Queued, Delayed],
        (Arrow::Resume, Assigned) => &[Assigned],
        (Arrow::Resume, Running) => &[Running],
        (Arrow::Retry, Failed | Cancelled) | (Arrow::Redrive, Failed | Paused) => &[Queued],
        (Arrow::SetPriority, Delayed) => &[Delayed],
        (Arrow::SetPriority, Queued) => &[Queued],
        (Arrow::SetPriority, Assigned) => &[Assigned],
        (Arrow::SetPriority, Running) => &[Running],
        (Arrow::SetPriority, Paused) => &[Paused],
        (_, Delayed | Queued | Assigned | Running | Paused | Completed | Failed | Cancelled) => &[],
    }
}
