//! The flag layer.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::file::read_bounded;
use super::layers::Layers;
use super::report::{ConfigErrors, Origin, printable_path, quote};
use super::setting::Setting;

/// Names the configuration file. Not a setting: the file cannot name itself.
pub(super) const CONFIG: &str = "--config";
/// Sets host and port together.
const LISTEN: &str = "--listen";

/// Largest configuration file, in bytes. All settings with a comment each fill a tenth of it.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Path and text of the file that `--config` names.
pub(super) fn read_config_file(path: &str, report: &mut ConfigErrors) -> Option<(PathBuf, String)> {
    let path = PathBuf::from(path);
    match read_bounded(&path, FILE_BYTES_MAX) {
        Ok(text) => Some((path, text)),
        Err(error) => {
            let message = format!("cannot read {}: {error}", printable_path(&path));
            report.problem(Origin::Flag(CONFIG), None, message);
            None
        }
    }
}

/// Adds what the flags give.
pub(super) fn read(flags: &BTreeMap<&'static str, String>, layers: &mut Layers, report: &mut ConfigErrors) {
    for setting in Setting::all() {
        let Some(flag) = setting.flag.filter(|flag| *flag != LISTEN) else {
            continue;
        };
        if let Some(value) = flags.get(flag) {
            layers.add_text(setting.key, Origin::Flag(flag), value);
        }
    }
    let Some(listen) = flags.get(LISTEN) else { return };
    match split_address(listen) {
        Some((host, port)) => {
            layers.add_text("host", Origin::Flag(LISTEN), host);
            layers.add_text("port", Origin::Flag(LISTEN), port);
        }
        None => {
            let message = format!("must be HOST:PORT or tcp://HOST:PORT, not {}", quote(listen));
            report.problem(Origin::Flag(LISTEN), None, message);
        }
    }
}

/// Host and port, the brackets of an IPv6 address taken off.
fn split_address(text: &str) -> Option<(&str, &str)> {
    let address = text.strip_prefix("tcp://").unwrap_or(text);
    let (host, port) = address.rsplit_once(':')?;
    let bracketed = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let host = bracketed.unwrap_or(host);
    // Without brackets, an IPv6 address cannot be told from its port.
    let ambiguous = bracketed.is_none() && host.contains(':');
    // Another scheme, or a path.
    let foreign = address.contains('/');
    (!host.is_empty() && !port.is_empty() && !ambiguous && !foreign).then_some((host, port))
}
