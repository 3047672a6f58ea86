//! Hosts as peers write them, and the one form we keep.

/// A host that cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a host name or an http(s) URL")]
pub struct HostError;

/// Brings a `gitlab_host` (a bare host or a URL; both occur) to one form: `scheme://host[:port][/path]`.
///
/// Scheme and host are lower-cased, a bare host is taken for https, the default port and trailing slashes go. So the
/// same host always has the same name, whichever way a job was submitted.
///
/// # Errors
/// When there is no host, when the scheme is not http or https, or when there is a user, a query or a fragment.
pub fn normalise_host(text: &str) -> Result<String, HostError> {
    let text = text.trim();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None => ("https".to_owned(), text),
    };
    let default_port = match scheme.as_str() {
        "https" => ":443",
        "http" => ":80",
        _ => return Err(HostError),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = authority.to_ascii_lowercase();
    let authority = authority.strip_suffix(default_port).unwrap_or(&authority);
    let bad = |character: char| character.is_whitespace() || character.is_control() || "@?#\\\"<>".contains(character);
    if authority.is_empty() || authority.starts_with(':') || authority.contains(bad) || path.contains(bad) {
        return Err(HostError);
    }
    Ok(format!("{scheme}://{authority}{}", path.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_has_one_name() {
        for text in [
            "gitlab.example.com",
            "https://GitLab.example.com/",
            "HTTPS://gitlab.example.com:443",
        ] {
            assert_eq!(normalise_host(text).unwrap(), "https://gitlab.example.com");
        }
        assert_eq!(
            normalise_host("http://h:8080/sub/path/").unwrap(),
            "http://h:8080/sub/path"
        );
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            "  ",
            "https://",
            "ftp://h",
            "file:///tmp",
            "https://user@h",
            "a b",
            "h?x=1",
            ":80",
        ] {
            assert_eq!(normalise_host(text), Err(HostError), "{text:?}");
        }
    }
}
