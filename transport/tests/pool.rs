//! The pool over in-memory connections.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use crawlwire_transport::{
    AtLimit, CloseReason, CloseSummary, Connection, ConnectionHandle, ConnectionId, ConnectionState, Health,
    HealthThresholds, Limits, LineReader, Peer, Pool, PoolEvent, Refused, SendError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::broadcast::Receiver;
use tokio::time::{Instant, advance};

const SECOND: Duration = Duration::from_secs(1);

struct Member {
    handle: ConnectionHandle,
    reader: LineReader<DuplexStream>,
    peer: DuplexStream,
}

impl Member {
    fn id(&self) -> ConnectionId {
        self.handle.id()
    }

    async fn next(&mut self, bytes: usize) -> Vec<u8> {
        let mut got = vec![0; bytes];
        self.peer.read_exact(&mut got).await.expect("bytes");
        got
    }
}

/// A new member whose peer takes `buffer` bytes without reading.
async fn join(pool: &Pool, buffer: usize) -> Member {
    let permit = pool.reserve().expect("a place");
    let (ours, peer) = tokio::io::duplex(buffer);
    let connection = Connection::open(ours, Peer::Memory, permit.id(), Limits::default());
    pool.add(permit, connection.handle.clone());
    tokio::spawn(connection.writer.run());
    // Let the writer start, so that tests see the state after that.
    for _ in 0..1000 {
        if connection.handle.state() != ConnectionState::Connecting {
            break;
        }
        tokio::task::yield_now().await;
    }
    Member {
        handle: connection.handle,
        reader: connection.reader,
        peer,
    }
}

async fn removed(events: &mut Receiver<PoolEvent>) -> (ConnectionId, CloseReason) {
    loop {
        if let PoolEvent::Removed { id, reason, .. } = events.recv().await.expect("events") {
            return (id, reason);
        }
    }
}

#[tokio::test]
async fn the_limit_holds_and_places_come_back() {
    let pool = Pool::new(2);
    let unused = pool.reserve().expect("first");
    let first = join(&pool, 64).await;
    assert_eq!(pool.reserve().expect_err("full"), AtLimit { limit: 2 });
    drop(unused);
    let second = join(&pool, 64).await;
    assert!(second.id() > first.id());

    let mut events = pool.subscribe();
    first.handle.close(CloseReason::DisconnectedByOperator);
    let gone = removed(&mut events).await;
    assert_eq!(gone, (first.id(), CloseReason::DisconnectedByOperator));
    assert!(pool.get(first.id()).is_none());
    let third = join(&pool, 64).await;

    pool.set_limit(1);
    assert!(pool.reserve().is_err());
    assert!(pool.get(third.id()).is_some(), "a lower limit closes nobody");
    pool.set_limit(3);
    assert!(pool.reserve().is_ok());
    assert_eq!((pool.stats().accepted, pool.stats().refused), (3, 2));
}

#[tokio::test]
async fn who_had_ended_before_it_was_taken_in_does_not_stay() {
    let pool = Pool::new(1);
    let mut events = pool.subscribe();
    let permit = pool.reserve().expect("a place");
    let (ours, _peer) = tokio::io::duplex(64);
    let connection = Connection::open(ours, Peer::Memory, permit.id(), Limits::default());
    drop(connection.writer);
    pool.add(permit, connection.handle.clone());
    let gone = removed(&mut events).await;
    assert_eq!(gone, (connection.handle.id(), CloseReason::InternalError));
    assert!(pool.reserve().is_ok(), "its place is free");
    assert_eq!(pool.stats().closed, [(CloseReason::InternalError, 1)].into());
}

