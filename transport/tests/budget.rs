//! The memory that connections share: who waits, who has to go, and who is not harmed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use crawlwire_transport::{
    Budget, CloseReason, Connection, ConnectionHandle, ConnectionId, Limits, Line, LineReader, Peer, SendError,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::time::{Instant, advance, timeout};

const SECOND: Duration = Duration::from_secs(1);

struct Running {
    handle: ConnectionHandle,
    reader: LineReader<DuplexStream>,
    peer: DuplexStream,
}

/// A connection under the budget whose peer takes `buffer` bytes without reading.
fn join(budget: &Budget, buffer: usize) -> Running {
    let limits = Limits {
        budget: budget.clone(),
        ..Limits::default()
    };
    let (ours, peer) = tokio::io::duplex(buffer);
    let connection = Connection::open(ours, Peer::Memory, ConnectionId(7), limits);
    tokio::spawn(connection.writer.run());
    Running {
        handle: connection.handle,
        reader: connection.reader,
        peer,
    }
}

fn message(bytes: usize) -> Bytes {
    let mut message = vec![b'x'; bytes - 1];
    message.push(b'\n');
    message.into()
}

fn output(budget: &Budget) -> usize {
    budget.usage().expect("bounded").output_bytes
}

fn input(budget: &Budget) -> usize {
    budget.usage().expect("bounded").input_bytes
}

