//! Rules between settings, and advice on what is valid but likely unwanted. Runs on read values.

use std::time::Duration;

use super::layers::Layers;
use super::report::{ConfigErrors, Origin};
use super::setting::Setting;
use super::{Cleanup, Connection, Heartbeat, Http, Jobs, Messages, Progress, Security};

/// Longest path the address of a Unix socket can hold, without the NUL that ends it: unix(7), and the same in BSD.
const SOCKET_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Where a value comes from, as layers know it.
fn origin(layers: &Layers, key: &str) -> Origin {
    layers.origin(key).cloned().unwrap_or(Origin::Default)
}

pub(super) fn connection(connection: &Connection, layers: &Layers, report: &mut ConfigErrors) {
    let length = connection.socket_path.as_os_str().len();
    if length > SOCKET_PATH_BYTES_MAX && !report.blames("socket_path") {
        let message = format!("is {length} bytes long; the system allows {SOCKET_PATH_BYTES_MAX}");
        report.problem(origin(layers, "socket_path"), Some("socket_path"), message);
    }
    let mode = connection.socket_mode;
    if mode.bits() & 0o002 != 0 {
        let message = format!("{mode} lets every local user connect as a crawler");
        report.warn(origin(layers, "socket_mode"), Some("socket_mode"), message);
    }
    if connection.socket_group.is_some() && mode.bits() & 0o020 == 0 {
        let message = format!("has no effect: socket_mode {mode} does not let the group write; 0660 does");
        report.warn(origin(layers, "socket_group"), Some("socket_group"), message);
    }
    if layers.is_explicit("host") && connection.port.is_none() && !report.blames("port") {
        let message = "has no effect without a port: there is no TCP listener";
        report.warn(origin(layers, "host"), Some("host"), message);
    }
}

/// What other machines can reach is encrypted, and asks who is there.
pub(super) fn security(security: &Security, connection: &Connection, layers: &Layers, report: &mut ConfigErrors) {
    const CERT: &str = "tls_cert_file";
    const KEY: &str = "tls_key_file";
    const CLIENT_CA: &str = "tls_client_ca_file";
    let tls = [(CERT, &security.tls_cert_file), (KEY, &security.tls_key_file)];
    let given: Vec<&str> = tls
        .iter()
        .filter(|(_, file)| file.is_some())
        .map(|(key, _)| *key)
        .collect();
    let blamed = report.blames(CERT) || report.blames(KEY);
    match given[..] {
        [one] if !blamed => {
            let other = if one == CERT { KEY } else { CERT };
            report.problem(origin(layers, one), Some(one), format!("needs {other} beside it"));
        }
        [] if security.tls_client_ca_file.is_some() && !blamed => {
            let message = format!("needs {CERT} and {KEY} beside it");
            report.problem(origin(layers, CLIENT_CA), Some(CLIENT_CA), message);
        }
        _ => {}
    }
    let Some(address) = connection.tcp() else {
        if let Some(key) = given.first() {
            let message = "has no effect without a port: there is no TCP listener";
            report.warn(origin(layers, key), Some(key), message);
        }
        return;
    };
    if address.ip().to_canonical().is_loopback() || report.blames("host") {
        return;
    }
    let host = address.ip();
    if given.is_empty() && !blamed {
        let message = format!(
            "{host} can be reached from other machines, which needs TLS: set {CERT} and {KEY}, or listen on localhost"
        );
        report.problem(origin(layers, "host"), Some("host"), message);
    }
    if !security.require_tokens && !report.blames("require_tokens") {
        let message = format!("must be true, because host {host} can be reached from other machines");
        report.problem(origin(layers, "require_tokens"), Some("require_tokens"), message);
    }
}

/// What one connection may hold must fit into the half that is for its direction.
pub(super) fn messages(messages: &Messages, layers: &Layers, report: &mut ConfigErrors) {
    const ALL: &str = "max_buffered_bytes";
    const ONE: &str = "message_buffer_size_bytes";
    if messages.buffered_max / 2 < messages.buffer_size && !report.blames(ALL) && !report.blames(ONE) {
        let message = format!(
            "{} bytes is below twice the {ONE}, which is {} ({})",
            messages.buffered_max,
            messages.buffer_size,
            origin(layers, ONE),
        );
        report.problem(origin(layers, ALL), Some(ALL), message);
    }
}

