//! A bad network between two ends: a proxy that does to a stream what networks, kernels and restarts do.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::bound::Bound;
use crate::client::BoxedStream;
use crate::jitter::Jitter;
use crate::{Endpoint, Stream};

/// Bytes read at a time when nothing is wrong.
const CHUNK_BYTES: usize = 8 * 1024;

/// Bytes that may come late on one connection: more than a client ever has under way.
const LATE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How likely each fault is, for each chunk of bytes that passes where nothing else is said. 0 is never, 1 is always; the
/// default is never.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// The chunk goes on in small pieces.
    pub split: f64,
    /// The chunk waits for the next one, for up to `delay_max`.
    pub merge: f64,
    /// The chunk waits.
    pub delay: f64,
    /// The longest such wait.
    pub delay_max: Duration,
    /// A line that carries a `seq` is sent twice, as somebody does who is not sure. For each such line, in both directions.
    pub duplicate_line: f64,
    /// Nothing is forwarded in this direction from here on, not even its end.
    pub half_open: f64,
    /// This direction ends, in the middle of whatever it is in; the other goes on.
    pub drop_half: f64,
    /// The connection breaks: part of the chunk arrives, and both ends lose it.
    pub reset: f64,
    /// The next bytes are read one by one, so that the sender's buffers fill.
    pub slow_read: f64,
    /// The client loses the connection, and what it has said from here on reaches the server only after the client was
    /// answered on a later one. For what comes from the client, once it was answered.
    pub late: f64,
    /// The same before it was answered: what is late begins with its greeting.
    pub late_greeting: f64,
}

impl Faults {
    /// A bit of everything that a connection survives: pieces, waits, repetitions.
    pub fn rough() -> Self {
        Self {
            split: 0.2,
            merge: 0.1,
            delay: 0.1,
            delay_max: Duration::from_millis(5),
            duplicate_line: 0.05,
            slow_read: 0.02,
            ..Self::default()
        }
    }

    /// The same, and connections that break.
    pub fn hostile() -> Self {
        Self {
            half_open: 0.005,
            drop_half: 0.01,
            reset: 0.03,
            ..Self::rough()
        }
    }
}

/// A proxy between a client and a server that makes faults: at random from a seed, and at command.
///
/// It shows its seed when it is dropped by a test that fails.
#[derive(Debug)]
pub struct FaultProxy {
    endpoint: Endpoint,
    seed: u64,
    control: Arc<Control>,
    /// Ends with the proxy, and every connection with it.
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Control {
    faults: Mutex<Faults>,
    /// While true nothing passes, and nobody is told.
    held: watch::Sender<bool>,
    /// Cancelled to break all connections, then replaced.
    breaker: Mutex<CancellationToken>,
    connections: AtomicUsize,
    /// Lines that went on twice.
    repeated: AtomicU64,
    /// The last connection on which the server has said something.
    answered: watch::Sender<usize>,
}

impl Control {
    fn faults(&self) -> Faults {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new(faults: Faults) -> Arc<Self> {
        Arc::new(Self {
            faults: Mutex::new(faults),
            held: watch::Sender::new(false),
            breaker: Mutex::new(CancellationToken::new()),
            connections: AtomicUsize::new(0),
            repeated: AtomicU64::new(0),
            answered: watch::Sender::new(0),
        })
    }

    fn breaker(&self) -> MutexGuard<'_, CancellationToken> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FaultProxy {
    /// Listens beside the kind of socket that `upstream` is, and forwards each connection to it.
    ///
    /// # Panics
    /// When the system does not let it listen.
    pub async fn start(upstream: &Endpoint, faults: Faults, seed: u64) -> Self {
        let bound = match upstream {
            Endpoint::Unix(_) => Bound::unix(),
            Endpoint::Tcp { .. } => Bound::tcp().await,
        };
        let control = Control::new(faults);
        let endpoint = bound.endpoint();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(bound, upstream.clone(), Arc::clone(&control), seed));
        Self {
            endpoint,
            seed,
            control,
            _tasks: tasks,
        }
    }

    /// Where clients connect.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    /// What its random choices follow from, together with the timing of both ends.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Connections forwarded so far.
    pub fn connections(&self) -> usize {
        self.control.connections.load(Ordering::Relaxed)
    }

    /// Lines that went on twice so far.
    pub fn repeated(&self) -> u64 {
        self.control.repeated.load(Ordering::Relaxed)
    }

