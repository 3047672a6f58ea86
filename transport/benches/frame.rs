//! How fast lines come in through a Unix socket pair, for several sizes of the read buffer.
//!
//! What it is compared with keeps its buffer of 16 KiB for good, counts nothing and can be neither
//! closed nor timed: the least that reading lines can cost. All variants take turns, so that what
//! happens on the machine meanwhile happens to all of them; the median counts.
//! `BENCH_LINES=1000000` and `BENCH_ROUNDS=7` ask for other amounts.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::time::Duration;

use bytes::BytesMut;
use crawlwire_transport::{Budget, Connection, ConnectionId, Limits, Line, LineCodec, Peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::Instant;

/// An ordinary message.
const LINE_BYTES: usize = 300;

/// Lines per write of the sender: one at a time, and as much as a writer joins.
const PER_WRITE: [usize; 3] = [1, 16, 200];

#[derive(Clone, Copy)]
enum Variant {
    /// The codec over a buffer that is kept.
    Kept,
    /// A connection with this read buffer; counted against a budget or not.
    Connection { read_bytes: usize, counted: bool },
}

const VARIANTS: [(&str, Variant); 5] = [
    ("codec, 16 KiB kept", Variant::Kept),
    ("connection, 4 KiB", connection(4, false)),
    ("connection, 16 KiB", connection(16, false)),
    ("connection, 64 KiB", connection(64, false)),
    ("connection, 16 KiB, counted", connection(16, true)),
];

const fn connection(kib: usize, counted: bool) -> Variant {
    Variant::Connection {
        read_bytes: kib * 1024,
        counted,
    }
}

fn main() {
    let lines = amount("BENCH_LINES", 300_000);
    let rounds = amount("BENCH_ROUNDS", 5);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    for per_write in PER_WRITE {
        let mut times = vec![Vec::new(); VARIANTS.len()];
        for _ in 0..rounds {
            for (n, (_, variant)) in VARIANTS.iter().enumerate() {
                times[n].push(runtime.block_on(run(*variant, lines, per_write)));
            }
        }
        println!("{per_write} lines of {LINE_BYTES} bytes per write, {lines} lines, median of {rounds}:");
        let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
        for ((name, _), median) in VARIANTS.iter().zip(&medians) {
            let per_second = lines as f64 / median;
            println!(
                "  {name:<28} {:>6.2} M lines/s {:>7.0} MB/s   x {:.2}",
                per_second / 1e6,
                per_second * LINE_BYTES as f64 / 1e6,
                medians[0] / median,
            );
        }
    }
}

fn amount(name: &str, default: usize) -> usize {
    let given = std::env::var(name).ok().and_then(|given| given.parse().ok());
    given.unwrap_or(default)
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

/// Sends the lines and receives them all: how long that took.
async fn run(variant: Variant, lines: usize, per_write: usize) -> Duration {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let mut chunk = vec![b'x'; LINE_BYTES * per_write];
    chunk
        .iter_mut()
        .skip(LINE_BYTES - 1)
        .step_by(LINE_BYTES)
        .for_each(|b| *b = b'\n');
    let started = Instant::now();
    let sender = tokio::spawn(async move {
        for _ in 0..lines / per_write {
            theirs.write_all(&chunk).await.expect("taken");
        }
    });
    let receiver = tokio::spawn(async move {
        match variant {
            Variant::Kept => kept(ours).await,
            Variant::Connection { read_bytes, counted } => received(ours, read_bytes, counted).await,
        }
    });
    let got = receiver.await.expect("no panic");
    sender.await.expect("no panic");
    assert_eq!(got, lines / per_write * per_write);
    started.elapsed()
}

async fn kept(mut stream: UnixStream) -> usize {
    let (mut codec, mut buffer, mut got) = (LineCodec::new(1024 * 1024), BytesMut::new(), 0);
    loop {
        while codec.next_line(&mut buffer).is_some() {
            got += 1;
        }
        buffer.reserve(16 * 1024);
        if stream.read_buf(&mut buffer).await.expect("read") == 0 {
            return got;
        }
    }
}

async fn received(stream: UnixStream, read_buffer_bytes: usize, counted: bool) -> usize {
    let budget = if counted {
        Budget::new(64 * 1024 * 1024, 64 * 1024 * 1024)
    } else {
        Budget::default()
    };
    let limits = Limits {
        read_buffer_bytes,
        budget,
        ..Limits::default()
    };
    let mut connection = Connection::open(stream, Peer::Memory, ConnectionId(1), limits);
    let mut got = 0;
    while let Ok((Line::Complete(_), _in_flight)) = connection.reader.recv_counted().await {
        got += 1;
    }
    got
}