/// One lost heartbeat must not cost a crawler its jobs, and the next one needs time to arrive.
pub(super) fn heartbeat(heartbeat: &Heartbeat, layers: &Layers, report: &mut ConfigErrors) {
    const TIMEOUT: &str = "heartbeat_timeout_ms";
    const INTERVAL: &str = "heartbeat_interval_ms";
    if report.blames(TIMEOUT) || report.blames(INTERVAL) {
        return;
    }
    // A tenth keeps short intervals possible, in tests above all.
    let margin = (heartbeat.interval / 10).min(Duration::from_secs(1));
    let least = heartbeat.interval * 2 + margin;
    if heartbeat.timeout < least {
        let message = format!(
            "{} ms is too short for a {INTERVAL} of {} ({}); at least {} ms, so that one lost heartbeat does no harm",
            heartbeat.timeout.as_millis(),
            heartbeat.interval.as_millis(),
            origin(layers, INTERVAL),
            least.as_millis(),
        );
        report.problem(origin(layers, TIMEOUT), Some(TIMEOUT), message);
    }
}

pub(super) fn jobs(jobs: &Jobs, layers: &Layers, report: &mut ConfigErrors) {
    const DELAY: &str = "retry_delay_ms";
    const LONGEST: &str = "max_retry_delay_ms";
    if jobs.retry_delay > jobs.max_retry_delay && !report.blames(DELAY) && !report.blames(LONGEST) {
        let message = format!(
            "{} ms is below {DELAY}, which is {} ({})",
            jobs.max_retry_delay.as_millis(),
            jobs.retry_delay.as_millis(),
            origin(layers, DELAY),
        );
        report.problem(origin(layers, LONGEST), Some(LONGEST), message);
    }
}

/// What says nothing for long is quiet before it is stalled.
pub(super) fn progress(progress: &Progress, layers: &Layers, report: &mut ConfigErrors) {
    const QUIET: &str = "progress_quiet_after_ms";
    let stalled = [
        ("progress_stalled_after_ms", Some(progress.stalled_after)),
        (
            "progress_stalled_after_discover_namespaces_ms",
            progress.stalled_after_discover_namespaces,
        ),
        (
            "progress_stalled_after_crawl_user_ms",
            progress.stalled_after_crawl_user,
        ),
        (
            "progress_stalled_after_crawl_group_ms",
            progress.stalled_after_crawl_group,
        ),
        (
            "progress_stalled_after_crawl_project_ms",
            progress.stalled_after_crawl_project,
        ),
    ];
    for (key, after) in stalled {
        let Some(after) = after.filter(|after| *after < progress.quiet_after) else {
            continue;
        };
        if !report.blames(key) && !report.blames(QUIET) {
            let message = format!(
                "{} ms is below {QUIET}, which is {} ({})",
                after.as_millis(),
                progress.quiet_after.as_millis(),
                origin(layers, QUIET),
            );
            report.problem(origin(layers, key), Some(key), message);
        }
    }
}

/// Ages are looked at only so often.
pub(super) fn cleanup(cleanup: &Cleanup, layers: &Layers, report: &mut ConfigErrors) {
    const INTERVAL: &str = "cleanup_interval_ms";
    let ages = [
        ("max_job_age_ms", cleanup.max_job_age),
        ("max_error_log_age_ms", cleanup.max_error_log_age),
    ];
    for (key, age) in ages {
        if age < cleanup.interval && !report.blames(key) && !report.blames(INTERVAL) {
            let message = format!(
                "{} ms is below {INTERVAL}, which is {} ({}): what is too old stays until the next look",
                age.as_millis(),
                cleanup.interval.as_millis(),
                origin(layers, INTERVAL),
            );
            report.warn(origin(layers, key), Some(key), message);
        }
    }
}

pub(super) fn http(http: &Http, layers: &Layers, report: &mut ConfigErrors) {
    if !http.addr.ip().to_canonical().is_loopback() {
        let message = format!(
            "{} can be reached from other machines, and the HTTP interface asks nobody who they are: put a proxy that \
             does in front of it",
            http.addr
        );
        report.warn(origin(layers, "http_addr"), Some("http_addr"), message);
    }
}

/// Says once which of the given settings change nothing yet.
pub(super) fn not_yet_in_force(layers: &Layers, report: &mut ConfigErrors) {
    let mut first = None;
    let mut names = Vec::new();
    for setting in Setting::all() {
        let Some(feature) = setting.awaits else { continue };
        let Some(origin) = layers.origin(setting.key).filter(|origin| origin.is_explicit()) else {
            continue;
        };
        first.get_or_insert_with(|| origin.clone());
        names.push(format!("{} ({feature})", setting.key));
    }
    if let Some(origin) = first {
        let message = format!(
            "without effect in this version, which lacks the feature named: {}",
            names.join(", ")
        );
        report.warn(origin, None, message);
    }
}
