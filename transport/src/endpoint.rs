//! Where a server listens and a client dials: a Unix socket path or a TCP host and port.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// An address in one of the two kinds this crate speaks (implementation summary, line 104).
///
/// Text forms: `unix:///run/crawler.sock`, `/run/crawler.sock`, `./crawler.sock`, `../x.sock`;
/// `tcp://host:port`, `host:port`, `[::1]:port`. [`fmt::Display`] writes a form that parses back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A Unix domain stream socket. The path is taken literally (no percent decoding).
    Unix(PathBuf),
    /// A TCP socket.
    Tcp {
        /// A name or an address, without brackets; never empty when parsed from text.
        host: String,
        /// 0 lets the system choose a free port when listening.
        port: u16,
    },
}

/// Why a text is not an [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Nothing, or only white space.
    #[error("the address is empty; expected unix:///path, /path, ./path, tcp://host:port or host:port")]
    Empty,
    /// A scheme other than `unix` and `tcp`.
    #[error("unknown scheme {0:?}; expected unix:// or tcp://")]
    UnknownScheme(String),
    /// `unix://` was followed by something other than an absolute path.
    #[error("unix:// must be followed by an absolute path, as in unix:///run/crawler.sock")]
    RelativeUnixPath,
    /// A path without a file name, or with a NUL byte.
    #[error("{0:?} does not name a socket file")]
    NotAFileName(String),
    /// No `:port` at the end.
    #[error("{0:?} has no port; expected host:port (a path starts with / or ./)")]
    MissingPort(String),
    /// The port is not a number from 0 to 65535.
    #[error("{0:?} is not a port; expected a number from 0 to 65535")]
    BadPort(String),
    /// The host is empty or holds a character no host has.
    #[error("{0:?} is not a host")]
    BadHost(String),
    /// An IPv6 address outside brackets, where the port cannot be told apart.
    #[error("an IPv6 address needs brackets, as in [::1]:8080; got {0:?}")]
    BareIpv6(String),
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(EndpointError::Empty);
        }
        if let Some(path) = text.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(EndpointError::RelativeUnixPath);
            }
            return unix(path);
        }
        if let Some(rest) = text.strip_prefix("tcp://") {
            return tcp(rest);
        }
        if ["/", "./", "../"].iter().any(|p| text.starts_with(p)) {
            return unix(text);
        }
        match text.split_once("://") {
            Some((scheme, _)) => Err(EndpointError::UnknownScheme(scheme.to_owned())),
            None => tcp(text),
        }
    }
}

fn unix(path: &str) -> Result<Endpoint, EndpointError> {
    let buf = PathBuf::from(path);
    if path.ends_with('/') || path.contains('\0') || buf.file_name().is_none() {
        return Err(EndpointError::NotAFileName(path.to_owned()));
    }
    Ok(Endpoint::Unix(buf))
}

fn tcp(text: &str) -> Result<Endpoint, EndpointError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest
                .split_once(']')
                .ok_or_else(|| EndpointError::BadHost(text.to_owned()))?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(EndpointError::BadHost(host.to_owned()));
            }
            let port = after
                .strip_prefix(':')
                .ok_or_else(|| EndpointError::MissingPort(text.to_owned()))?;
            (host, port)
        }
        None => {
            let (host, port) = text
                .rsplit_once(':')
                .ok_or_else(|| EndpointError::MissingPort(text.to_owned()))?;
            if host.contains(':') {
                return Err(EndpointError::BareIpv6(text.to_owned()));
            }
            let good = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
            if host.is_empty() || !host.chars().all(good) {
                return Err(EndpointError::BadHost(host.to_owned()));
            }
            (host, port)
        }
    };
    // `parse` alone would also take "+80".
    let port = Some(port)
        .filter(|p| p.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|p| p.parse().ok())
        .ok_or_else(|| EndpointError::BadPort(port.to_owned()))?;
    Ok(Endpoint::Tcp {
        host: host.to_owned(),
        port,
    })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) if path.is_absolute() => write!(f, "unix://{}", path.display()),
            Self::Unix(path) if path.starts_with(".") || path.starts_with("..") => {
                write!(f, "{}", path.display())
            }
            Self::Unix(path) => write!(f, "./{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp_of(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp {
            host: host.into(),
            port,
        }
    }

    #[test]
    fn every_form_parses_and_displays_back() {
        let cases = [
            ("unix:///run/a.sock", Endpoint::Unix("/run/a.sock".into())),
            ("/run/a.sock", Endpoint::Unix("/run/a.sock".into())),
            ("./a.sock", Endpoint::Unix("./a.sock".into())),
            ("../a.sock", Endpoint::Unix("../a.sock".into())),
            (" /tmp/with space ", Endpoint::Unix("/tmp/with space".into())),
            ("tcp://localhost:8080", tcp_of("localhost", 8080)),
            ("localhost:8080", tcp_of("localhost", 8080)),
            ("127.0.0.1:0", tcp_of("127.0.0.1", 0)),
            ("[::1]:65535", tcp_of("::1", 65535)),
            ("tcp://[::1]:1", tcp_of("::1", 1)),
        ];
        for (text, want) in cases {
            let got: Endpoint = text.parse().expect(text);
            assert_eq!(got, want, "{text}");
            assert_eq!(got.to_string().parse(), Ok(want), "{text} shown as {got}");
        }
    }

    #[test]
    fn a_bare_relative_path_is_shown_so_that_it_parses() {
        let endpoint = Endpoint::Unix("crawler.sock".into());
        assert_eq!(endpoint.to_string(), "./crawler.sock");
    }

    #[test]
    fn what_is_wrong_is_named() {
        use EndpointError as E;
        let cases = [
            ("", E::Empty),
            ("  ", E::Empty),
            ("http://x:1", E::UnknownScheme("http".into())),
            ("unix://run/a.sock", E::RelativeUnixPath),
            ("unix://", E::RelativeUnixPath),
            ("unix:///", E::NotAFileName("/".into())),
            ("/run/", E::NotAFileName("/run/".into())),
            ("/run/..", E::NotAFileName("/run/..".into())),
            ("/a\0b", E::NotAFileName("/a\0b".into())),
            ("localhost", E::MissingPort("localhost".into())),
            ("[::1]", E::MissingPort("[::1]".into())),
            ("[::1", E::BadHost("[::1".into())),
            ("[nope]:1", E::BadHost("nope".into())),
            (":80", E::BadHost("".into())),
            ("a b:80", E::BadHost("a b".into())),
            ("::1:80", E::BareIpv6("::1:80".into())),
            ("host:", E::BadPort("".into())),
            ("host:+80", E::BadPort("+80".into())),
            ("host:65536", E::BadPort("65536".into())),
            ("tcp:///x", E::MissingPort("/x".into())),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Endpoint>(), Err(want), "{text:?}");
        }
    }
}
