//! Dialling: an endpoint to a stream, and nothing else.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Endpoint, Stream, TlsClient};

/// A stream of any kind.
pub trait AnyStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> AnyStream for S {}

/// A dialled stream.
pub type BoxedStream = Box<dyn AnyStream>;

/// What [`Connector::dial`] returns.
pub type Dialling<'a> = Pin<Box<dyn Future<Output = io::Result<BoxedStream>> + Send + 'a>>;

/// How a client reaches its server. The default dials sockets; a simulation or a test plugs in streams of its own.
pub trait Connector: fmt::Debug + Send + Sync + 'static {
    /// Dials once. The client bounds the time, and drops what it no longer waits for.
    fn dial<'a>(&'a self, endpoint: &'a Endpoint) -> Dialling<'a>;

    /// Whether what is sent to this endpoint can be read by the two ends only. A token is sent to no other.
    fn is_private(&self, endpoint: &Endpoint) -> bool;
}

/// Sockets: Unix ones plain, TCP ones with TLS if that is set up.
#[derive(Debug, Clone, Default)]
pub struct SocketConnector {
    tls: Option<TlsClient>,
}

impl SocketConnector {
    /// Dials TCP with TLS.
    pub fn with_tls(tls: TlsClient) -> Self {
        Self { tls: Some(tls) }
    }
}

impl Connector for SocketConnector {
    fn dial<'a>(&'a self, endpoint: &'a Endpoint) -> Dialling<'a> {
        Box::pin(async move {
            let stream = match (&self.tls, endpoint) {
                (Some(tls), Endpoint::Tcp { .. }) => Stream::connect_tls(endpoint, tls).await?,
                _ => Stream::connect(endpoint).await?,
            };
            Ok(Box::new(stream) as BoxedStream)
        })
    }

    fn is_private(&self, endpoint: &Endpoint) -> bool {
        self.tls.is_some() || matches!(endpoint, Endpoint::Unix(_))
    }
}
