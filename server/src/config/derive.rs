//! Built-in values, and values that follow from other settings. Runs before values are read, so that what is derived is
//! checked and shown like everything else.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Inputs;
use super::database_url::DatabaseUrl;
use super::env;
use super::layers::Layers;
use super::report::{ConfigErrors, Origin, printable_path};
use super::setting::{Preset, Setting};
use super::types::Profile;
use super::value::{Raw, Value};

/// Adds the built-in values of a profile.
pub(super) fn presets(profile: Profile, inputs: &Inputs, layers: &mut Layers) {
    for setting in Setting::all() {
        let of_profile = setting.profiles.iter().find(|(name, _)| *name == profile);
        let presets = [
            (Origin::Default, Some(setting.default)),
            (Origin::Profile(profile), of_profile.map(|(_, p)| *p)),
        ];
        for (origin, preset) in presets {
            if let Some(Preset::Fixed(text)) = preset {
                layers.add_text(setting.key, origin, text);
            }
        }
    }
    let data_dir = match profile {
        Profile::Test => {
            let directory = test_directory(inputs);
            layers.add(
                "socket_path",
                Origin::Profile(profile),
                path(&directory.join("crawler.sock")),
            );
            Some((Origin::Profile(profile), directory))
        }
        Profile::Development | Profile::Production => state_directory(inputs).map(|path| (Origin::Default, path)),
    };
    if let Some((origin, directory)) = data_dir {
        layers.add("data_dir", origin, path(&directory));
    }
}

fn path(path: &Path) -> Raw {
    Raw::Text(path.to_string_lossy().into_owned())
}

/// Of this process alone, so that tests run side by side.
fn test_directory(inputs: &Inputs) -> PathBuf {
    let parent = env::get(&inputs.env, "TMPDIR").unwrap_or("/tmp");
    Path::new(parent).join(format!("crawlwire-test-{}", std::process::id()))
}

/// XDG Base Directory Specification: relative paths in its variables are to be ignored.
fn state_directory(inputs: &Inputs) -> Option<PathBuf> {
    let absolute = |name| {
        env::get(&inputs.env, name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("crawlwire"))
}

/// Adds what follows from other settings. Needs all layers.
pub(super) fn derived(inputs: &Inputs, layers: &mut Layers, report: &mut ConfigErrors) {
    env::apply_port(&inputs.env, layers, report);
    if layers.candidates("data_dir").is_empty() {
        let message = "has no default here, because neither XDG_STATE_HOME nor HOME is an absolute path; set it";
        report.problem(Origin::Default, Some("data_dir"), message);
    }
    database_url(inputs, layers, report);
    heartbeat_timeout(layers);
    require_tokens(layers);
    message_buffer(layers, report);
}

fn database_url(inputs: &Inputs, layers: &mut Layers, report: &mut ConfigErrors) {
    const URL: &str = "database_url";
    const FILE: &str = "database_url_file";
    match layers.peek::<PathBuf>("data_dir") {
        Some(directory) => layers.add_text(URL, Origin::Default, DatabaseUrl::sqlite_in(&directory)),
        // One problem is enough: without a directory there is no default.
        None if report.blames("data_dir") && layers.candidates(URL).is_empty() => {
            layers.add_text(URL, Origin::Default, "sqlite::memory:");
        }
        None => {}
    }
    let (Some(file), Some(file_origin)) = (layers.peek::<PathBuf>(FILE), layers.origin(FILE).cloned()) else {
        return;
    };
    let url_origin = layers.origin(URL).cloned().unwrap_or(Origin::Default);
    if url_origin.rank() > file_origin.rank() {
        return;
    }
    if url_origin.rank() == file_origin.rank() {
        let message = format!("give either this or {URL}, not both in one place ({url_origin})");
        report.problem(file_origin, Some(FILE), message);
        return;
    }
    match (inputs.read_secret)(&file) {
        Ok(url) => match DatabaseUrl::parse(&Raw::Text(url.trim().to_owned()), &Setting::new(URL, &[])) {
            Ok(_) => layers.add_text(URL, file_origin, url.trim()),
            Err(message) => {
                let message = format!("what {} holds {message}", printable_path(&file));
                report.problem(file_origin, Some(FILE), message);
            }
        },
        Err(error) => {
            report.problem(
                file_origin,
                Some(FILE),
                format!("cannot read {}: {error}", printable_path(&file)),
            );
        }
    }
}

/// Someone who sets only the interval wants the timeout to follow, not to break.
fn heartbeat_timeout(layers: &mut Layers) {
    const TIMEOUT: &str = "heartbeat_timeout_ms";
    const INTERVAL: &str = "heartbeat_interval_ms";
    if layers.is_explicit(TIMEOUT) || !layers.is_explicit(INTERVAL) {
        return;
    }
    if let Some(interval) = layers.peek::<Duration>(INTERVAL) {
        let timeout = interval.saturating_mul(3).as_millis().to_string();
        layers.add_text(TIMEOUT, Origin::Derived("3 x heartbeat_interval_ms"), timeout);
    }
}

/// Whoever is not on this machine has to say who they are.
fn require_tokens(layers: &mut Layers) {
    let beyond = layers
        .peek::<IpAddr>("host")
        .is_some_and(|host| !host.to_canonical().is_loopback());
    layers.add_text("require_tokens", Origin::Default, beyond.to_string());
}

/// A buffer smaller than a message could never hold that message.
fn message_buffer(layers: &mut Layers, report: &mut ConfigErrors) {
    const BUFFER: &str = "message_buffer_size_bytes";
    const MESSAGE: &str = "max_message_size_bytes";
    let (Some(buffer), Some(message)) = (layers.peek::<usize>(BUFFER), layers.peek::<usize>(MESSAGE)) else {
        return;
    };
    if buffer >= message {
        return;
    }
    if let Some(origin) = layers.origin(BUFFER).filter(|origin| origin.is_explicit()) {
        let text = format!("{buffer} bytes cannot hold a message of {MESSAGE}; raised to {message}");
        report.warn(origin.clone(), Some(BUFFER), text);
    }
    layers.add_text(
        BUFFER,
        Origin::Derived("raised to max_message_size_bytes"),
        message.to_string(),
    );
}
