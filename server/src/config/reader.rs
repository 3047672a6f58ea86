//! From layers to typed values, noting what is wrong and where each value comes from.

use super::layers::Layers;
use super::report::{ConfigErrors, Origin};
use super::setting::Setting;
use super::value::Value;

/// One setting as resolved, for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key in the file.
    pub key: &'static str,
    /// Its value as TOML, secrets masked; `None` when it is unset.
    pub value: Option<String>,
    /// The layer that gave the value.
    pub origin: Origin,
}

/// Fills the sections of the configuration.
pub(super) struct Reader<'a> {
    layers: &'a Layers,
    report: &'a mut ConfigErrors,
    pub(super) entries: Vec<Entry>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a Layers, report: &'a mut ConfigErrors) -> Self {
        Self {
            layers,
            report,
            entries: Vec::new(),
        }
    }

    /// The value of the highest layer. Every layer's value is checked, so that a mistake which another layer hides is
    /// found too. `None` when there is no valid one; the reason is then in the report.
    pub(super) fn read<T: Value>(&mut self, setting: &Setting) -> Option<T> {
        let mut found = None;
        for candidate in self.layers.candidates(setting.key) {
            match T::parse(&candidate.raw, setting) {
                Ok(value) => found = Some((value, candidate.origin.clone())),
                Err(message) => self
                    .report
                    .problem(candidate.origin.clone(), Some(setting.key), message),
            }
        }
        let (value, origin) = match found {
            Some(found) => found,
            None => (self.unset(setting)?, Origin::Default),
        };
        self.entries.push(Entry {
            key: setting.key,
            value: value.to_toml(),
            origin,
        });
        Some(value)
    }

    fn unset<T: Value>(&mut self, setting: &Setting) -> Option<T> {
        let unset = T::unset();
        if unset.is_none() && !self.report.blames(setting.key) {
            self.report.problem(
                Origin::Default,
                Some(setting.key),
                "is not set, and has no default here",
            );
        }
        unset
    }
}
