//! The configuration as a whole. Environment and file are text here, so nothing of this machine shows through.

mod docs;
mod layers;
mod problems;
mod profiles;
mod properties;
mod secrets;
mod security;

use std::path::PathBuf;

use super::{Config, ConfigErrors, Inputs, Origin, Warning};

/// A configuration under test: no file, no flags, and a home directory so that `data_dir` has a default.
pub(super) struct Given(Inputs);

pub(super) fn given() -> Given {
    Given(Inputs::default()).env("HOME", "/srv/someone")
}

impl Given {
    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(super) fn flag(mut self, flag: &'static str, value: &str) -> Self {
        self.0.flags.insert(flag, value.to_owned());
        self
    }

    pub(super) fn file(mut self, text: &str) -> Self {
        self.0.file = Some((PathBuf::from("c.toml"), text.to_owned()));
        self
    }

    pub(super) fn inputs(mut self, change: impl FnOnce(&mut Inputs)) -> Self {
        change(&mut self.0);
        self
    }

    pub(super) fn resolve(self) -> Result<(Config, Vec<Warning>), ConfigErrors> {
        Config::resolve(self.0)
    }

    pub(super) fn config(self) -> Config {
        self.resolve()
            .map(|(config, _)| config)
            .unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// The warnings, one text each.
    pub(super) fn warnings(self) -> Vec<String> {
        let (_, warnings) = self.resolve().unwrap_or_else(|errors| panic!("{errors}"));
        warnings.iter().map(ToString::to_string).collect()
    }

    /// The problems, one text each.
    pub(super) fn problems(self) -> Vec<String> {
        let errors = self.resolve().map(|(config, _)| panic!("valid: {config}")).unwrap_err();
        errors.problems.iter().map(ToString::to_string).collect()
    }
}

/// Value and origin of one setting, as `crawlwire config` shows them.
pub(super) fn shown(config: &Config, key: &str) -> (Option<String>, Origin) {
    let entry = config.entries().iter().find(|entry| entry.key == key);
    let entry = entry.unwrap_or_else(|| panic!("no setting {key}"));
    (entry.value.clone(), entry.origin.clone())
}
