//! How long a line may take, over in-memory pipes under paused time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crawlwire_transport::{CloseReason, Connection, ConnectionHandle, ConnectionId, Limits, Line, LineReader, Peer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::time::{Instant, sleep, timeout};

const TIMEOUT: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

struct Running {
    handle: ConnectionHandle,
    reader: LineReader<DuplexStream>,
}

/// One side a connection, its writer running, the other side bare bytes.
fn with_raw_peer(limits: Limits) -> (Running, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let connection = Connection::open(ours, Peer::Memory, ConnectionId(7), limits);
    tokio::spawn(connection.writer.run());
    let (handle, reader) = (connection.handle, connection.reader);
    (Running { handle, reader }, theirs)
}

fn complete(text: &'static str) -> Result<Line, CloseReason> {
    Ok(Line::Complete(text.into()))
}

#[tokio::test(start_paused = true)]
async fn silence_is_free_before_and_between_lines() {
    let (mut us, mut peer) = with_raw_peer(Limits::default());
    let day = 24 * 60 * 60 * SECOND;
    assert!(timeout(day, us.reader.recv()).await.is_err());
    // The first line may also start late, and its pieces come slowly.
    peer.write_all(b"fir").await.expect("room");
    assert!(timeout(TIMEOUT - SECOND, us.reader.recv()).await.is_err());
    peer.write_all(b"st\n").await.expect("room");
    assert_eq!(us.reader.recv().await, complete("first"));
    assert!(timeout(day, us.reader.recv()).await.is_err());
    peer.write_all(b"second\n").await.expect("room");
    assert_eq!(us.reader.recv().await, complete("second"));
    assert_eq!(us.handle.close_reason(), None);
}

