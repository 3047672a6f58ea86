//! Makes a failing transition smaller.

use proptest::strategy::ValueTree;

use crate::machine::step::Transition;

/// Leaves out operations, the last first, and then the wait.
#[derive(Debug)]
pub(crate) struct Smaller {
    transition: Transition,
    before: Option<Transition>,
    /// The operations before this one have not been tried.
    untried: usize,
    waits: bool,
}

impl Smaller {
    pub(crate) fn new(transition: Transition) -> Self {
        Self {
            untried: transition.steps.len(),
            waits: transition.wait > 0,
            before: None,
            transition,
        }
    }
}

impl ValueTree for Smaller {
    type Value = Transition;

    fn current(&self) -> Transition {
        self.transition.clone()
    }

    fn simplify(&mut self) -> bool {
        let before = self.transition.clone();
        if self.untried > 0 && self.transition.steps.len() > 1 {
            self.untried -= 1;
            self.transition.steps.remove(self.untried);
        } else if self.waits {
            self.waits = false;
            self.transition.wait = 0;
        } else {
            return false;
        }
        self.before = Some(before);
        true
    }

    fn complicate(&mut self) -> bool {
        match self.before.take() {
            Some(before) => {
                self.transition = before;
                true
            }
            None => false,
        }
    }
}
