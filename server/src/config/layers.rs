//! What each layer gives for each setting, lowest layer first.

use std::collections::BTreeMap;

use super::report::Origin;
use super::setting::Setting;
use super::value::{Raw, Value};

/// One layer's value for one setting.
pub(super) struct Candidate {
    pub(super) origin: Origin,
    pub(super) raw: Raw,
}

/// The values given, by key. Each list is sorted by layer: the last one that is valid wins.
#[derive(Default)]
pub(super) struct Layers {
    given: BTreeMap<&'static str, Vec<Candidate>>,
}

impl Layers {
    /// Adds a value in the place of its layer, above one of the same layer.
    pub(super) fn add(&mut self, key: &'static str, origin: Origin, raw: Raw) {
        let list = self.given.entry(key).or_default();
        let place = list.partition_point(|other| other.origin.rank() <= origin.rank());
        list.insert(place, Candidate { origin, raw });
    }

    /// [`Layers::add`] for a value in its text form.
    pub(super) fn add_text(&mut self, key: &'static str, origin: Origin, text: impl Into<String>) {
        self.add(key, origin, Raw::Text(text.into()));
    }

    pub(super) fn candidates(&self, key: &str) -> &[Candidate] {
        self.given.get(key).map_or(&[], Vec::as_slice)
    }

    /// Where the highest layer's value comes from, valid or not.
    pub(super) fn origin(&self, key: &str) -> Option<&Origin> {
        self.candidates(key).last().map(|candidate| &candidate.origin)
    }

    /// Whether an operator gave a value, in any layer.
    pub(super) fn is_explicit(&self, key: &str) -> bool {
        self.candidates(key)
            .iter()
            .any(|candidate| candidate.origin.is_explicit())
    }

    /// The valid value of the highest layer, without reporting what is not valid.
    pub(super) fn peek<T: Value>(&self, key: &str) -> Option<T> {
        self.peek_below(key, u8::MAX)
    }

    /// [`Layers::peek`] among the layers below a rank.
    pub(super) fn peek_below<T: Value>(&self, key: &str, rank: u8) -> Option<T> {
        let setting = Setting::find(key)?;
        self.candidates(key)
            .iter()
            .rev()
            .filter(|candidate| candidate.origin.rank() < rank)
            .find_map(|candidate| T::parse(&candidate.raw, setting).ok())
    }
}
