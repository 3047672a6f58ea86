//! What a viewer wants to see.

use crawlwire_progress::JobKey;

use super::frame::{About, Frame, Kind};

/// Which jobs a viewer looks at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    All,
    /// By the account's name.
    Account(String),
    /// By the job at the top; what is discovered later belongs to it, too.
    Tree {
        root: JobKey,
        root_id: String,
    },
    Job {
        key: JobKey,
        id: String,
    },
}

/// A set of kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds(u32);

impl Kinds {
    pub(super) const ALL: Self = Self(u32::MAX);

    /// These, and those that every viewer needs.
    pub(super) fn of(kinds: impl IntoIterator<Item = Kind>) -> Self {
        let needed = [Kind::Snapshot, Kind::Resync, Kind::Heartbeat];
        let bits = kinds.into_iter().chain(needed).map(bit);
        Self(bits.fold(0, |all, bit| all | bit))
    }

    fn has(self, kind: Kind) -> bool {
        self.0 & bit(kind) != 0
    }
}

fn bit(kind: Kind) -> u32 {
    1 << (kind as u32)
}

/// What a viewer wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) scope: Scope,
    pub(super) kinds: Kinds,
    /// Jobs in a snapshot at most.
    pub(super) jobs: usize,
}

impl Filter {
    pub(super) fn lets_through(&self, frame: &Frame) -> bool {
        self.kinds.has(frame.kind) && self.concerns(&frame.about)
    }

    fn concerns(&self, about: &About) -> bool {
        match (about, &self.scope) {
            (About::All, _) | (_, Scope::All) => true,
            (About::Whole, _) => false,
            (About::Job(place), Scope::Job { id, .. }) => place.job == *id,
            (About::Job(place), Scope::Tree { root_id, .. }) => place.root.as_ref() == Some(root_id),
            (About::Job(place), Scope::Account(name)) => place.account.as_ref() == Some(name),
        }
    }

    /// Whether the viewer sees how work goes forward. Who does not is no reason for crawlers to report more often.
    pub(super) fn watches(&self) -> bool {
        let of_work = [
            Kind::Progress,
            Kind::State,
            Kind::EntityDiscovered,
            Kind::EntityCompleted,
            Kind::Milestone,
            Kind::TreeMilestone,
            Kind::Estimate,
            Kind::Aggregate,
        ];
        of_work.into_iter().any(|kind| self.kinds.has(kind))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::frame::{Draft, Place};
    use super::*;

    fn frame(kind: Kind, about: About) -> Frame {
        let data = "{}".to_owned();
        Frame::new(
            "run",
            1,
            Draft {
                kind,
                about,
                of: None,
                data,
            },
        )
    }

    fn filter(scope: Scope) -> Filter {
        Filter {
            scope,
            kinds: Kinds::ALL,
            jobs: 500,
        }
    }

    #[test]
    fn a_viewer_sees_what_concerns_it() {
        let place = Arc::new(Place {
            job: "child".to_owned(),
            root: Some("root".to_owned()),
            account: Some("acme".to_owned()),
        });
        let unplaced = Arc::new(Place {
            job: "stray".to_owned(),
            ..Place::default()
        });
        let job = |id: &str| Scope::Job {
            key: JobKey(1),
            id: id.to_owned(),
        };
        let tree = |id: &str| Scope::Tree {
            root: JobKey(1),
            root_id: id.to_owned(),
        };
        let account = |name: &str| Scope::Account(name.to_owned());
        let of_child = frame(Kind::Job, About::Job(place));
        let of_stray = frame(Kind::Error, About::Job(unplaced));
        let of_all = frame(Kind::Aggregate, About::All);
        let of_whole = frame(Kind::Error, About::Whole);
        for (scope, seen) in [
            (Scope::All, [true; 4]),
            (job("child"), [true, false, true, false]),
            (job("stray"), [false, true, true, false]),
            (job("root"), [false, false, true, false]),
            (tree("root"), [true, false, true, false]),
            (tree("child"), [false, false, true, false]),
            (account("acme"), [true, false, true, false]),
            (account("other"), [false, false, true, false]),
        ] {
            let filter = filter(scope);
            let sees = [&of_child, &of_stray, &of_all, &of_whole].map(|frame| filter.lets_through(frame));
            assert_eq!(sees, seen, "{filter:?}");
        }
    }

    #[test]
    fn kinds_are_chosen_but_for_those_that_are_needed() {
        let chosen = Filter {
            kinds: Kinds::of([Kind::Error]),
            ..filter(Scope::All)
        };
        for kind in Kind::ALL {
            let needed = [Kind::Snapshot, Kind::Resync, Kind::Heartbeat, Kind::Error].contains(&kind);
            assert_eq!(chosen.lets_through(&frame(kind, About::All)), needed, "{kind:?}");
            assert!(filter(Scope::All).lets_through(&frame(kind, About::All)));
        }
        assert!(!chosen.watches() && filter(Scope::All).watches());
    }
}
