//! Connections over in-memory pipes, most of them under paused time.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use crawlwire_transport::{CloseReason, Connection, ConnectionId, ConnectionState, Limits, Line, Peer, SendError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::time::{Instant, advance, sleep, timeout};

const TIMEOUT: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

/// One side a connection, its writer running, the other side bare bytes.
fn with_raw_peer(limits: Limits) -> (Running, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    (run(open(ours, limits)), theirs)
}

fn open<S: AsyncRead + AsyncWrite>(stream: S, limits: Limits) -> Connection<S> {
    Connection::open(stream, Peer::Memory, ConnectionId(7), limits)
}

struct Running {
    handle: crawlwire_transport::ConnectionHandle,
    reader: crawlwire_transport::LineReader<DuplexStream>,
}

fn run(connection: Connection<DuplexStream>) -> Running {
    tokio::spawn(connection.writer.run());
    Running {
        handle: connection.handle,
        reader: connection.reader,
    }
}

fn complete(text: &'static str) -> Result<Line, CloseReason> {
    Ok(Line::Complete(text.into()))
}

/// The next line, or the test fails: for reads that must not wait long.
async fn soon<S: AsyncRead>(reader: &mut crawlwire_transport::LineReader<S>) -> Result<Line, CloseReason> {
    timeout(SECOND, reader.recv()).await.expect("a line soon")
}

#[tokio::test]
async fn a_pair_talks_both_ways_and_counts() {
    let (left, right) = Connection::pair(Limits::default());
    let (mut left, mut right) = (run(left), run(right));
    left.handle.try_send("to the right\n".into()).expect("room");
    right.handle.try_send("to the left\n".into()).expect("room");
    assert_eq!(soon(&mut right.reader).await, complete("to the right"));
    assert_eq!(soon(&mut left.reader).await, complete("to the left"));

    drop(right);
    assert_eq!(soon(&mut left.reader).await, Err(CloseReason::PeerClosed));
    let info = left.handle.info();
    assert_eq!(info.id, ConnectionId(1));
    assert_eq!(info.traffic.messages_received, 1);
    assert_eq!(info.traffic.bytes_received, 12);
    assert_eq!(info.traffic.messages_sent, 1);
    assert_eq!(info.traffic.bytes_sent, 13);
    assert_eq!(info.input.lines, 1);
    assert!(info.last_activity.is_some());
}

#[tokio::test]
async fn partial_lines_are_joined_and_many_lines_come_from_one_write() {
    let (mut us, mut peer) = with_raw_peer(Limits::default());
    peer.write_all(b"one\r\n\ntw").await.expect("room");
    assert_eq!(soon(&mut us.reader).await, complete("one"));
    // Dropping a waiting call loses nothing.
    assert!(timeout(Duration::from_millis(5), us.reader.recv()).await.is_err());
    peer.write_all(b"o\nthree\nfo").await.expect("room");
    assert_eq!(soon(&mut us.reader).await, complete("two"));
    assert_eq!(soon(&mut us.reader).await, complete("three"));
    drop(peer);
    assert_eq!(soon(&mut us.reader).await, Ok(Line::Unfinished { bytes: 2 }));
    assert_eq!(soon(&mut us.reader).await, Err(CloseReason::PeerClosed));
    assert_eq!(soon(&mut us.reader).await, Err(CloseReason::PeerClosed));
    let info = us.handle.info();
    assert_eq!((info.input.blank, info.input.unfinished), (1, 1));
    assert_eq!(info.traffic.messages_received, 3);
}

#[tokio::test]
async fn a_line_too_long_is_reported_once_and_the_connection_goes_on() {
    let limits = Limits {
        max_line_bytes: 10,
        ..Limits::default()
    };
    let (mut us, mut peer) = with_raw_peer(limits);
    peer.write_all(&[b'x'; 5000]).await.expect("room");
    let too_long = Ok(Line::TooLong { discarded_at_least: 11 });
    assert_eq!(soon(&mut us.reader).await, too_long);
    peer.write_all(b"more of it\nnext\n").await.expect("room");
    assert_eq!(soon(&mut us.reader).await, complete("next"));
    assert_eq!(us.handle.info().traffic.messages_received, 1);
}

