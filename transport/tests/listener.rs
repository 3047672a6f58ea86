//! Listeners on real sockets in temporary directories.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::time::Duration;

use crawlwire_transport::{
    BindError, CloseReason, Connection, ConnectionId, Endpoint, Limits, Line, ListenOptions, Listener, Peer, PeerAllow,
    Stream,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixSocket, UnixStream};
use tokio::time::timeout;

fn dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

async fn bind(path: &Path) -> Result<Listener, BindError> {
    Listener::bind(&Endpoint::Unix(path.into()), &ListenOptions::default()).await
}

async fn bind_tcp(host: &str, port: u16) -> Result<Listener, BindError> {
    let host = host.to_owned();
    Listener::bind(&Endpoint::Tcp { host, port }, &ListenOptions::default()).await
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("exists").permissions().mode() & 0o7777
}

#[tokio::test]
async fn socket_and_directories_get_their_modes() {
    let dir = dir();
    let path = dir.path().join("made/deeper/crawler.sock");
    let before = mode(dir.path());
    let listener = bind(&path).await.expect("bound");
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&dir.path().join("made/deeper")), 0o750);
    assert_eq!(mode(&dir.path().join("made")), 0o750);
    assert_eq!(mode(dir.path()), before, "what existed is left alone");
    assert_eq!(listener.local_addr(), Endpoint::Unix(path.clone()));
    drop(listener);
    assert!(!path.exists(), "deleted with the listener");
}

#[tokio::test]
async fn mode_and_group_can_be_chosen() {
    let dir = dir();
    let path = dir.path().join("s");
    let own_group = fs::metadata(dir.path()).expect("exists").gid();
    let options = ListenOptions {
        mode: 0o660,
        group: Some(own_group),
        ..ListenOptions::default()
    };
    let endpoint = Endpoint::Unix(path.clone());
    let _listener = Listener::bind(&endpoint, &options).await.expect("bound");
    assert_eq!(mode(&path), 0o660);
    assert_eq!(fs::metadata(&path).expect("exists").gid(), own_group);
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let dir = dir();
    let path = dir.path().join("s");
    // The standard listener leaves its file behind, like a server that was killed.
    drop(StdListener::bind(&path).expect("bound"));
    assert!(path.exists());
    let listener = bind(&path).await.expect("replaced");
    let (client, accepted) = tokio::join!(UnixStream::connect(&path), listener.accept());
    client.expect("connected");
    assert!(matches!(accepted.0, Stream::Unix(_)));
    drop(listener);
    let _again = bind(&path).await.expect("the lock file left behind is no hindrance");
}

