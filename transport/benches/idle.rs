//! What an idle connection costs in memory, on the server's side only: the clients are a child
//! process, this same program.
//!
//! Measured is what the process has in memory more, per connection, when all are idle: before
//! anything was said, after each in its turn has sent a burst of lines and was answered, and after
//! all did so at once. The last is what the allocator did not give back to the system after the
//! peak, not what the connections hold. Included are the tasks and the pool, not the kernel's
//! socket buffers. `BENCH_CONNECTIONS=5000` asks for
//! another number; the limit of open files must allow it.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use crawlwire_transport::{
    Budget, Connection, ConnectionHandle, Endpoint, Limits, Line, LineReader, ListenOptions, Listener, Pool, Stream,
    TlsClient, TlsServer,
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Lines of a burst, each of 300 bytes.
const BURST: usize = 200;
const LINE_BYTES: usize = 300;

const PATIENCE: Duration = Duration::from_secs(10);

/// Set for a child that is the clients: the endpoint it connects to, and the certificate it trusts.
const CLIENTS: &str = "CRAWLWIRE_IDLE_CLIENTS";
const ROOTS: &str = "CRAWLWIRE_IDLE_ROOTS";

/// Set for a child that measures one kind: a process of its own, since memory that another kind has
/// given back would be used again and not be seen.
const KIND: &str = "CRAWLWIRE_IDLE_KIND";

const CONNECTIONS: &str = "BENCH_CONNECTIONS";

fn main() {
    let given = std::env::var(CONNECTIONS).ok().and_then(|given| given.parse().ok());
    let connections = given.unwrap_or(2000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    if let Ok(endpoint) = std::env::var(CLIENTS) {
        let endpoint = endpoint.parse().expect("an endpoint");
        runtime.block_on(clients(&endpoint, connections));
    } else if let Ok(kind) = std::env::var(KIND) {
        runtime.block_on(measure(&kind, connections));
    } else {
        for kind in ["unix", "tcp", "tls"] {
            let mut command = Command::new(std::env::current_exe().expect("this program"));
            let ended = command.env(KIND, kind).status().expect("started");
            assert!(ended.success(), "{kind}");
        }
    }
}

/// A certificate for this machine, in files.
fn tls(dir: &Path) -> TlsServer {
    let made = generate_simple_self_signed(["127.0.0.1".to_owned()]);
    let CertifiedKey { cert, signing_key } = made.expect("a certificate");
    let (certificate, key) = (dir.join("roots.pem"), dir.join("key.pem"));
    std::fs::write(&certificate, cert.pem()).expect("written");
    std::fs::write(&key, signing_key.serialize_pem()).expect("written");
    TlsServer::load(&certificate, &key, None).expect("loaded")
}

async fn measure(kind: &str, connections: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let endpoint = match kind {
        "unix" => Endpoint::Unix(dir.path().join("s")),
        _ => "tcp://127.0.0.1:0".parse().expect("an endpoint"),
    };
    let roots = (kind == "tls").then(|| dir.path().join("roots.pem"));
    let options = ListenOptions {
        tls: roots.as_ref().map(|_| tls(dir.path())),
        ..ListenOptions::default()
    };
    let listener = Listener::bind(&endpoint, &options).await.expect("bound");
    let pool = Pool::new(connections);
    let limits = Limits {
        budget: Budget::new(64 * 1024 * 1024, 64 * 1024 * 1024),
        ..Limits::default()
    };
    let before = resident();
    let mut child = child(&listener.local_addr(), connections, roots.as_deref());
    let (said, mut heard) = tokio::sync::mpsc::channel(1);
    for _ in 0..connections {
        let (stream, peer) = listener.accept().await;
        let permit = pool.reserve().expect("room");
        let connection = Connection::open(stream, peer, permit.id(), limits.clone());
        pool.add(permit, connection.handle.clone());
        tokio::spawn(connection.writer.run());
        tokio::spawn(serve(connection.handle, connection.reader, said.clone()));
    }
    settle().await;
    let fresh = per_connection(before, connections);
    for id in pool.infos().iter().map(|info| info.id) {
        pool.send(id, "go\n".into(), PATIENCE).await.expect("room");
        heard.recv().await.expect("a burst");
    }
    settle().await;
    let used = per_connection(before, connections);
    pool.broadcast("go\n".into(), PATIENCE).await;
    for _ in 0..connections {
        heard.recv().await.expect("each said its burst");
    }
    settle().await;
    let peak = per_connection(before, connections);
    println!(
        "{kind:<5} {connections} connections, bytes each: {fresh} when new, {used} after a burst in turn, \
         {peak} after all bursts at once"
    );
    child.kill().expect("ended");
    child.wait().expect("ended");
}

/// Answers each line, tells when a burst is complete.
async fn serve(handle: ConnectionHandle, mut reader: LineReader<Stream>, said: tokio::sync::mpsc::Sender<()>) {
    let mut lines = 0;
    while let Ok((Line::Complete(_), _in_flight)) = reader.recv_counted().await {
        handle.try_send("{\"type\":\"ack\"}\n".into()).expect("room");
        lines += 1;
        if lines % BURST == 0 {
            let _ = said.send(()).await;
        }
    }
}

fn child(endpoint: &Endpoint, connections: usize, roots: Option<&Path>) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.env(CLIENTS, endpoint.to_string());
    command.env(CONNECTIONS, connections.to_string());
    if let Some(roots) = roots {
        command.env(ROOTS, roots);
    }
    command.spawn().expect("started")
}

/// Connects so often, and on each waits for a line, sends a burst, reads the answers and stays.
async fn clients(endpoint: &Endpoint, connections: usize) {
    let tls = std::env::var_os(ROOTS).map(|roots| TlsClient::load(Path::new(&roots)).expect("loaded"));
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let connected = match &tls {
            None => Stream::connect(endpoint).await,
            Some(tls) => Stream::connect_tls(endpoint, tls).await,
        };
        let mut stream = connected.expect("connected");
        tasks.push(tokio::spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            let mut burst = vec![b'x'; BURST * LINE_BYTES];
            burst
                .iter_mut()
                .skip(LINE_BYTES - 1)
                .step_by(LINE_BYTES)
                .for_each(|b| *b = b'\n');
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                if buffer[..read].windows(3).any(|said| said == b"go\n") {
                    let _ = stream.write_all(&burst).await;
                }
            }
        }));
    }
    for task in tasks {
        let _ = task.await;
    }
}

/// Lets writers and readers come to rest.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(500)).await;
}

fn per_connection(before: usize, connections: usize) -> usize {
    resident().saturating_sub(before) / connections
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kib.expect("a number of kB") * 1024
}
