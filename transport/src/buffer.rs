//! The buffer a connection reads into: large while bytes flow, nothing while they do not.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// The first read after a silence goes to the stack, up to this many bytes, and only what came is
/// kept: a dozen ordinary messages. When that is filled more is waiting, and the next reads use the
/// full size. Small enough for any stack, since it exists only while a read is tried.
const PROBE_BYTES: usize = 4096;

#[derive(Debug)]
pub(crate) struct InputBuffer {
    pub(crate) bytes: BytesMut,
    /// Bytes asked for per read while bytes flow.
    read_bytes: usize,
    /// The last read filled what it was given, or nearly: more is probably waiting.
    flowing: bool,
}

impl InputBuffer {
    pub(crate) fn new(read_bytes: usize) -> Self {
        Self {
            bytes: BytesMut::new(),
            read_bytes: read_bytes.max(1),
            flowing: false,
        }
    }

    /// Reads once: how many bytes came, 0 at the end. While it is pending nothing is held but a
    /// line that has been begun.
    pub(crate) fn poll_fill(
        &mut self,
        stream: Pin<&mut impl AsyncRead>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.bytes.is_empty() && !self.flowing {
            return self.poll_probe(stream, cx);
        }
        self.bytes.reserve(self.read_bytes);
        let mut stream = stream;
        let read = pin!(stream.read_buf(&mut self.bytes)).poll(cx);
        match &read {
            Poll::Ready(Ok(bytes)) => self.flowing = *bytes >= PROBE_BYTES.min(self.read_bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                self.flowing = false;
                if self.bytes.is_empty() {
                    self.bytes = BytesMut::new();
                }
            }
        }
        read
    }

    fn poll_probe(&mut self, stream: Pin<&mut impl AsyncRead>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let size = PROBE_BYTES.min(self.read_bytes);
        let mut space = [const { MaybeUninit::uninit() }; PROBE_BYTES];
        let mut probe = ReadBuf::uninit(&mut space[..size]);
        // The buffer is empty, but may still be a large one that is shared with lines handed out.
        self.bytes = BytesMut::new();
        ready!(stream.poll_read(cx, &mut probe))?;
        let read = probe.filled();
        self.bytes.extend_from_slice(read);
        self.flowing = read.len() == size;
        Poll::Ready(Ok(read.len()))
    }
}