    /// From now on these faults.
    pub fn set_faults(&self, faults: Faults) {
        *self.control.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// Breaks all connections at once.
    pub fn reset(&self) {
        let broken = std::mem::take(&mut *self.control.breaker());
        broken.cancel();
    }

    /// From now on nothing passes in either direction, and neither end is told: a cable pulled out.
    pub fn hold(&self) {
        self.control.held.send_replace(true);
    }

    /// What was held passes on.
    pub fn release(&self) {
        self.control.held.send_replace(false);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "the way to see the failure again")]
            {
                eprintln!("the fault proxy had the seed {}", self.seed);
            }
        }
    }
}

/// A stream that passes through these faults before it reaches the given one: for simulated networks, where there is no
/// proxy to dial. Faults that need a later connection do not come.
pub fn faulty(stream: BoxedStream, faults: Faults, seed: u64) -> BoxedStream {
    let (ours, theirs) = tokio::io::duplex(CHUNK_BYTES);
    let mut seeds = Jitter::seeded(seed);
    tokio::spawn(async move {
        let (up, down) = (Jitter::seeded(seeds.next()), Jitter::seeded(seeds.next()));
        let control = Control::new(faults);
        forward(Box::new(theirs), stream, &control, 1, up, down).await;
    });
    Box::new(ours)
}

