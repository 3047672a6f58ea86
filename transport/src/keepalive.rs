//! Noticing that the other end of a TCP connection is gone although nobody said so.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// The system's probes of a silent TCP connection (TCP_KEEPALIVE). A host that lost its power or
/// its network says no goodbye: without probes its connection stands for ever. When they are not
/// answered, or data is not acknowledged for as long (TCP_USER_TIMEOUT, on Linux), the connection
/// is closed as [`CloseReason::KeepaliveTimeout`](crate::CloseReason::KeepaliveTimeout).
///
/// Probes are answered by the peer's system: a process that hangs is noticed by asking it, which
/// is the matter of the layer above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe. Default 30 s, the interval of heartbeats: while those come
    /// there is no probe at all. In whole seconds, at least one.
    pub idle: Duration,
    /// Between probes. Default 10 s. In whole seconds, at least one.
    pub interval: Duration,
    /// Probes without an answer. Default 3, so that a minute of silence is the end. At least 1.
    pub retries: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(30),
            interval: Duration::from_secs(10),
            retries: 3,
        }
    }
}

impl Keepalive {
    /// When a peer that vanished during silence is given up, at the latest.
    pub fn gives_up_after(self) -> Duration {
        self.idle.saturating_add(self.interval.saturating_mul(self.retries))
    }

    pub(crate) fn apply(self, stream: &TcpStream) -> io::Result<()> {
        let socket = SockRef::from(stream);
        let second = Duration::from_secs(1);
        let probes = TcpKeepalive::new()
            .with_time(self.idle.max(second))
            .with_interval(self.interval.max(second))
            .with_retries(self.retries.max(1));
        socket.set_tcp_keepalive(&probes)?;
        // Without it, unacknowledged data is sent again for some 15 minutes, and no probe is.
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(self.gives_up_after().max(second)))?;
        Ok(())
    }
}

/// What every TCP socket of ours gets, on either side.
pub(crate) fn prepare(stream: &TcpStream, keepalive: Option<Keepalive>) -> io::Result<()> {
    // Messages are joined before they are written; waiting for more only adds delay.
    stream.set_nodelay(true)?;
    keepalive.map_or(Ok(()), |keepalive| keepalive.apply(stream))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_system_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let stream = TcpStream::connect(address).await.expect("connected");
        let keepalive = Keepalive {
            idle: Duration::from_secs(7),
            interval: Duration::from_millis(10),
            retries: 4,
        };
        prepare(&stream, Some(keepalive)).expect("set");
        assert!(stream.nodelay().expect("known"));
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().expect("known"));
        assert_eq!(socket.tcp_keepalive_time().expect("known"), keepalive.idle);
        let interval = socket.tcp_keepalive_interval().expect("known");
        assert_eq!(interval, Duration::from_secs(1), "not below what the system takes");
        assert_eq!(socket.tcp_keepalive_retries().expect("known"), 4);
        #[cfg(target_os = "linux")]
        assert_eq!(
            socket.tcp_user_timeout().expect("known"),
            Some(keepalive.gives_up_after())
        );

        let other = TcpStream::connect(address).await.expect("connected");
        prepare(&other, None).expect("set");
        assert!(!SockRef::from(&other).keepalive().expect("known"));
    }
}
