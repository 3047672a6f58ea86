//! One stream type over all kinds of socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

use crate::endpoint::Endpoint;
use crate::keepalive::{Keepalive, prepare};
use crate::tls::TlsClient;

/// A connected socket of any kind.
#[derive(Debug)]
pub enum Stream {
    /// A Unix domain socket.
    Unix(UnixStream),
    /// A TCP socket, with Nagle's algorithm off and [`Keepalive`] on.
    Tcp(TcpStream),
    /// The same with TLS, either side. Apart, so that other streams stay small.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Connects to an endpoint. A TCP name is tried at each of its addresses in turn.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// A dropped call closes what it had opened.
    pub async fn connect(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Unix(path) => Ok(Self::Unix(UnixStream::connect(path).await?)),
            Endpoint::Tcp { host, port } => Ok(Self::Tcp(connect_tcp(host, *port).await?)),
        }
    }

    /// Connects with TLS. The server's certificate must hold the endpoint's host, or the name that
    /// `tls` expects. The whole handshake is done when this returns; give it a time limit.
    ///
    /// # Errors
    /// What the system says, or why the handshake failed. A Unix socket has no TLS
    /// ([`io::ErrorKind::Unsupported`]).
    ///
    /// # Cancel safety
    /// A dropped call closes what it had opened.
    pub async fn connect_tls(endpoint: &Endpoint, tls: &TlsClient) -> io::Result<Self> {
        let Endpoint::Tcp { host, port } = endpoint else {
            let message = "TLS is for TCP; a Unix socket does not leave the machine";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        };
        let stream = connect_tcp(host, *port).await?;
        Ok(Self::Tls(Box::new(tls.connect(stream, host).await?)))
    }
}

async fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    prepare(&stream, Some(Keepalive::default()))?;
    Ok(stream)
}

macro_rules! forward {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Stream::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Stream::Tls(stream) => {
                let $stream = Pin::new(&mut **stream);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        forward!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        forward!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, stream => stream.poll_shutdown(cx))
    }
}