/// Lets every task do what it can do now.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_one_that_holds_most_has_to_go_and_nobody_else() {
    let budget = Budget::new(1000, 10_000);
    let slow = join(&budget, 16);
    let slower = join(&budget, 16);
    let mut good = join(&budget, 64 * 1024);
    slow.handle.try_send(message(4000)).expect("room");
    slower.handle.try_send(message(5500)).expect("room");
    settle().await;
    assert_eq!(output(&budget), 9500);

    good.handle.try_send(message(600)).expect("room is made");
    assert_eq!(slower.handle.close_reason(), Some(CloseReason::OverBudget));
    // Before the closed one has given back what it held, more does not cost another one.
    good.handle.try_send(message(600)).expect("room is being made");
    assert_eq!(slower.handle.closed().await, CloseReason::OverBudget);
    settle().await;
    let mut got = [0; 1200];
    good.peer.read_exact(&mut got).await.expect("both messages");
    assert_eq!((slow.handle.close_reason(), good.handle.close_reason()), (None, None));
    assert_eq!(output(&budget), 4000);
    assert_eq!(budget.usage().expect("bounded").closed, 1);
    assert_eq!(slower.handle.info().traffic.messages_undelivered, 1);
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_too_much_is_the_one_to_go() {
    let budget = Budget::new(1000, 10_000);
    let other = join(&budget, 16);
    let greedy = join(&budget, 16);
    other.handle.try_send(message(3000)).expect("room");
    greedy.handle.try_send(message(3000)).expect("room");
    assert_eq!(greedy.handle.try_send(message(5000)), Err(SendError::Closed));
    assert_eq!(greedy.handle.closed().await, CloseReason::OverBudget);
    settle().await;
    assert_eq!(output(&budget), 3000);
    assert_eq!(other.handle.close_reason(), None);

    // Waiting for room in one's own queue is no way around.
    let late = join(&budget, 16);
    late.handle.try_send(message(3500)).expect("room");
    assert_eq!(late.handle.send(message(6000), SECOND).await, Err(SendError::Closed));
    assert_eq!(late.handle.closed().await, CloseReason::OverBudget);
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_slow_ones_does_not_harm_who_reads() {
    let budget = Budget::new(1000, 100_000);
    let crowd: Vec<_> = (0..50).map(|_| join(&budget, 16)).collect();
    let mut good = join(&budget, 1024 * 1024);
    for round in 0..20 {
        for slow in &crowd {
            // Those that had to go refuse; that is all.
            let _ = slow.handle.try_send(message(1000));
        }
        good.handle.try_send(message(1000)).expect("always room");
        settle().await;
        let mut got = [0; 1000];
        good.peer.read_exact(&mut got).await.expect("always read");
        assert!(output(&budget) <= 100_000, "round {round}");
    }
    let closed = crowd.iter().filter(|c| c.handle.close_reason().is_some()).count();
    assert!(closed >= 1, "20 messages for each of 50 do not fit");
    assert_eq!(budget.usage().expect("bounded").closed, closed as u64);
    drop((crowd, good));
    settle().await;
    assert_eq!((output(&budget), input(&budget)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn lines_in_flight_hold_back_reading_and_close_nobody() {
    let budget = Budget::new(10, 1000);
    let mut one = join(&budget, 1024);
    let mut other = join(&budget, 1024);
    one.peer.write_all(b"123456\nabcdef\n").await.expect("room");
    other.peer.write_all(b"xyz\nuvwxyz\n").await.expect("room");
    let (line, first) = one.reader.recv_counted().await.expect("6 of 10");
    assert_eq!((line, input(&budget)), (Line::Complete("123456".into()), 6));
    // The second of the same does not fit; the call may be given up without losing it.
    assert!(timeout(SECOND * 60, one.reader.recv_counted()).await.is_err());
    let (line, second) = other.reader.recv_counted().await.expect("9 of 10");
    assert_eq!((line, input(&budget)), (Line::Complete("xyz".into()), 9));

    let mut waiting = std::pin::pin!(one.reader.recv_counted());
    assert!(timeout(SECOND * 60, &mut waiting).await.is_err());
    drop(first);
    let (line, third) = waiting.await.expect("room again");
    assert_eq!((line, input(&budget)), (Line::Complete("abcdef".into()), 9));
    drop(second);
    assert_eq!((one.handle.close_reason(), other.handle.close_reason()), (None, None));
    // Who does not count takes its line and holds nothing.
    assert!(timeout(SECOND, other.reader.recv()).await.is_err());
    drop(third);
    assert_eq!(other.reader.recv().await, Ok(Line::Complete("uvwxyz".into())));
    assert_eq!(input(&budget), 0);
}

#[tokio::test(start_paused = true)]
async fn a_line_above_the_whole_budget_passes_alone() {
    let budget = Budget::new(10, 1000);
    let mut one = join(&budget, 1024);
    one.peer
        .write_all(b"far above the whole budget\nx\n")
        .await
        .expect("room");
    let (line, held) = one.reader.recv_counted().await.expect("alone");
    assert_eq!(
        (line, input(&budget)),
        (Line::Complete("far above the whole budget".into()), 10)
    );
    assert!(timeout(SECOND, one.reader.recv_counted()).await.is_err());
    drop(held);
    assert!(one.reader.recv_counted().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_budget_ends_with_the_connection_and_costs_no_deadline() {
    let budget = Budget::new(4, 1000);
    let mut one = join(&budget, 1024);
    one.peer.write_all(b"1234\nabcd\npart").await.expect("room");
    let (_line, held) = one.reader.recv_counted().await.expect("room");
    // Far longer than a line may take.
    assert!(timeout(SECOND * 3600, one.reader.recv_counted()).await.is_err());
    assert_eq!(one.handle.close_reason(), None);
    one.handle.close(CloseReason::Replaced);
    let started = Instant::now();
    assert_eq!(one.reader.recv_counted().await.err(), Some(CloseReason::Replaced));
    assert_eq!(started.elapsed(), Duration::ZERO);
    drop(held);
    assert_eq!(input(&budget), 0);
}

#[tokio::test(start_paused = true)]
async fn full_input_leaves_room_for_output() {
    let budget = Budget::new(4, 1000);
    let mut one = join(&budget, 1024);
    one.peer.write_all(b"1234\n").await.expect("room");
    let _held = one.reader.recv_counted().await.expect("room");
    assert_eq!(one.handle.try_send(message(900)), Ok(()));
    let mut got = [0; 900];
    one.peer.read_exact(&mut got).await.expect("the answer");
}

/// Takes nothing, ever.
#[derive(Debug)]
struct Deaf;

impl AsyncRead for Deaf {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Deaf {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn every_end_gives_everything_back() {
    let budget = Budget::new(1000, 1000);
    let limits = Limits {
        budget: budget.clone(),
        ..Limits::default()
    };
    let open = || Connection::open(Deaf, Peer::Memory, ConnectionId(7), limits.clone());
    // Never driven; dropped while writing; closed with messages left.
    let connection = open();
    connection.handle.try_send(message(100)).expect("room");
    drop(connection);
    assert_eq!(output(&budget), 0);

    let Connection { handle, writer, reader } = open();
    let writing = tokio::spawn(writer.run());
    for _ in 0..3 {
        handle.try_send(message(100)).expect("room");
    }
    settle().await;
    assert_eq!(output(&budget), 300);
    writing.abort();
    assert_eq!(handle.closed().await, CloseReason::InternalError);
    settle().await;
    assert_eq!(output(&budget), 0);

    drop(reader);

    let Connection { handle, writer, reader } = open();
    tokio::spawn(writer.run());
    handle.try_send(message(100)).expect("room");
    handle.close_saying(message(50), CloseReason::Goodbye, SECOND);
    advance(SECOND * 2).await;
    assert_eq!(handle.closed().await, CloseReason::Goodbye);
    assert_eq!(handle.info().traffic.messages_undelivered, 2, "the last words too");
    settle().await;
    assert_eq!(output(&budget), 0);
    drop(reader);
}
