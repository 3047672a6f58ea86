//! What an idle connection weighs: memory that the server's process needs more of.
//!
//! What an idle session connection on the Unix socket consists of, in bytes as they are asked of the allocator (live at
//! 1,000 connections, by heaptrack):
//!
//! | bytes | of what |
//! |---:|---|
//! | 1536 | the task that serves it: its future, in which the reader is 240 and a wait for the next line 530 |
//! | 768 | the task that writes |
//! | 820 | what handle, reader and writer share: queue, budget, facts |
//! | 540 | the router's peer: numbers, rate limits |
//! | 510 | the router's session |
//! | 600 | texts: identity, names, instance, dialect; what it can do |
//! | 340 | places in maps: pool, budget, sessions, greeters, rate limits |
//! | 330 | Tokio's registration of the socket, and its halves |
//! | 150 | the list of lines in flight, empty |
//!
//! That is 5.6 KB. What the process needs beyond it is the database's page cache (500 bytes each for the first
//! thousand), 16 bytes or more a piece of the allocator's own, and holes where something large was while all of them came.
//!
//! Tasks are the largest part, so look there first: a future keeps what an async function took over twice, and what
//! lives over two awaits for good; what is large and rare is boxed. `-Zprint-type-sizes` tells the sizes.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::place::{Backend, Place};
use crate::process::{MIB, Peers, ServerProcess, until_stopped};
use crate::wire::{Session, heartbeat};

/// What is aimed at, for each connection.
const AIM_BYTES: f64 = 8.0 * 1024.0;

/// Who comes at a time: fewer than the system lets wait in front of the server, when it keeps up.
const AT_A_TIME: usize = 200;

/// Nobody is to be asked for a sign of life, or closed, while the server is weighed.
const PATIENCE: [(&str, &str); 6] = [
    ("SOCKET_MAX_CONNECTIONS", "100000"),
    ("SOCKET_CONNECTION_TIMEOUT", "3600000"),
    ("SOCKET_HELLO_TIMEOUT", "3600000"),
    ("SOCKET_KEEPALIVE_INTERVAL", "3600000"),
    ("SOCKET_HEARTBEAT_INTERVAL", "3600000"),
    ("SOCKET_LOG_LEVEL", "warn"),
];

/// What a connection has said before it fell silent.
#[derive(Clone, Copy)]
pub(crate) enum Idle {
    /// Nothing, so that its dialect is not decided.
    Undecided,
    /// One heartbeat of the base protocol.
    Base,
    /// Hello.
    Session,
}

impl Idle {
    const ALL: [(&str, Self); 3] = [
        ("undecided", Self::Undecided),
        ("base", Self::Base),
        ("session", Self::Session),
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, idle)| idle)
    }
}

/// Keeps so many connections until the process is stopped. Says when all of them stand.
pub(crate) async fn play(idle: Idle, socket: &Path, count: usize) {
    let mut kept = Vec::with_capacity(count);
    let mut coming = JoinSet::new();
    for _ in 0..count {
        if coming.len() == AT_A_TIME
            && let Some(connection) = coming.join_next().await
        {
            kept.push(connection.expect("the server takes it"));
        }
        let socket = socket.to_owned();
        coming.spawn(async move { Kept::come(idle, &socket).await });
    }
    while let Some(connection) = coming.join_next().await {
        kept.push(connection.expect("the server takes it"));
    }
    println!("all there");
    until_stopped().await;
    println!("all gone");
}

/// A connection that stays as it is.
enum Kept {
    #[expect(dead_code, reason = "kept open, nothing more")]
    Stream(UnixStream),
    #[expect(dead_code, reason = "kept open, nothing more")]
    Session(Box<Session>),
}

impl Kept {
    /// Knocks until there is room in front of the server.
    async fn come(idle: Idle, socket: &Path) -> Self {
        loop {
            match Self::connect(idle, socket).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(Duration::from_millis(10)).await,
                connected => return connected.expect("the server takes it"),
            }
        }
    }

    async fn connect(idle: Idle, socket: &Path) -> io::Result<Self> {
        if let Idle::Session = idle {
            let session = Session::connect(socket, Uuid::now_v7(), 1, &[]).await?;
            return Ok(Self::Session(Box::new(session)));
        }
        let mut stream = UnixStream::connect(socket).await?;
        if let Idle::Base = idle {
            stream.write_all(heartbeat().as_bytes()).await?;
        }
        Ok(Self::Stream(stream))
    }
}

pub(crate) async fn measure(connections: usize) {
    println!("\nMemory of the server's process (VmRSS), on SQLite, for each idle connection");
    for (name, _) in Idle::ALL {
        let place = Backend::Sqlite.place().await.expect("SQLite is always there");
        run(&place, name, connections).await;
    }
}

/// A tenth of the connections, then all of them, then none.
async fn run(place: &Place, kind: &str, connections: usize) {
    let server = ServerProcess::start(place, &PATIENCE);
    // What the first connections of a process cost once is not theirs.
    drop(Weight::with(&server, place, kind, AT_A_TIME.min(connections)).await);
    server.has_connections(0).await;
    let before = server.settled().await;
    println!("  {kind}: {:.1} MiB with none", before / MIB);
    let few = (connections / 10).max(1);
    let first = Weight::with(&server, place, kind, few).await;
    first.tell(few, before);
    let rest = Weight::with(&server, place, kind, connections - few).await;
    rest.tell(connections, before);
    let (begun, cpu) = (Instant::now(), server.cpu());
    sleep(Duration::from_secs(3)).await;
    let busy = (server.cpu() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    drop((first, rest));
    server.has_connections(0).await;
    println!(
        "    idle they keep {:.1} % of a core busy; {:.1} MiB when they had left",
        busy * 100.0,
        server.settled().await / MIB
    );
}

/// Connections, and what the server weighs with them and those before.
struct Weight {
    _peers: Peers,
    resident: f64,
    coming: Duration,
}

impl Weight {
    async fn with(server: &ServerProcess, place: &Place, kind: &str, more: usize) -> Self {
        let there = server.connections();
        let begun = Instant::now();
        let mut peers = Peers::start(kind, &place.socket(), more);
        assert_eq!(peers.says(), "all there\n", "the peers failed");
        server.has_connections(there + more).await;
        let coming = begun.elapsed();
        Self {
            _peers: peers,
            resident: server.settled().await,
            coming,
        }
    }

    fn tell(&self, connections: usize, before: f64) {
        let each = (self.resident - before) / connections as f64;
        println!(
            "    {connections} connections: {:.1} MiB, {each:.0} bytes each, {:.2} times the aim of {AIM_BYTES:.0}; the last \
             of them came in {:.1} s",
            self.resident / MIB,
            each / AIM_BYTES,
            self.coming.as_secs_f64()
        );
    }
}