#[tokio::test(start_paused = true)]
async fn a_first_line_that_does_not_complete_is_cut_off() {
    let (mut us, mut peer) = with_raw_peer(Limits::default());
    let started = Instant::now();
    peer.write_all(b"{\"type\"").await.expect("room");
    assert_eq!(us.reader.recv().await, Err(CloseReason::FirstLineTimeout));
    assert_eq!(started.elapsed(), TIMEOUT);
    assert_eq!(us.handle.closed().await, CloseReason::FirstLineTimeout);
    assert_eq!(us.reader.recv().await, Err(CloseReason::FirstLineTimeout));
    assert_eq!(peer.read(&mut [0; 1]).await.expect("end"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_later_partial_line_has_its_own_time_and_name() {
    let (mut us, mut peer) = with_raw_peer(Limits::default());
    peer.write_all(b"first\nsec").await.expect("room");
    sleep(TIMEOUT * 10).await;
    let started = Instant::now();
    assert_eq!(us.reader.recv().await, complete("first"));
    let reader = tokio::spawn(async move { us.reader.recv().await });
    // A trickle does not extend the time of a line.
    while started.elapsed() < TIMEOUT - SECOND {
        peer.write_all(b".").await.expect("room");
        sleep(SECOND).await;
    }
    let end = reader.await.expect("no panic");
    assert_eq!(end, Err(CloseReason::PartialLineTimeout));
    assert_eq!(started.elapsed(), TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn time_in_which_nobody_reads_is_not_held_against_the_peer() {
    let (mut us, mut peer) = with_raw_peer(Limits::default());
    peer.write_all(b"par").await.expect("room");
    for _ in 0..2 {
        assert!(timeout(SECOND * 10, us.reader.recv()).await.is_err());
        sleep(TIMEOUT * 2).await;
    }
    let started = Instant::now();
    assert_eq!(us.reader.recv().await, Err(CloseReason::FirstLineTimeout));
    assert_eq!(started.elapsed(), SECOND * 10, "20 s of 30 had been used");
}

#[tokio::test(start_paused = true)]
async fn discarding_a_line_is_no_way_around_its_deadline() {
    let limits = Limits {
        max_line_bytes: 4,
        ..Limits::default()
    };
    let (mut us, mut peer) = with_raw_peer(limits);
    let started = Instant::now();
    peer.write_all(b"12").await.expect("room");
    assert!(timeout(SECOND * 20, us.reader.recv()).await.is_err());
    peer.write_all(b"3456789").await.expect("room");
    assert!(matches!(us.reader.recv().await, Ok(Line::TooLong { .. })));
    assert_eq!(us.reader.recv().await, Err(CloseReason::FirstLineTimeout));
    assert_eq!(started.elapsed(), TIMEOUT);
}

/// A stream that always has more of one byte, and takes nothing as if the peer were gone.
#[derive(Debug)]
struct Endless(u8);

impl AsyncRead for Endless {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buf.remaining();
        buf.put_slice(&vec![self.0; room]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_flood_without_a_newline_ends_too() {
    let limits = Limits {
        partial_line_timeout: Duration::from_millis(30),
        ..Limits::default()
    };
    let mut flood = Connection::open(Endless(b'x'), Peer::Memory, ConnectionId(7), limits);
    assert!(matches!(flood.reader.recv().await, Ok(Line::TooLong { .. })));
    assert_eq!(flood.reader.recv().await, Err(CloseReason::FirstLineTimeout));
}

#[tokio::test]
async fn a_flood_of_lines_from_a_peer_that_is_gone_ends_too() {
    let limits = Limits {
        close_grace: Duration::from_millis(30),
        ..Limits::default()
    };
    // Blank lines, so that all of it happens within one call.
    let mut flood = Connection::open(Endless(b'\n'), Peer::Memory, ConnectionId(7), limits);
    flood.handle.try_send("x\n".into()).expect("room");
    flood.writer.run().await;
    assert_eq!(flood.reader.recv().await, Err(CloseReason::PeerClosed));
    assert!(flood.handle.info().input.blank > 0, "it was heard for a while");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_neither_listens_nor_talks_is_given_up_after_the_grace() {
    let (silent, _theirs) = tokio::io::simplex(64);
    let (_, broken) = tokio::io::duplex(64);
    let stream = tokio::io::join(silent, broken);
    let mut us = Connection::open(stream, Peer::Memory, ConnectionId(7), Limits::default());
    us.handle.try_send("x\n".into()).expect("room");
    us.writer.run().await;
    let started = Instant::now();
    assert_eq!(us.reader.recv().await, Err(CloseReason::PeerClosed));
    assert_eq!(started.elapsed(), Limits::default().close_grace);
}

#[tokio::test(start_paused = true)]
async fn lines_and_writes_have_times_of_their_own() {
    let limits = Limits {
        partial_line_timeout: SECOND * 5,
        write_timeout: SECOND * 60,
        ..Limits::default()
    };
    let (mut late, mut late_peer) = with_raw_peer(limits.clone());
    let (slow, _slow_peer) = with_raw_peer(limits.clone());
    let (mut good, mut good_peer) = with_raw_peer(limits);
    let started = Instant::now();
    late_peer.write_all(b"one\ntw").await.expect("room");
    slow.handle.try_send(vec![b'\n'; 100 * 1024].into()).expect("room");
    assert_eq!(late.reader.recv().await, complete("one"));
    assert_eq!(late.reader.recv().await, Err(CloseReason::PartialLineTimeout));
    assert_eq!(started.elapsed(), SECOND * 5);
    assert_eq!(slow.handle.closed().await, CloseReason::SlowConsumer);
    assert_eq!(started.elapsed(), SECOND * 60);
    // Somebody who does neither is served as before.
    good_peer.write_all(b"hello\n").await.expect("room");
    assert_eq!(good.reader.recv().await, complete("hello"));
    good.handle.try_send("welcome\n".into()).expect("room");
    good_peer.read_exact(&mut [0; 8]).await.expect("the answer");
    assert_eq!(good.handle.close_reason(), None);
}

#[tokio::test]
async fn last_words_come_after_everything_else_even_from_a_full_queue() {
    let limits = Limits {
        max_queued_messages: 3,
        ..Limits::default()
    };
    let (ours, mut peer) = tokio::io::duplex(64 * 1024);
    let connection = Connection::open(ours, Peer::Memory, ConnectionId(7), limits);
    let handle = connection.handle;
    for text in ["one\n", "two\n", "three\n"] {
        handle.try_send(text.into()).expect("room");
    }
    handle.close_saying("goodbye\n".into(), CloseReason::ServerShutdown, SECOND);
    // Whoever closes later has nothing to say.
    handle.close_saying("and another thing\n".into(), CloseReason::Replaced, SECOND);
    connection.writer.run().await;
    let mut text = String::new();
    peer.read_to_string(&mut text).await.expect("to the end");
    assert_eq!(text, "one\ntwo\nthree\ngoodbye\n");
    assert_eq!(handle.closed().await, CloseReason::ServerShutdown);
    assert_eq!(handle.info().traffic.messages_sent, 4);
}

#[tokio::test(start_paused = true)]
async fn last_words_are_not_waited_for_longer_than_the_grace() {
    let (us, _peer) = with_raw_peer(Limits::default());
    us.handle.try_send(vec![b'\n'; 100 * 1024].into()).expect("room");
    sleep(SECOND).await;
    let started = Instant::now();
    us.handle
        .close_saying("goodbye\n".into(), CloseReason::IdleTimeout, SECOND * 3);
    assert_eq!(us.handle.closed().await, CloseReason::IdleTimeout);
    assert_eq!(started.elapsed(), SECOND * 3);
    assert_eq!(us.handle.info().traffic.messages_undelivered, 2);
}

/// What a TCP socket says once the system has given its peer up.
#[derive(Debug)]
struct Unreachable;

impl AsyncRead for Unreachable {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Unreachable {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_peer_the_system_has_given_up_is_named_so_by_either_half() {
    let open = || Connection::open(Unreachable, Peer::Memory, ConnectionId(7), Limits::default());
    let mut reading = open();
    assert_eq!(reading.reader.recv().await, Err(CloseReason::KeepaliveTimeout));
    assert_eq!(reading.handle.close_reason(), Some(CloseReason::KeepaliveTimeout));
    let writing = open();
    writing.handle.try_send("x\n".into()).expect("room");
    writing.writer.run().await;
    assert_eq!(writing.handle.closed().await, CloseReason::KeepaliveTimeout);
}