// === sending ===

/// Takes everything, writes down what came in each call.
#[derive(Debug, Clone, Default)]
struct Recorder(Arc<Mutex<Vec<usize>>>);

impl AsyncRead for Recorder {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::Error::other("a disk on fire")))
    }
}

impl AsyncWrite for Recorder {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().expect("not poisoned").push(buf.len());
        Poll::Ready(Ok(buf.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn what_waits_is_joined_into_one_write() {
    let recorder = Recorder::default();
    let connection = open(recorder.clone(), Limits::default());
    let handle = connection.handle.clone();
    for _ in 0..100 {
        handle.try_send("0123456789\n".into()).expect("room");
    }
    assert_eq!(handle.info().output.queued_messages, 100);
    assert_eq!(handle.info().output.queued_bytes, 1100);
    handle.close(CloseReason::ServerShutdown);
    connection.writer.run().await;
    assert_eq!(*recorder.0.lock().expect("not poisoned"), [1100]);
    let info = handle.info();
    assert_eq!((info.traffic.messages_sent, info.traffic.bytes_sent), (100, 1100));
    assert_eq!((info.output.queued_messages, info.output.queued_bytes), (0, 0));
}

#[tokio::test]
async fn one_write_has_a_size_limit() {
    let recorder = Recorder::default();
    let connection = open(recorder.clone(), Limits::default());
    let handle = connection.handle.clone();
    let message = Bytes::from(vec![b'\n'; 30 * 1024]);
    for _ in 0..5 {
        handle.try_send(message.clone()).expect("room");
    }
    handle.close(CloseReason::ServerShutdown);
    connection.writer.run().await;
    let writes = recorder.0.lock().expect("not poisoned").clone();
    assert_eq!(writes, [3 * 30 * 1024, 2 * 30 * 1024]);
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_in_messages() {
    let limits = Limits {
        max_queued_messages: 3,
        ..Limits::default()
    };
    // Its writer does not run, so nothing leaves the queue.
    let connection = open(Recorder::default(), limits);
    let handle = connection.handle.clone();
    for _ in 0..3 {
        handle.try_send("x\n".into()).expect("room");
    }
    assert_eq!(handle.try_send("x\n".into()), Err(SendError::Full));
    let started = Instant::now();
    assert_eq!(handle.send("x\n".into(), SECOND).await, Err(SendError::Full));
    assert_eq!(started.elapsed(), SECOND);
    assert_eq!(handle.info().traffic.sends_refused, 2);

    let waiting = {
        let handle = handle.clone();
        tokio::spawn(async move { handle.send("y\n".into(), TIMEOUT).await })
    };
    tokio::task::yield_now().await;
    tokio::spawn(connection.writer.run());
    assert_eq!(waiting.await.expect("no panic"), Ok(()));
    handle.close(CloseReason::ServerShutdown);
    handle.closed().await;
    assert_eq!(handle.info().traffic.messages_sent, 4);
    assert_eq!(handle.info().traffic.messages_undelivered, 0);
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_in_bytes_but_one_message_always_passes() {
    let limits = Limits {
        max_queued_bytes: 10,
        ..Limits::default()
    };
    let connection = open(Recorder::default(), limits);
    let handle = connection.handle.clone();
    handle.try_send("1234567\n".into()).expect("8 of 10");
    assert_eq!(handle.try_send("12\n".into()), Err(SendError::Full));
    handle.try_send("1\n".into()).expect("10 of 10");
    tokio::spawn(connection.writer.run());
    let larger = Bytes::from_static(b"far above the whole budget\n");
    assert_eq!(handle.send(larger, SECOND).await, Ok(()));
    handle.close(CloseReason::ServerShutdown);
    handle.closed().await;
    assert_eq!(handle.info().traffic.messages_sent, 3);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_behind_until_half_is_taken() {
    let limits = Limits {
        max_queued_messages: 4,
        ..Limits::default()
    };
    let (us, mut peer) = with_raw_peer(limits);
    let large = Bytes::from([vec![b'x'; 80 * 1024], vec![b'\n']].concat());
    us.handle.try_send(large.clone()).expect("room");
    sleep(SECOND).await;
    // The first one is being written.
    for behind in [false, false, true, true] {
        us.handle.try_send(large.clone()).expect("room");
        assert_eq!(us.handle.is_behind(), behind);
    }
    assert!(timeout(SECOND, us.handle.caught_up()).await.is_err());
    let mut read = vec![0; 2 * large.len()];
    peer.read_exact(&mut read).await.expect("two messages");
    timeout(SECOND, us.handle.caught_up()).await.expect("half is taken");
    assert!(!us.handle.is_behind());

    us.handle.try_send(large.clone()).expect("room");
    assert!(us.handle.is_behind());
    us.handle.close(CloseReason::ServerShutdown);
    us.handle.caught_up().await;
    assert!(!us.handle.is_behind(), "nothing more will be said");
}

#[tokio::test(start_paused = true)]
async fn bytes_count_as_messages_do_for_who_is_behind() {
    let limits = Limits {
        max_queued_bytes: 100,
        ..Limits::default()
    };
    let us = open(Recorder::default(), limits);
    let half = Bytes::from([vec![b'x'; 49], vec![b'\n']].concat());
    us.handle.try_send(half).expect("room");
    assert!(!us.handle.is_behind());
    us.handle.try_send("\n".into()).expect("room");
    assert!(us.handle.is_behind());
    let handle = us.handle.clone();
    tokio::spawn(us.writer.run());
    timeout(SECOND, handle.caught_up()).await.expect("it is written");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_closed_and_others_are_unharmed() {
    let (slow, _slow_peer) = with_raw_peer(Limits::default());
    let (good, mut good_peer) = with_raw_peer(Limits::default());
    let started = Instant::now();
    let big = Bytes::from([vec![b'x'; 40 * 1024], vec![b'\n']].concat());
    for _ in 0..3 {
        slow.handle.try_send(big.clone()).expect("room in the queue");
    }
    good.handle.try_send("hello\n".into()).expect("room");
    let mut got = [0; 6];
    good_peer.read_exact(&mut got).await.expect("the line");
    assert_eq!((&got, started.elapsed()), (b"hello\n", Duration::ZERO));

    assert_eq!(slow.handle.closed().await, CloseReason::SlowConsumer);
    assert_eq!(started.elapsed(), TIMEOUT);
    assert_eq!(slow.handle.try_send("x\n".into()), Err(SendError::Closed));
    let info = slow.handle.info();
    assert_eq!(info.state, ConnectionState::Closed);
    assert_eq!(info.traffic.messages_undelivered + info.traffic.messages_sent, 3);
    assert!(info.traffic.messages_undelivered >= 1);
    assert_eq!(good.handle.close_reason(), None);
}

// === closing ===

#[tokio::test]
async fn an_orderly_close_delivers_what_is_queued_and_then_ends() {
    let (us, mut peer) = with_raw_peer(Limits::default());
    for n in 0..500 {
        us.handle.try_send(format!("{n}\n").into()).expect("room");
    }
    us.handle.close(CloseReason::DisconnectedByOperator);
    us.handle.close(CloseReason::ServerShutdown);
    assert_eq!(us.handle.try_send("late\n".into()), Err(SendError::Closed));
    assert_eq!(us.handle.send("late\n".into(), SECOND).await, Err(SendError::Closed));
    let mut text = String::new();
    peer.read_to_string(&mut text).await.expect("to the end");
    assert_eq!(text.lines().count(), 500);
    assert!(text.ends_with("\n499\n"));
    let reason = CloseReason::DisconnectedByOperator;
    assert_eq!(us.handle.closed().await, reason, "the first wins");
    assert_eq!(us.handle.info().traffic.messages_undelivered, 0);
}

#[tokio::test(start_paused = true)]
async fn a_close_waits_no_longer_than_its_grace() {
    let (mut us, _peer) = with_raw_peer(Limits::default());
    let big = Bytes::from([vec![b'x'; 100 * 1024], vec![b'\n']].concat());
    us.handle.try_send(big.clone()).expect("room");
    us.handle.try_send(big).expect("room");
    // The first is being written when the close comes.
    advance(SECOND).await;
    let started = Instant::now();
    us.handle.close_within(CloseReason::Replaced, SECOND * 5);
    assert_eq!(us.handle.state(), ConnectionState::Closing);
    assert_eq!(us.reader.recv().await, Err(CloseReason::Replaced));
    assert_eq!(us.handle.closed().await, CloseReason::Replaced);
    assert_eq!(started.elapsed(), SECOND * 5);
    assert_eq!(us.handle.info().traffic.messages_undelivered, 2);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_send_ends_when_the_connection_does() {
    let limits = Limits {
        max_queued_bytes: 4,
        ..Limits::default()
    };
    let connection = open(Recorder::default(), limits);
    let handle = connection.handle.clone();
    handle.try_send("abc\n".into()).expect("room");
    let waiting = {
        let handle = handle.clone();
        tokio::spawn(async move { handle.send("d\n".into(), TIMEOUT).await })
    };
    tokio::task::yield_now().await;
    drop(connection.writer);
    assert_eq!(waiting.await.expect("no panic"), Err(SendError::Closed));
    assert_eq!(handle.closed().await, CloseReason::InternalError);
    assert_eq!(handle.info().traffic.messages_undelivered, 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_words_of_a_vanished_peer_are_still_read() {
    let (mut us, mut peer) = with_raw_peer(Limits::default());
    peer.write_all(b"job done\nand more\n").await.expect("room");
    drop(peer);
    us.handle.try_send("ack\n".into()).expect("room");
    assert_eq!(us.handle.closed().await, CloseReason::PeerClosed);
    // However late we come to read them.
    advance(SECOND * 3600).await;
    assert_eq!(soon(&mut us.reader).await, complete("job done"));
    assert_eq!(soon(&mut us.reader).await, complete("and more"));
    assert_eq!(soon(&mut us.reader).await, Err(CloseReason::PeerClosed));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_talks_and_does_not_listen_is_not_heard_for_ever() {
    // Our writes fail as if the peer were gone, while it goes on sending.
    let (ours, mut theirs) = tokio::io::simplex(64);
    let (_, broken) = tokio::io::duplex(64);
    let mut us = open(tokio::io::join(ours, broken), Limits::default());
    tokio::spawn(us.writer.run());
    let talk = tokio::spawn(async move {
        while theirs.write_all(b"and another thing\n").await.is_ok() {
            tokio::time::sleep(SECOND / 2).await;
        }
    });
    assert_eq!(soon(&mut us.reader).await, complete("and another thing"));
    us.handle.try_send("stop\n".into()).expect("room");
    assert_eq!(us.handle.closed().await, CloseReason::PeerClosed);
    let started = Instant::now();
    while let Ok(line) = us.reader.recv().await {
        assert_eq!(Ok(line), complete("and another thing"));
    }
    assert_eq!(started.elapsed(), Limits::default().close_grace);
    talk.abort();
}

#[tokio::test(start_paused = true)]
async fn a_waiting_send_ends_as_soon_as_closing_begins() {
    let limits = Limits {
        max_queued_messages: 1,
        ..Limits::default()
    };
    let (us, _peer) = with_raw_peer(limits);
    let big = Bytes::from([vec![b'x'; 100 * 1024], vec![b'\n']].concat());
    us.handle.try_send(big.clone()).expect("being written");
    us.handle.send(big.clone(), SECOND).await.expect("waits in the queue");
    let handle = us.handle.clone();
    let waiting = tokio::spawn(async move { handle.send(big, TIMEOUT).await });
    advance(SECOND).await;
    let started = Instant::now();
    us.handle.close(CloseReason::ServerShutdown);
    assert_eq!(waiting.await.expect("no panic"), Err(SendError::Closed));
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn after_the_end_of_input_answers_are_still_sent_until_the_reader_goes() {
    let (mut us, mut peer) = with_raw_peer(Limits::default());
    peer.write_all(b"question\n").await.expect("room");
    peer.shutdown().await.expect("half closed");
    assert_eq!(soon(&mut us.reader).await, complete("question"));
    assert_eq!(soon(&mut us.reader).await, Err(CloseReason::PeerClosed));
    assert_eq!(us.handle.close_reason(), None);
    us.handle.try_send("answer\n".into()).expect("still open");
    drop(us.reader);
    assert_eq!(us.handle.closed().await, CloseReason::PeerClosed);
    let mut text = String::new();
    peer.read_to_string(&mut text).await.expect("to the end");
    assert_eq!(text, "answer\n");
}

#[tokio::test]
async fn a_reader_or_writer_that_is_dropped_closes_the_connection() {
    let (us, _peer) = with_raw_peer(Limits::default());
    drop(us.reader);
    assert_eq!(us.handle.closed().await, CloseReason::InternalError);

    let (left, _right) = Connection::pair(Limits::default());
    let mut reader = left.reader;
    drop(left.writer);
    assert_eq!(left.handle.closed().await, CloseReason::InternalError);
    assert_eq!(reader.recv().await, Err(CloseReason::InternalError));
}

#[tokio::test]
async fn a_failing_stream_is_an_io_error() {
    let mut broken = open(Recorder::default(), Limits::default());
    assert_eq!(broken.reader.recv().await, Err(CloseReason::IoError));
    broken.writer.run().await;
    assert_eq!(broken.handle.closed().await, CloseReason::IoError);
}

// === what is known ===

#[tokio::test(start_paused = true)]
async fn state_and_info_follow_what_is_noted() {
    let (connection, _peer) = Connection::pair(Limits::default());
    let handle = connection.handle.clone();
    assert_eq!(handle.state(), ConnectionState::Connecting);
    let _reader = connection.reader;
    tokio::spawn(connection.writer.run());
    tokio::task::yield_now().await;
    assert_eq!(handle.state(), ConnectionState::Connected);
    handle.note_error("bad_json");
    assert_eq!(handle.state(), ConnectionState::Error);
    advance(SECOND).await;
    handle.note_valid_message(false);
    assert_eq!(handle.state(), ConnectionState::Active);
    assert_eq!(handle.info().last_heartbeat, None);
    advance(TIMEOUT).await;
    assert_eq!(handle.state(), ConnectionState::Active);
    advance(Duration::from_millis(1)).await;
    assert_eq!(handle.state(), ConnectionState::Idle);
    handle.note_valid_message(true);
    handle.set_crawler_id("crawler-7");

    let info = handle.info();
    assert_eq!(info.state, ConnectionState::Active);
    assert_eq!(info.crawler_id.as_deref(), Some("crawler-7"));
    assert_eq!(info.last_heartbeat, info.last_valid);
    assert_eq!(info.last_error, Some("bad_json"));
    assert_eq!(info.traffic.errors, 1);
    assert_eq!(info.recent.counts(info.as_of), (2, 1));
    assert_eq!(info.uptime(), TIMEOUT + SECOND + Duration::from_millis(1));
    let shown = info.wall_clock(info.as_of);
    assert_eq!(shown.duration_since(info.connected_at).ok(), Some(info.uptime()));

    handle.close(CloseReason::ServerShutdown);
    handle.closed().await;
    let uptime = handle.info().uptime();
    advance(TIMEOUT).await;
    assert_eq!(handle.info().uptime(), uptime, "ends with the connection");
}

#[tokio::test]
async fn metadata_is_bounded() {
    let (connection, _peer) = Connection::pair(Limits::default());
    let handle = connection.handle;
    for n in 0..16 {
        assert!(handle.set_metadata(&format!("key {n}"), "value"));
    }
    assert!(!handle.set_metadata("one more", "value"));
    assert!(handle.set_metadata("key 3", "another"), "replaces");
    assert!(!handle.set_metadata("key 3", &"x".repeat(257)));
    assert_eq!(handle.info().metadata.len(), 16);
    assert_eq!(handle.info().metadata["key 3"], "another");
}
