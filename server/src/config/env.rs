//! The environment layer, and what other names in the environment mean to us.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;

use super::layers::Layers;
use super::names::suggestion;
use super::report::{ConfigErrors, Origin, quote};
use super::setting::Setting;
use super::value::Raw;

/// Replaces the port of the HTTP address where `HTTP_ADDR` is not set. Deployment guide, line 294.
const PORT: &str = "PORT";
/// Namespaces to debug, of which ours is `socket:*`. Deployment guide, line 522.
const DEBUG: &str = "DEBUG";
/// Options of another runtime. Deployment guide, line 623.
const NODE_OPTIONS: &str = "NODE_OPTIONS";
/// Names of an example (API reference, lines 848 and 849) that other programs use too: told, not obeyed.
const BARE: &[(&str, &str)] = &[
    ("MAX_CONNECTIONS", "SOCKET_MAX_CONNECTIONS"),
    ("LOG_LEVEL", "SOCKET_LOG_LEVEL"),
];
/// Names with these beginnings are ours, so an unknown one is a slip.
const OWN_PREFIXES: &[&str] = &["SOCKET_", "CRAWLWIRE_"];
/// What commands that talk to a server read, where it is no setting.
const OF_COMMANDS: &[&str] = &["CRAWLWIRE_SERVER"];

/// Every variable that sets something.
fn setting_names() -> impl Iterator<Item = &'static str> {
    Setting::all().flat_map(|setting| setting.env.iter().copied())
}

/// The variables that are text. One that is not is a problem only where it would be read.
pub(super) fn collect(
    vars: impl Iterator<Item = (OsString, OsString)>,
    report: &mut ConfigErrors,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (name, value) in vars {
        let Ok(name) = name.into_string() else { continue };
        if let Ok(value) = value.into_string() {
            env.insert(name, value);
        } else if is_read(&name) {
            report.problem(Origin::Env(name), None, "is not valid UTF-8");
        }
    }
    env
}

/// Whether the value of this variable is read for the configuration.
fn is_read(name: &str) -> bool {
    const FOR_DATA_DIR: &[&str] = &["HOME", "TMPDIR", "XDG_STATE_HOME"];
    setting_names()
        .chain([PORT, DEBUG])
        .chain(FOR_DATA_DIR.iter().copied())
        .any(|known| known == name)
}

/// Adds what the environment gives. An empty variable counts as unset.
pub(super) fn read(env: &BTreeMap<String, String>, layers: &mut Layers, report: &mut ConfigErrors) {
    for setting in Setting::all() {
        read_setting(setting, env, layers, report);
    }
    if let Some(patterns) = get(env, DEBUG)
        && get(env, "SOCKET_LOG_LEVEL").is_none()
        && patterns.split([',', ' ']).any(|pattern| pattern == "socket:*")
    {
        layers.add_text("log_level", Origin::Env(DEBUG.to_owned()), "debug");
    }
    warn_of_others(env, report);
}

/// The value of a variable that is set and not empty.
pub(super) fn get<'a>(env: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    env.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

fn read_setting(
    setting: &'static Setting,
    env: &BTreeMap<String, String>,
    layers: &mut Layers,
    report: &mut ConfigErrors,
) {
    let given: Vec<(&str, &str)> = setting
        .env
        .iter()
        .filter_map(|name| get(env, name).map(|value| (*name, value)))
        .collect();
    if let [(first, winner), others @ ..] = given.as_slice() {
        for (other, value) in others {
            if value.trim() != winner.trim() {
                let message = format!("differs from {first}, which is used instead");
                report.warn(Origin::Env((*other).to_owned()), Some(setting.key), message);
            }
        }
    }
    // In reverse, so that the first name ends up on top.
    for (name, value) in given.into_iter().rev() {
        layers.add_text(setting.key, Origin::Env(name.to_owned()), value);
    }
}

/// Applies `PORT`, once the layers below the environment are complete.
pub(super) fn apply_port(env: &BTreeMap<String, String>, layers: &mut Layers, report: &mut ConfigErrors) {
    const KEY: &str = "http_addr";
    let Some(given) = get(env, PORT).filter(|_| get(env, "HTTP_ADDR").is_none()) else {
        return;
    };
    let origin = Origin::Env(PORT.to_owned());
    // A sign would pass as a number otherwise.
    let plain = given.trim().bytes().all(|b| b.is_ascii_digit());
    match given.trim().parse::<u16>() {
        Ok(port) if plain => {
            if let Some(mut addr) = layers.peek_below::<SocketAddr>(KEY, origin.rank()) {
                addr.set_port(port);
                layers.add(KEY, origin, Raw::Text(addr.to_string()));
            }
        }
        _ => {
            let message = format!("the port must be a whole number from 0 to 65535, not {}", quote(given));
            report.problem(origin, Some(KEY), message);
        }
    }
}

fn warn_of_others(env: &BTreeMap<String, String>, report: &mut ConfigErrors) {
    for (bare, ours) in BARE {
        if get(env, bare).is_some() {
            let message = format!("is ignored; this server reads {ours}");
            report.warn(Origin::Env((*bare).to_owned()), None, message);
        }
    }
    if get(env, NODE_OPTIONS).is_some_and(|options| options.contains("max-old-space-size")) {
        let message = "max-old-space-size has no effect; memory is bounded by max_connections, \
                       message_buffer_size_bytes and job_queue_size";
        report.warn(Origin::Env(NODE_OPTIONS.to_owned()), None, message);
    }
    for (name, value) in env {
        let ours = OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        let elsewhere = OF_COMMANDS.contains(&name.as_str());
        if ours && !elsewhere && !value.is_empty() && !setting_names().any(|known| known == name) {
            let message = format!("is not a known variable{}", suggestion(name, setting_names()));
            report.warn(Origin::Env(name.clone()), None, message);
        }
    }
}

/// Every variable with a meaning here.
#[cfg(test)]
pub(super) fn known_names() -> Vec<&'static str> {
    let bare = BARE.iter().map(|(name, _)| *name);
    setting_names().chain([PORT, DEBUG, NODE_OPTIONS]).chain(bare).collect()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn variables_that_are_not_text_are_problems_only_where_they_are_read() {
        let not_text = || OsString::from_vec(vec![b'/', 0xff]);
        let vars = [
            ("SOCKET_PATH".into(), not_text()),
            ("HOME".into(), not_text()),
            ("LESSOPEN".into(), not_text()),
            (not_text(), "1".into()),
            ("SOCKET_PORT".into(), "1".into()),
        ];
        let mut report = ConfigErrors::default();
        let env = collect(vars.into_iter(), &mut report);
        assert_eq!(env, BTreeMap::from([("SOCKET_PORT".to_owned(), "1".to_owned())]));
        let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            ["SOCKET_PATH: is not valid UTF-8", "HOME: is not valid UTF-8"]
        );
    }
}
