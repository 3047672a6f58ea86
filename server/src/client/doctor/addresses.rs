//! Where a server would listen.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Access, access};

use super::Check;
use crate::client::server::{Server, ServerUrl};
use crate::config::Config;
use crate::parts;

/// How long a connection to this machine may take.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn examine(config: &Config) -> Vec<Check> {
    let mut checks = vec![socket(config)];
    checks.extend(group(config));
    checks.extend(config.connection.tcp().map(|address| tcp("tcp", address, false)));
    checks.push(tcp("http", config.http.addr, true));
    checks
}

fn socket(config: &Config) -> Check {
    const NAME: &str = "socket";
    let path = &config.connection.socket_path;
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => Check::problem(
            NAME,
            format!("{shown} is there and is no socket"),
            "move it away, or name another path with --socket or SOCKET_PATH",
        ),
        Ok(found) => match UnixStream::connect(path) {
            Ok(_) => Check::ok(
                NAME,
                format!(
                    "a server listens at {shown}, mode {:04o}",
                    found.permissions().mode() & 0o7777
                ),
            ),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => folder(
                NAME,
                path,
                "; nobody listens at the one that is there, a start replaces it",
            ),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Check::warning(
                NAME,
                format!("this user may not connect to {shown}"),
                "crawlers must run as its owner, or in its group; see socket_mode and socket_group",
            ),
            Err(error) => Check::warning(
                NAME,
                format!("{shown} cannot be tried: {error}"),
                "look at the server's log",
            ),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => folder(NAME, path, ""),
        Err(error) => Check::problem(
            NAME,
            format!("{shown} cannot be looked at: {error}"),
            "run this as the server's user",
        ),
    }
}

/// Whether a socket can be made there.
fn folder(name: &'static str, path: &Path, more: &str) -> Check {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let shown = folder.display();
    if !folder.is_dir() {
        let help =
            format!("make it for the server's user: install -d -m 0750 {shown}; or name another path with --socket");
        return Check::problem(name, format!("there is no folder {shown} for the socket"), help);
    }
    match access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Check::ok(name, format!("{} can be made{more}", path.display())),
        Err(error) => Check::problem(
            name,
            format!("this user cannot write to {shown}: {error}"),
            "run the server as another user, change the folder's owner, or name another path with --socket",
        ),
    }
}

fn group(config: &Config) -> Option<Check> {
    let name = config.connection.socket_group.as_ref()?.as_str();
    Some(match parts::group_id(name) {
        Some(_) => Check::ok("socket group", format!("{name} exists")),
        None => Check::problem(
            "socket group",
            format!("there is no group {name}"),
            "make it: groupadd --system NAME; or change socket_group",
        ),
    })
}

fn tcp(name: &'static str, address: SocketAddr, is_http: bool) -> Check {
    if address.port() == 0 {
        return Check::ok(name, format!("{address}: any free port"));
    }
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => in_use(name, address, is_http),
        Err(error) => Check::problem(
            name,
            format!("{address} cannot be listened on: {error}"),
            advice(&error, name),
        ),
    }
}

fn advice(error: &io::Error, name: &str) -> String {
    let other = if name == "http" { "--http" } else { "--listen" };
    match error.kind() {
        ErrorKind::PermissionDenied => format!("ports below 1024 need a privilege: choose another one with {other}"),
        ErrorKind::AddrNotAvailable => {
            format!("no network of this machine has this address: choose another one with {other}")
        }
        _ => format!("choose another address with {other}"),
    }
}

fn in_use(name: &'static str, address: SocketAddr, is_http: bool) -> Check {
    // Who listens everywhere listens here, too.
    let near = match address {
        SocketAddr::V4(_) if address.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], address.port())),
        SocketAddr::V6(_) if address.ip().is_unspecified() => {
            SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, address.port()))
        }
        address => address,
    };
    let is_ours = || ServerUrl::parse(&near.to_string()).is_ok_and(|url| Server::is_at(&url));
    if is_http && is_ours() {
        return Check::ok(name, format!("a crawlwire server answers at http://{near}"));
    }
    let other = if is_http { "--http" } else { "--listen" };
    let detail = match TcpStream::connect_timeout(&near, PATIENCE) {
        Ok(_) if !is_http => format!("somebody listens at {address}: a server that runs, or another program"),
        _ => format!("another program uses {address}"),
    };
    let help = format!("stop it, or choose another address with {other}");
    match is_http {
        true => Check::problem(name, detail, help),
        false => Check::warning(name, detail, help),
    }
}
