//! Where the ends of the test kit listen: a Unix socket in a folder of its own, a free port, or memory.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;

use crate::client::{BoxedStream, Connector, Dialling};
use crate::{Endpoint, Stream};

/// Bytes that a pipe in memory takes and its reader has not read, like a socket's own buffer.
const PIPE_BYTES: usize = 64 * 1024;

/// Something that listens.
#[derive(Debug)]
pub(super) struct Bound {
    endpoint: Endpoint,
    source: Source,
    /// The socket lies in it.
    _folder: Option<TempDir>,
}

#[derive(Debug)]
enum Source {
    Unix(UnixListener),
    Tcp(TcpListener),
    Memory(mpsc::Receiver<Dialled>),
}

/// A stream on its way from a dial to the server.
pub(super) struct Dialled(BoxedStream);

impl fmt::Debug for Dialled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialled")
    }
}

impl Bound {
    pub(super) fn unix() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("crawler.sock");
        let listener = UnixListener::bind(&path).expect("the socket can be bound");
        Self {
            endpoint: Endpoint::Unix(path),
            source: Source::Unix(listener),
            _folder: Some(folder),
        }
    }

    pub(super) async fn tcp() -> Self {
        let host = "127.0.0.1".to_owned();
        Self::at(&Endpoint::Tcp { host, port: 0 }).await
    }

    pub(super) async fn at(endpoint: &Endpoint) -> Self {
        let (source, endpoint) = match endpoint {
            Endpoint::Unix(path) => {
                let listener = UnixListener::bind(path).expect("the socket can be bound");
                (Source::Unix(listener), endpoint.clone())
            }
            Endpoint::Tcp { host, port } => {
                let bound = TcpListener::bind((host.as_str(), *port)).await;
                let listener = bound.expect("the port can be bound");
                let port = listener.local_addr().expect("a bound port").port();
                let host = host.clone();
                (Source::Tcp(listener), Endpoint::Tcp { host, port })
            }
        };
        Self {
            endpoint,
            source,
            _folder: None,
        }
    }

    pub(super) fn memory(streams: mpsc::Receiver<Dialled>) -> Self {
        Self {
            endpoint: Endpoint::Unix("memory.sock".into()),
            source: Source::Memory(streams),
            _folder: None,
        }
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    /// The next stream. Cancel safe.
    pub(super) async fn accept(&mut self) -> BoxedStream {
        match &mut self.source {
            Source::Unix(listener) => {
                let (stream, _) = listener.accept().await.expect("the listener stands");
                Box::new(Stream::Unix(stream))
            }
            Source::Tcp(listener) => {
                let (stream, _) = listener.accept().await.expect("the listener stands");
                stream.set_nodelay(true).expect("a fresh socket");
                Box::new(Stream::Tcp(stream))
            }
            Source::Memory(streams) => match streams.recv().await {
                Some(Dialled(stream)) => stream,
                None => std::future::pending().await,
            },
        }
    }
}

/// Dials a [`ScriptedServer`](super::ScriptedServer) in memory. Without real sockets a test may pause the clock.
#[derive(Debug, Clone)]
pub struct MemoryConnector {
    pub(super) to: mpsc::Sender<Dialled>,
    /// While true, dialling fails.
    pub(super) is_down: Arc<AtomicBool>,
}

impl MemoryConnector {
    /// From now on dialling fails, or does not any more.
    pub fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::Relaxed);
    }
}

impl Connector for MemoryConnector {
    fn dial<'a>(&'a self, _: &'a Endpoint) -> Dialling<'a> {
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            if self.is_down.load(Ordering::Relaxed) {
                return Err(refused());
            }
            let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
            let sent = self.to.send(Dialled(Box::new(theirs))).await;
            sent.map_err(|_| refused())?;
            Ok(Box::new(ours) as BoxedStream)
        })
    }

    fn is_private(&self, _: &Endpoint) -> bool {
        true
    }
}