#[tokio::test]
async fn a_message_reaches_one_or_several_or_all_and_each_has_an_outcome() {
    let pool = Pool::new(10);
    let mut a = join(&pool, 64).await;
    let mut b = join(&pool, 64).await;
    let mut c = join(&pool, 64).await;
    b.handle.set_crawler_id("crawler");
    let nobody = ConnectionId(999);

    pool.send(a.id(), "1\n".into(), SECOND).await.expect("sent");
    assert_eq!(pool.send(nobody, "1\n".into(), SECOND).await, Err(SendError::NotFound));
    assert_eq!(a.next(2).await, b"1\n");

    pool.send_to_crawler("crawler", "2\n".into(), SECOND)
        .await
        .expect("sent");
    assert_eq!(b.next(2).await, b"2\n");
    let unknown = pool.send_to_crawler("unknown", "2\n".into(), SECOND).await;
    assert_eq!(unknown, Err(SendError::NotFound));

    let ids = [c.id(), nobody, a.id()];
    let outcomes = pool.send_to(&ids, "3\n".into(), SECOND).await;
    assert_eq!(
        outcomes,
        [(c.id(), Ok(())), (nobody, Err(SendError::NotFound)), (a.id(), Ok(()))]
    );
    assert_eq!((a.next(2).await, c.next(2).await), (b"3\n".to_vec(), b"3\n".to_vec()));

    c.handle.close(CloseReason::Replaced);
    let outcomes = pool.broadcast("4\n".into(), SECOND).await;
    assert_eq!(outcomes, [(a.id(), Ok(())), (b.id(), Ok(()))], "not to the closing one");
    assert_eq!((a.next(2).await, b.next(2).await), (b"4\n".to_vec(), b"4\n".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_delays_a_broadcast_by_its_timeout_once_and_nobody_else() {
    let pool = Pool::new(10);
    let mut stuck = Vec::new();
    for _ in 0..3 {
        let member = join(&pool, 16).await;
        let big = Bytes::from(vec![b'\n'; 4 * 1024 * 1024]);
        member.handle.try_send(big).expect("the whole budget");
        stuck.push(member);
    }
    let mut good = join(&pool, 64).await;
    let started = Instant::now();
    let (outcomes, (got, at)) = tokio::join!(pool.broadcast("hi\n".into(), SECOND), async {
        (good.next(3).await, started.elapsed())
    });
    assert_eq!((got, at), (b"hi\n".to_vec(), Duration::ZERO));
    assert_eq!(started.elapsed(), SECOND);
    let full = outcomes.iter().filter(|(_, o)| *o == Err(SendError::Full));
    assert_eq!(full.count(), 3);
}

#[tokio::test]
async fn a_broadcast_shares_its_bytes() {
    let pool = Pool::new(10);
    // Writers that do not run keep their messages.
    let mut kept = Vec::new();
    for _ in 0..5 {
        let permit = pool.reserve().expect("a place");
        let (ours, theirs) = tokio::io::duplex(64);
        let connection = Connection::open(ours, Peer::Memory, permit.id(), Limits::default());
        pool.add(permit, connection.handle.clone());
        kept.push((connection, theirs));
    }
    let line = Bytes::from(vec![b'\n'; 1000]);
    let outcomes = pool.broadcast(line.clone(), SECOND).await;
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()));
    assert!(!line.is_unique(), "the queues hold the same allocation");
    drop(kept);
    assert!(line.is_unique());
}

#[tokio::test]
async fn a_crawler_is_found_by_its_newest_open_connection() {
    let pool = Pool::new(10);
    let old = join(&pool, 64).await;
    let new = join(&pool, 64).await;
    for member in [&old, &new] {
        member.handle.set_crawler_id("c");
    }
    let found = |pool: &Pool| pool.find_crawler("c").map(|h| h.id());
    assert_eq!(found(&pool), Some(new.id()));
    new.handle.close(CloseReason::Replaced);
    assert_eq!(found(&pool), Some(old.id()));
    old.handle.close(CloseReason::Replaced);
    // Nothing was awaited, so both are still there, closing.
    let outcome = pool.send_to_crawler("c", "x\n".into(), SECOND).await;
    assert_eq!(outcome, Err(SendError::Closed));
    assert!(pool.find_crawler("d").is_none());
}

#[tokio::test(start_paused = true)]
async fn stats_add_up() {
    let pool = Pool::new(10);
    let mut members = Vec::new();
    for _ in 0..4 {
        members.push(join(&pool, 64).await);
    }
    let [quiet, active, idle, error] = &mut members[..] else {
        panic!("four members")
    };
    idle.handle.note_valid_message(true);
    advance(31 * SECOND).await;
    active.handle.note_valid_message(true);
    error.handle.note_error("bad_json");
    let stats = pool.stats();
    assert_eq!((stats.total, stats.active, stats.idle), (4, 1, 2));
    assert_eq!((stats.error, stats.closing, stats.limit), (1, 0, 10));
    let actives = pool.filter(|info| info.state == ConnectionState::Active);
    assert_eq!(actives.len(), 1);
    assert_eq!(actives[0].id(), active.id());

    let mut events = pool.subscribe();
    quiet.peer.write_all(b"hello\n").await.expect("room");
    quiet.reader.recv().await.expect("a line");
    quiet.handle.close(CloseReason::TooManyErrors);
    assert_eq!(pool.stats().closing, 1);
    removed(&mut events).await;
    let stats = pool.stats();
    assert_eq!(stats.total, 3);
    assert_eq!(stats.closed[&CloseReason::TooManyErrors], 1);
    assert_eq!(stats.recent_closes.len(), 1);
    assert_eq!(stats.recent_closes[0].id, quiet.id());
    assert_eq!(stats.recent_closes[0].reason, CloseReason::TooManyErrors);
    assert_eq!(stats.traffic.messages_received, 1, "kept after it has left");
    assert_eq!(stats.traffic.errors, 1);
}

#[tokio::test]
async fn the_list_of_closes_is_bounded_and_the_counts_are_not() {
    let pool = Pool::new(1);
    let mut events = pool.subscribe();
    let mut last = ConnectionId(0);
    for _ in 0..130 {
        let member = join(&pool, 64).await;
        last = member.id();
        member.handle.close(CloseReason::Replaced);
        removed(&mut events).await;
    }
    let stats = pool.stats();
    assert_eq!(stats.closed[&CloseReason::Replaced], 130);
    assert_eq!(stats.recent_closes.len(), 128);
    assert_eq!(stats.recent_closes.last().map(|c| c.id), Some(last));
}

#[tokio::test(start_paused = true)]
async fn a_close_is_remembered_with_all_that_is_known_of_it() {
    let pool = Pool::new(1);
    let mut events = pool.subscribe();
    let mut member = join(&pool, 1024).await;
    member.handle.set_crawler_id("crawler-7");
    member.peer.write_all(b"one\ntwo\n").await.expect("room");
    for _ in 0..2 {
        member.reader.recv().await.expect("a line");
    }
    member.handle.try_send("answer\n".into()).expect("room");
    member.next(7).await;
    advance(SECOND * 90).await;
    let farewell = "goodbye\n";
    member
        .handle
        .close_saying(farewell.into(), CloseReason::TokenRevoked, SECOND);
    member.next(8).await;
    removed(&mut events).await;

    let stats = pool.stats();
    let record = &stats.recent_closes[0];
    assert_eq!((record.id, record.reason), (member.id(), CloseReason::TokenRevoked));
    assert_eq!(record.crawler_id.as_deref(), Some("crawler-7"));
    assert_eq!((&record.peer, record.lived), (&Peer::Memory, SECOND * 90));
    assert_eq!(
        (record.traffic.messages_received, record.traffic.bytes_received),
        (2, 8)
    );
    assert_eq!((record.traffic.messages_sent, record.traffic.bytes_sent), (2, 15));
}

#[tokio::test]
async fn refusals_are_counted_by_reason_and_listed_apart() {
    let pool = Pool::new(1);
    let refused = |n: usize| Refused {
        at: SystemTime::UNIX_EPOCH,
        peer: Peer::Memory,
        reason: if n == 0 {
            CloseReason::TlsFailed
        } else {
            CloseReason::PeerNotAllowed
        },
        detail: n.to_string(),
    };
    for n in 0..40 {
        pool.note_refused(refused(n));
    }
    let stats = pool.stats();
    let counts: Vec<_> = stats.refused_by_reason.into_iter().collect();
    assert_eq!(counts, [(CloseReason::PeerNotAllowed, 39), (CloseReason::TlsFailed, 1)]);
    assert_eq!(stats.recent_refusals.len(), 32);
    assert_eq!(stats.recent_refusals.last(), Some(&refused(39)));
    assert!(stats.closed.is_empty() && stats.recent_closes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn events_tell_a_connections_life_in_order() {
    use ConnectionState as S;
    let pool = Pool::new(10);
    let mut events = pool.subscribe();
    let member = join(&pool, 64).await;
    let id = member.id();
    member.handle.set_crawler_id("c");
    member.handle.note_valid_message(true);
    member.handle.note_valid_message(true);
    advance(SECOND).await;
    member.handle.note_error("bad_json");
    member.handle.close(CloseReason::ServerShutdown);
    member.handle.closed().await;

    let moved = |from, to| PoolEvent::StateChanged { id, from, to };
    let want = [
        PoolEvent::Added { id, peer: Peer::Memory },
        moved(S::Connecting, S::Connected),
        moved(S::Connected, S::Active),
        PoolEvent::Error { id, code: "bad_json" },
        moved(S::Active, S::Error),
        moved(S::Error, S::Closing),
        moved(S::Closing, S::Closed),
        PoolEvent::Removed {
            id,
            reason: CloseReason::ServerShutdown,
            crawler_id: Some("c".into()),
        },
    ];
    for want in want {
        assert_eq!(events.recv().await.expect("events"), want);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sweep_notices_what_time_does_and_closes_only_the_dead() {
    use ConnectionState as S;
    let pool = Pool::new(10);
    let beating = join(&pool, 64).await;
    let silent = join(&pool, 64).await;
    let thresholds = HealthThresholds::default();
    beating.handle.note_valid_message(true);
    let mut events = pool.subscribe();

    assert!(
        pool.sweep(&thresholds, |_| false)
            .iter()
            .all(|r| r.health == Health::Healthy)
    );
    advance(60 * SECOND).await;
    pool.sweep(&thresholds, |_| false);
    let id = beating.id();
    let moved = |from, to| PoolEvent::StateChanged { id, from, to };
    let health = |from, to| PoolEvent::HealthChanged { id, from, to };
    assert_eq!(events.recv().await, Ok(moved(S::Active, S::Idle)));
    assert_eq!(events.recv().await, Ok(health(Health::Healthy, Health::Degraded)));

    advance(31 * SECOND).await;
    let reports = pool.sweep(&thresholds, |_| false);
    assert!(reports[0].is_dead && reports[0].id == id);
    assert!(!reports[1].is_dead, "who never beat is not held to it");
    assert_eq!(events.recv().await, Ok(health(Health::Degraded, Health::Unhealthy)));
    assert_eq!(removed(&mut events).await, (id, CloseReason::HeartbeatTimeout));
    assert!(pool.get(silent.id()).is_some());
    assert_eq!(pool.sweep(&thresholds, |_| false).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_tells_of_the_dead_it_spares() {
    let pool = Pool::new(10);
    let (spared, other) = (join(&pool, 64).await, join(&pool, 64).await);
    for member in [&spared, &other] {
        member.handle.note_valid_message(true);
    }
    advance(91 * SECOND).await;
    let reports = pool.sweep(&HealthThresholds::default(), |info| info.id == spared.id());
    assert!(
        reports
            .iter()
            .all(|report| report.is_dead && report.health == Health::Unhealthy)
    );
    assert_eq!(spared.handle.close_reason(), None);
    assert_eq!(other.handle.close_reason(), Some(CloseReason::HeartbeatTimeout));
}

#[tokio::test(start_paused = true)]
async fn closing_all_flushes_who_reads_and_cuts_who_does_not() {
    let pool = Pool::new(10);
    let late_permit = pool.reserve().expect("a place");
    let mut good = join(&pool, 64).await;
    let stuck = join(&pool, 16).await;
    for member in [&good, &stuck] {
        let line = Bytes::from([vec![b'x'; 200], vec![b'\n']].concat());
        member.handle.try_send(line).expect("room");
    }
    let started = Instant::now();
    let (summary, text) = tokio::join!(pool.close_all(CloseReason::ServerShutdown, 3 * SECOND), async {
        let mut text = String::new();
        good.peer.read_to_string(&mut text).await.expect("to the end");
        text
    });
    assert_eq!(summary, CloseSummary { flushed: 1, cut: 1 });
    assert_eq!(started.elapsed(), 3 * SECOND);
    assert_eq!(text.len(), 201);
    let stats = pool.stats();
    assert_eq!((stats.total, stats.limit), (0, 0));
    assert_eq!(stats.closed[&CloseReason::ServerShutdown], 2);

    assert!(pool.reserve().is_err(), "takes nobody any more");
    pool.set_limit(5);
    assert!(pool.reserve().is_err());
    // One that had its permit already is closed as soon as it is added.
    let (ours, _theirs) = tokio::io::duplex(64);
    let late = Connection::open(ours, Peer::Memory, late_permit.id(), Limits::default());
    pool.add(late_permit, late.handle.clone());
    late.writer.run().await;
    assert_eq!(late.handle.closed().await, CloseReason::ServerShutdown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coming_and_going_in_parallel_leaves_nothing_behind() {
    let pool = Pool::new(8);
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let pool = pool.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..50 {
                // Room for every message there will be, as nobody reads.
                let member = join(&pool, 1024).await;
                pool.broadcast("x\n".into(), SECOND).await;
                // Its place comes back with this event, a moment after it has closed.
                let (mut events, id) = (pool.subscribe(), member.id());
                drop(member.reader);
                while removed(&mut events).await.0 != id {}
                assert!(pool.get(id).is_none());
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    let stats = pool.stats();
    assert_eq!((stats.total, stats.accepted, stats.refused), (0, 200, 0));
    assert_eq!(stats.closed.values().sum::<u64>(), 200);
}
