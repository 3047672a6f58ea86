//! The known name nearest to an unknown one.

/// Names longer than this are compared by their beginning: comparing costs the product of both lengths.
const COMPARED_CHARS: usize = 64;

/// Likeness from 0 to 1 below which a suggestion would puzzle more than it helps.
const LIKENESS_MIN: f64 = 0.8;

/// The known name that looks most like `name`, when one does. Case, separators, and the prefix `SOCKET_` do not count,
/// so that `heartbeatInterval` finds `heartbeat_interval_ms`.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let essence_of_name = essence(name);
    known
        .map(|candidate| (strsim::jaro_winkler(&essence_of_name, &essence(candidate)), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// What distinguishes a name from others.
fn essence(name: &str) -> String {
    let bare = name.strip_prefix("SOCKET_").unwrap_or(name);
    let letters = bare.chars().filter(char::is_ascii_alphanumeric).take(COMPARED_CHARS);
    letters.map(|c| c.to_ascii_lowercase()).collect()
}

/// `; did you mean X?`, or nothing.
pub(super) fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(name, known)
        .map(|near| format!("; did you mean `{near}`?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    const KNOWN: [&str; 4] = [
        "socket_path",
        "heartbeat_interval_ms",
        "heartbeat_timeout_ms",
        "max_connections",
    ];

    #[test]
    fn finds_what_was_meant() {
        for (given, meant) in [
            ("heartbeatInterval", Some("heartbeat_interval_ms")),
            ("heartbeat_timout_ms", Some("heartbeat_timeout_ms")),
            ("SOCKET_MAX_CONNECTION", Some("max_connections")),
            ("sockt_path", Some("socket_path")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, KNOWN.into_iter()), meant, "{given}");
        }
    }
}