#[tokio::test]
async fn a_live_socket_is_refused_and_left_alone() {
    let dir = dir();
    let path = dir.path().join("s");
    // A server that knows nothing of our lock.
    let other = StdListener::bind(&path).expect("bound");
    let error = bind(&path).await.expect_err("in use");
    assert!(matches!(error, BindError::AddressInUse { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains(path.to_str().expect("utf-8")) && text.contains("stop the other"),
        "{text}"
    );
    // The trial connection is in the backlog, and a new one still gets through.
    UnixStream::connect(&path).await.expect("still served");
    drop(other);
}

#[tokio::test]
async fn a_busy_server_with_a_full_backlog_counts_as_live() {
    let dir = dir();
    let path = dir.path().join("s");
    let socket = UnixSocket::new_stream().expect("socket");
    socket.bind(&path).expect("bound");
    let _busy = socket.listen(1).expect("listening");
    let mut waiting = Vec::new();
    while waiting.len() < 16 {
        match timeout(Duration::from_secs(1), UnixStream::connect(&path)).await {
            Ok(Ok(stream)) => waiting.push(stream),
            Ok(Err(_)) | Err(_) => break,
        }
    }
    assert!(waiting.len() < 16, "the backlog should be full by now");
    let error = bind(&path).await.expect_err("in use");
    assert!(matches!(error, BindError::AddressInUse { .. }), "{error}");
    assert!(path.exists());
}

#[tokio::test]
async fn a_second_server_on_the_same_path_is_refused() {
    let dir = dir();
    let path = dir.path().join("s");
    let first = bind(&path).await.expect("bound");
    let error = bind(&path).await.expect_err("locked");
    assert!(error.to_string().contains("lock file"), "{error}");
    assert!(path.exists(), "the first one's socket is untouched");
    // Even if somebody deletes the socket under it, its lock holds.
    fs::remove_file(&path).expect("deleted");
    assert!(matches!(bind(&path).await, Err(BindError::AddressInUse { .. })));
    drop(first);
    bind(&path).await.expect("free again");
}

#[tokio::test]
async fn what_is_not_a_socket_is_never_deleted() {
    let dir = dir();
    let file = dir.path().join("file");
    fs::write(&file, "precious").expect("written");
    let link = dir.path().join("link");
    symlink(&file, &link).expect("linked");
    let dangling = dir.path().join("dangling");
    symlink(dir.path().join("nowhere"), &dangling).expect("linked");
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).expect("made");
    for path in [&file, &link, &dangling, &folder] {
        let error = bind(path).await.expect_err("refused");
        assert!(
            matches!(&error, BindError::NotASocket { path: p } if p == path),
            "{error}"
        );
        assert!(path.symlink_metadata().is_ok(), "{} is gone", path.display());
    }
    assert_eq!(fs::read_to_string(&file).expect("readable"), "precious");
}

#[tokio::test]
async fn a_planted_lock_file_is_not_followed() {
    let dir = dir();
    let target = dir.path().join("target");
    symlink(&target, dir.path().join("s.lock")).expect("linked");
    let error = bind(&dir.path().join("s")).await.expect_err("refused");
    assert!(matches!(error, BindError::NotALockFile { .. }), "{error}");
    assert!(!target.exists());
}

#[tokio::test]
async fn only_our_own_socket_file_is_deleted() {
    let dir = dir();
    let path = dir.path().join("s");
    let listener = bind(&path).await.expect("bound");
    fs::rename(&path, dir.path().join("moved")).expect("moved");
    let _other = StdListener::bind(&path).expect("somebody else's now");
    drop(listener);
    assert!(path.exists());
}

#[tokio::test]
async fn a_path_that_is_too_long_is_named_as_such() {
    let dir = dir();
    let room = 107 - dir.path().as_os_str().len() - 1;
    if cfg!(target_os = "linux") {
        bind(&dir.path().join("x".repeat(room)))
            .await
            .expect("the longest possible");
    }
    let path = dir.path().join("x".repeat(room + 1));
    let error = bind(&path).await.expect_err("too long");
    assert!(matches!(error, BindError::PathTooLong { len: 108, .. }), "{error}");
}

#[tokio::test]
async fn a_unix_peer_is_known_by_its_process() {
    let dir = dir();
    let path = dir.path().join("s");
    let listener = bind(&path).await.expect("bound");
    let (client, (_stream, peer)) = tokio::join!(UnixStream::connect(&path), listener.accept());
    let _client = client.expect("connected");
    let Peer::Unix(peer) = peer else {
        panic!("a unix peer, not {peer}")
    };
    let own = fs::metadata(dir.path()).expect("exists");
    assert_eq!((peer.uid, peer.gid), (own.uid(), own.gid()));
    assert_eq!(peer.pid, i32::try_from(std::process::id()).ok());
    if cfg!(target_os = "linux") {
        let stat = fs::read_to_string("/proc/self/stat").expect("readable");
        let after = stat.rsplit_once(") ").expect("a command").1;
        let start = after.split(' ').nth(19).expect("field 22");
        assert_eq!(peer.process_start, start.parse().ok());
        assert!(peer.process_start.is_some());
    }
}

#[tokio::test]
async fn a_dropped_accept_loses_no_connection() {
    let dir = dir();
    let path = dir.path().join("s");
    let listener = bind(&path).await.expect("bound");
    let mut clients = Vec::new();
    let mut accepted = 0;
    for _ in 0..20 {
        clients.push(UnixStream::connect(&path).await.expect("connected"));
        for _ in 0..3 {
            accepted += usize::from(timeout(Duration::ZERO, listener.accept()).await.is_ok());
        }
    }
    while accepted < clients.len() {
        let next = timeout(Duration::from_secs(5), listener.accept()).await;
        next.expect("one that was not lost");
        accepted += 1;
    }
    assert_eq!(listener.accept_errors(), 0);
}

#[tokio::test]
async fn tcp_listens_on_loopback_only() {
    let listener = bind_tcp("127.0.0.1", 0).await.expect("bound");
    let endpoint = listener.local_addr();
    let Endpoint::Tcp { port, .. } = endpoint else {
        panic!("tcp, not {endpoint}")
    };
    assert_ne!(port, 0, "the port the system chose");
    let (client, (stream, peer)) = tokio::join!(Stream::connect(&endpoint), listener.accept());
    let (Ok(Stream::Tcp(client)), Stream::Tcp(stream)) = (client, stream) else {
        panic!("tcp on both sides")
    };
    let Peer::Tcp(peer) = peer else {
        panic!("{peer} is not a TCP peer");
    };
    assert_eq!(peer.address, client.local_addr().expect("an address"));
    assert_eq!((peer.tls, peer.subject), (false, None));
    assert!(stream.nodelay().expect("an option"));

    let error = bind_tcp("127.0.0.1", port).await.expect_err("in use");
    assert!(matches!(error, BindError::AddressInUse { .. }), "{error}");
    for host in ["0.0.0.0", "::", "192.0.2.1", "::ffff:127.0.0.1"] {
        let error = bind_tcp(host, 0).await.expect_err(host);
        assert!(matches!(error, BindError::NotLoopback { .. }), "{error}");
        assert!(error.to_string().contains("not a loopback address"), "{error}");
    }
    bind_tcp("localhost", 0).await.expect("a name for loopback");
}

#[tokio::test]
async fn lines_and_answers_cross_a_real_socket() {
    let dir = dir();
    let path = dir.path().join("s");
    for listener in [
        bind(&path).await.expect("bound"),
        bind_tcp("127.0.0.1", 0).await.expect("bound"),
    ] {
        let endpoint = listener.local_addr();
        let (client, (stream, peer)) = tokio::join!(Stream::connect(&endpoint), listener.accept());
        let mut client = client.expect("connected");
        let server = Connection::open(stream, peer, ConnectionId(1), Limits::default());
        tokio::spawn(server.writer.run());
        let (handle, mut reader) = (server.handle, server.reader);

        // More than any socket buffer, so that both sides have to wait for each other.
        let line = [vec![b'x'; 900_000], vec![b'\n']].concat();
        let writes = async {
            for _ in 0..5 {
                client.write_all(&line).await.expect("written");
            }
            client.shutdown().await.expect("half closed");
        };
        let reads = async {
            let mut received = 0;
            loop {
                match reader.recv().await {
                    Ok(Line::Complete(got)) => {
                        received += 1;
                        assert_eq!(got.len(), 900_000);
                        handle.try_send(format!("{received}\n").into()).expect("room");
                    }
                    end => {
                        assert_eq!(end, Err(CloseReason::PeerClosed), "{endpoint}");
                        break;
                    }
                }
            }
            drop(reader);
        };
        tokio::join!(writes, reads);
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.expect("to the end");
        assert_eq!(answers, "1\n2\n3\n4\n5\n");
        assert_eq!(handle.closed().await, CloseReason::PeerClosed);
    }
}

#[tokio::test]
async fn a_peer_that_dies_with_unread_data_is_a_closed_peer() {
    let dir = dir();
    let path = dir.path().join("s");
    let listener = bind(&path).await.expect("bound");
    let (client, (stream, peer)) = tokio::join!(UnixStream::connect(&path), listener.accept());
    let mut client = client.expect("connected");
    let mut server = Connection::open(stream, peer, ConnectionId(1), Limits::default());
    tokio::spawn(server.writer.run());
    server.handle.try_send("never read\n".into()).expect("room");
    client.readable().await.expect("arrived");
    client.write_all(b"whole\nhalf").await.expect("written");
    // With data unread this is a reset and not an orderly end.
    drop(client);
    assert_eq!(server.reader.recv().await, Ok(Line::Complete("whole".into())));
    assert_eq!(server.reader.recv().await, Ok(Line::Unfinished { bytes: 4 }));
    assert_eq!(server.reader.recv().await, Err(CloseReason::PeerClosed));
}

#[tokio::test]
async fn only_listed_users_and_groups_get_in() {
    let dir = dir();
    let own = fs::metadata(dir.path()).expect("exists");
    let allow = |uids: &[u32], gids: &[u32]| PeerAllow {
        uids: uids.to_vec(),
        gids: gids.to_vec(),
    };
    let (uid, gid) = (own.uid(), own.gid());
    let cases = [
        (allow(&[uid], &[]), true),
        (allow(&[uid + 1, uid], &[gid + 1]), true),
        (allow(&[uid + 1], &[gid]), true),
        (allow(&[uid + 1], &[gid + 1]), false),
        (allow(&[], &[]), false),
    ];
    for (n, (allowed, gets_in)) in cases.into_iter().enumerate() {
        let path = dir.path().join(n.to_string());
        let options = ListenOptions {
            allowed: Some(allowed),
            ..ListenOptions::default()
        };
        let listener = Listener::bind(&Endpoint::Unix(path.clone()), &options)
            .await
            .expect("bound");
        let (client, accepted) = tokio::join!(UnixStream::connect(&path), listener.next());
        let mut client = client.expect("connected");
        if gets_in {
            accepted.expect("let in");
            continue;
        }
        let refused = accepted.expect_err("refused");
        assert_eq!(refused.reason, CloseReason::PeerNotAllowed);
        assert!(
            matches!(&refused.peer, Peer::Unix(peer) if peer.uid == uid),
            "{refused}"
        );
        assert_eq!(client.read(&mut [0; 1]).await.expect("the end"), 0);
        // It goes on with the next one, and who only accepts never sees those refused.
        let accepting = timeout(Duration::from_millis(50), listener.accept());
        let (_again, accepted) = tokio::join!(UnixStream::connect(&path), accepting);
        assert!(accepted.is_err());
    }
}
