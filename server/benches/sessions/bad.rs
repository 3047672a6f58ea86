//! Bad peers, in a process of their own. Each kind does one thing wrong as hard as it can, and comes back when it is
//! closed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::process::until_stopped;
use crate::wire::{heartbeat, hello, ping};

/// Lines of one write: enough that writing them costs little.
const LINES: usize = 64;

/// Before a closed one comes back.
const PAUSE: Duration = Duration::from_millis(10);

/// What a peer does wrong.
#[derive(Clone, Copy)]
pub(crate) enum Bad {
    /// Asks as fast as it can, and reads no answer.
    SlowReader,
    /// Sends one byte a second.
    Slowloris,
    /// Asks and gives signs of life as fast as it can.
    Flood,
    /// Sends lines that are no messages as fast as it can.
    Invalid,
    /// Falls silent, and does not hang up.
    HalfOpen,
}

impl Bad {
    /// What is measured: a name, what it is, and the kinds.
    pub(crate) const CASES: [(&str, &str, &[Self]); 6] = [
        ("slow-reader", "slow readers", &[Self::SlowReader]),
        ("slowloris", "slowloris", &[Self::Slowloris]),
        ("flood", "floods", &[Self::Flood]),
        ("invalid", "invalid lines", &[Self::Invalid]),
        ("half-open", "half-open", &[Self::HalfOpen]),
        (
            "all",
            "all of them",
            &[
                Self::SlowReader,
                Self::Slowloris,
                Self::Flood,
                Self::Invalid,
                Self::HalfOpen,
            ],
        ),
    ];
}

/// How hard they tried.
#[derive(Default)]
struct Tally {
    connections: AtomicU64,
    lines: AtomicU64,
}

/// Before a kind, for peers that talk to nobody but this process: what they take of the machine by themselves.
pub(crate) const ALONE: &str = "alone-";

/// Plays so many of each kind until the process is stopped; then says how many connections and lines it made.
pub(crate) async fn play(kind: &str, socket: &Path, count: usize) {
    let alone = kind.strip_prefix(ALONE);
    if alone.is_some() {
        let sink = UnixListener::bind(socket).expect("a socket");
        tokio::spawn(throw_away(sink));
    }
    let kind = alone.unwrap_or(kind);
    let (_, _, kinds) = Bad::CASES
        .into_iter()
        .find(|(name, _, _)| *name == kind)
        .expect("a kind of bad peers");
    let tally = Arc::new(Tally::default());
    for number in 0..count * kinds.len() {
        let peer = Peer {
            bad: kinds[number % kinds.len()],
            // Every other one has said hello before it turns bad.
            hello: (number / kinds.len())
                .is_multiple_of(2)
                .then(|| hello(Uuid::now_v7(), 0, &[])),
            socket: socket.to_owned(),
            tally: tally.clone(),
        };
        tokio::spawn(peer.come_and_come_again());
    }
    until_stopped().await;
    println!(
        "connections {} lines {}",
        tally.connections.load(Ordering::Relaxed),
        tally.lines.load(Ordering::Relaxed)
    );
}

/// A server that reads, and does nothing else.
async fn throw_away(sink: UnixListener) {
    while let Ok((mut stream, _)) = sink.accept().await {
        tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
    }
}

struct Peer {
    bad: Bad,
    hello: Option<String>,
    socket: PathBuf,
    tally: Arc<Tally>,
}

impl Peer {
    async fn come_and_come_again(self) {
        loop {
            // Being closed is what it expects.
            let _ = self.come().await;
            sleep(PAUSE).await;
        }
    }

    /// One connection, until the server closes it.
    async fn come(&self) -> io::Result<()> {
        let stream = UnixStream::connect(&self.socket).await?;
        self.tally.connections.fetch_add(1, Ordering::Relaxed);
        let (read, mut write) = stream.into_split();
        if let Some(hello) = &self.hello {
            write.write_all(hello.as_bytes()).await?;
        }
        match self.bad {
            Bad::SlowReader => self.repeat(&mut write, &ping().repeat(LINES)).await,
            Bad::Flood => {
                let lines = [ping(), heartbeat()].concat().repeat(LINES / 2);
                beside(read, self.repeat(&mut write, &lines)).await
            }
            Bad::Invalid => {
                let lines = "{\"type\":\"job_started\",\"data\":[1,2,3]}\n".repeat(LINES);
                beside(read, self.repeat(&mut write, &lines)).await
            }
            Bad::Slowloris => beside(read, drip(&mut write)).await,
            Bad::HalfOpen => beside(read, std::future::pending()).await,
        }
    }

    async fn repeat(&self, write: &mut (impl AsyncWrite + Unpin), lines: &str) -> io::Result<()> {
        loop {
            write.write_all(lines.as_bytes()).await?;
            self.tally.lines.fetch_add(LINES as u64, Ordering::Relaxed);
        }
    }
}

/// Does something until the server hangs up, and reads meanwhile what it says.
async fn beside(mut read: impl AsyncRead + Unpin, doing: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let mut nowhere = tokio::io::sink();
    tokio::select! {
        read = tokio::io::copy(&mut read, &mut nowhere) => read.map(|_| ()),
        done = doing => done,
    }
}

/// A line at one byte a second.
async fn drip(write: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let begun = Instant::now();
    for (number, byte) in heartbeat().bytes().enumerate() {
        tokio::time::sleep_until(begun + Duration::from_secs(number as u64)).await;
        write.write_all(&[byte]).await?;
    }
    Ok(())
}