async fn accept(mut bound: Bound, upstream: Endpoint, control: Arc<Control>, seed: u64) {
    let mut seeds = Jitter::seeded(seed);
    let mut connections = JoinSet::new();
    loop {
        let client = bound.accept().await;
        let number = control.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let (control, upstream) = (Arc::clone(&control), upstream.clone());
        let (up, down) = (Jitter::seeded(seeds.next()), Jitter::seeded(seeds.next()));
        connections.spawn(async move {
            // A server that is not there is a connection that breaks.
            if let Ok(server) = Stream::connect(&upstream).await {
                forward(client, Box::new(server), &control, number, up, down).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(
    client: BoxedStream,
    server: BoxedStream,
    control: &Arc<Control>,
    number: usize,
    up: Jitter,
    down: Jitter,
) {
    let breaker = control.breaker().clone();
    let (client_reads, client_writes) = tokio::io::split(client);
    let (server_reads, server_writes) = tokio::io::split(server);
    let cut = CancellationToken::new();
    let direction = |reader, writer, random, is_up| Direction {
        reader,
        writer,
        random,
        is_up,
        number,
        cut: cut.clone(),
        control: Arc::clone(control),
        held: control.held.subscribe(),
        merged: Vec::new(),
        line: Vec::new(),
        slow: 0,
    };
    let up = direction(client_reads, server_writes, up, true);
    let down = direction(server_reads, client_writes, down, false);
    // Both ends are dropped, and so closed, when one direction breaks the connection or both are over.
    tokio::select! {
        () = breaker.cancelled() => {}
        _ = async { tokio::try_join!(up.run(), down.run()) } => {}
    }
}

/// One direction of one connection.
struct Direction {
    reader: ReadHalf<BoxedStream>,
    writer: WriteHalf<BoxedStream>,
    random: Jitter,
    /// Whether it leads to the server.
    is_up: bool,
    /// Which connection it is of.
    number: usize,
    /// Cancelled when the client loses the connection and the server does not.
    cut: CancellationToken,
    control: Arc<Control>,
    held: watch::Receiver<bool>,
    /// Chunks that wait for the next one.
    merged: Vec<u8>,
    /// The line under way, to be able to say it twice.
    line: Vec<u8>,
    /// Bytes still to be read one by one.
    slow: usize,
}

impl Direction {
    /// Forwards until the direction ends, or the connection breaks.
    async fn run(mut self) -> Result<(), Broken> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let faults = self.control.faults();
            let size = if self.slow > 0 { 1 } else { CHUNK_BYTES };
            self.slow = self.slow.saturating_sub(1);
            let wait = if self.merged.is_empty() {
                None
            } else {
                Some(faults.delay_max)
            };
            let cut = self.cut.clone();
            let read = tokio::select! {
                biased;
                () = cut.cancelled(), if !self.is_up => return self.lose_client().await,
                read = self.read(&mut chunk[..size], wait) => read,
            };
            // While held, what was read is kept here; the sender's buffers fill.
            self.held.wait_for(|held| !*held).await.map_err(|_| Broken)?;
            match read {
                None => self.write(usize::MAX).await?,
                Some(0) => {
                    self.write(usize::MAX).await?;
                    let _ = self.writer.shutdown().await;
                    return Ok(());
                }
                Some(bytes) => {
                    if !self.is_up {
                        self.control.answered.send_if_modified(|last| {
                            *last < self.number && {
                                *last = self.number;
                                true
                            }
                        });
                    }
                    if self.pass(&chunk[..bytes], &faults).await?.is_break() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Bytes read, 0 at the end, `None` when merged bytes have waited long enough.
    async fn read(&mut self, chunk: &mut [u8], wait: Option<Duration>) -> Option<usize> {
        let read = self.reader.read(chunk);
        let read = match wait {
            Some(wait) => tokio::time::timeout(wait, read).await.ok()?,
            None => read.await,
        };
        Some(read.unwrap_or(0))
    }

    fn happens(&mut self, likely: f64) -> bool {
        likely > 0.0 && self.random.fraction() < likely
    }

    /// A chunk on its way. Breaks when the direction ends with it.
    async fn pass(&mut self, chunk: &[u8], faults: &Faults) -> Result<ControlFlow<()>, Broken> {
        if self.happens(faults.reset) {
            let part = (self.random.fraction() * chunk.len() as f64) as usize;
            self.merged.extend_from_slice(&chunk[..part]);
            self.write(usize::MAX).await?;
            return Err(Broken);
        }
        if self.is_up && self.happens(self.late(faults)) {
            self.merged.extend_from_slice(chunk);
            return self.come_late().await.map(ControlFlow::Break);
        }
        if self.happens(faults.drop_half) {
            let _ = self.writer.shutdown().await;
            return Ok(ControlFlow::Break(()));
        }
        if self.happens(faults.half_open) {
            // Held until the connection is broken by somebody.
            std::future::pending::<()>().await;
        }
        if self.happens(faults.delay) {
            tokio::time::sleep(self.random.up_to(faults.delay_max)).await;
        }
        if self.happens(faults.slow_read) {
            self.slow = 256;
        }
        self.take(chunk, faults.duplicate_line);
        if self.happens(faults.merge) {
            return Ok(ControlFlow::Continue(()));
        }
        let pieces = if self.happens(faults.split) { 7 } else { usize::MAX };
        self.write(pieces).await.map(ControlFlow::Continue)
    }

    fn late(&self, faults: &Faults) -> f64 {
        if *self.control.answered.borrow() >= self.number {
            faults.late
        } else {
            faults.late_greeting
        }
    }

    /// Takes the connection from the client, keeps what it has said, and delivers it after the next one was answered.
    async fn come_late(&mut self) -> Result<(), Broken> {
        self.cut.cancel();
        // The client notices, and hangs up; what it says after that is for its next connection.
        let rest = (&mut self.reader).take(LATE_BYTES_MAX);
        let _ = tokio::io::copy(&mut { rest }, &mut self.merged).await;
        let mut answered = self.control.answered.subscribe();
        let number = self.number;
        answered.wait_for(|last| *last > number).await.map_err(|_| Broken)?;
        self.write(usize::MAX).await?;
        let _ = self.writer.shutdown().await;
        Ok(())
    }

    /// Ends the client's side; what the server still says is lost.
    async fn lose_client(&mut self) -> Result<(), Broken> {
        let _ = self.writer.shutdown().await;
        let _ = tokio::io::copy(&mut self.reader, &mut tokio::io::sink()).await;
        Ok(())
    }

    /// Adds a chunk to what is to be written, saying lines with a number twice now and then.
    fn take(&mut self, chunk: &[u8], duplicate: f64) {
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            self.merged.extend_from_slice(part);
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                let is_numbered = line.windows(6).any(|bytes| bytes == b"\"seq\":");
                if is_numbered && self.happens(duplicate) {
                    self.control.repeated.fetch_add(1, Ordering::Relaxed);
                    self.merged.extend_from_slice(&line);
                }
            }
        }
    }

    /// Writes what was taken, in pieces of at most so many bytes.
    async fn write(&mut self, pieces: usize) -> Result<(), Broken> {
        let bytes = std::mem::take(&mut self.merged);
        for piece in bytes.chunks(pieces.min(bytes.len().max(1))) {
            if self.writer.write_all(piece).await.is_err() || self.writer.flush().await.is_err() {
                return Err(Broken);
            }
            if pieces < bytes.len() {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }
}

/// The connection is over for both ends.
struct Broken;
