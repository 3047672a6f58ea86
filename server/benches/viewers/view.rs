//! Viewers: some that are measured, and many that only read.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::process;

/// Viewers whose events are looked at.
pub(crate) const MEASURED: usize = 4;

const MIB: usize = 1024 * 1024;

/// What a viewer saw while it was measured.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
    pub(crate) resyncs: usize,
    /// From each report to its arrival here.
    pub(crate) delays: Vec<Duration>,
}

/// One that is measured. It views until this is dropped.
pub(crate) struct View {
    seen: Arc<Mutex<Option<Seen>>>,
    task: AbortHandle,
}

impl View {
    /// Returns when it has its snapshot. Reports count their milliseconds from `began`.
    pub(crate) async fn open(server: SocketAddr, began: Instant) -> Self {
        let mut lines = BufReader::with_capacity(256 * 1024, connect(server).await);
        let mut line = String::new();
        while !line.starts_with("event: snapshot") {
            line.clear();
            lines.read_line(&mut line).await.expect("a snapshot");
        }
        let seen = Arc::<Mutex<Option<Seen>>>::default();
        let task = tokio::spawn(look(lines, seen.clone(), began)).abort_handle();
        Self { seen, task }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self) {
        *self.lock() = Some(Seen::default());
    }

    pub(crate) fn end(&self) -> Seen {
        self.lock().take().expect("it has begun")
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(server: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(server).await.expect("the server listens");
    let request = "GET /api/v1/stream HTTP/1.0\r\nhost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("the server reads");
    stream
}

async fn look(mut lines: BufReader<TcpStream>, seen: Arc<Mutex<Option<Seen>>>, began: Instant) {
    let mut line = String::new();
    loop {
        line.clear();
        if lines.read_line(&mut line).await.expect("the server goes on") == 0 {
            return;
        }
        let now = began.elapsed();
        if let Some(seen) = &mut *seen.lock().unwrap_or_else(PoisonError::into_inner) {
            seen.bytes += line.len();
            seen.resyncs += usize::from(line == "event: resync\n");
            // Fields come in the order of their names, so this is the job's own.
            if line.starts_with("data: {\"activity\":")
                && let Some(said) = after(&line, "\"time_elapsed\":")
            {
                seen.frames += 1;
                seen.delays.push(now.saturating_sub(Duration::from_millis(said)));
            }
        }
    }
}

fn after(line: &str, name: &str) -> Option<u64> {
    let (_, rest) = line.split_once(name)?;
    rest.split(|it: char| !it.is_ascii_digit()).next()?.parse().ok()
}

/// In a process of its own: views without looking, until it is stopped.
pub(crate) async fn play(server: &str, count: usize) {
    let server: SocketAddr = server.parse().expect("an address");
    let mut viewers = JoinSet::new();
    let told = Arc::new(Mutex::new((0, 0)));
    for _ in 0..count {
        let mut stream = connect(server).await;
        let mut buffer = vec![0; 256 * 1024];
        stream.read_exact(&mut buffer[..12]).await.expect("an answer");
        assert!(buffer.starts_with(b"HTTP/1.0 200"), "no viewer is refused");
        let told = told.clone();
        viewers.spawn(async move {
            loop {
                let read = stream.read(&mut buffer).await.unwrap_or(0);
                let (bytes, ends): &mut (usize, usize) = &mut told.lock().unwrap_or_else(PoisonError::into_inner);
                *bytes += read;
                if read == 0 {
                    *ends += 1;
                    return;
                }
            }
        });
    }
    println!("there");
    process::until_stopped().await;
    let (bytes, ends) = *told.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{} {ends}", bytes / MIB);
}
