//! One connection to the server: lines in, lines out.

use std::io;
use std::path::Path;

use bytes::Bytes;
use crawlwire_protocol::limits::LINE_BYTES_MAX_DEFAULT;
use crawlwire_transport::{Line, LineCodec};
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::codec::FramedRead;

/// An open connection.
#[derive(Debug)]
pub(crate) struct Link {
    lines: FramedRead<OwnedReadHalf, LineCodec>,
    writer: OwnedWriteHalf,
    /// Whole lines, of which the first `written` bytes are on their way.
    buffer: Vec<u8>,
    written: usize,
}

/// What happened on a connection.
#[derive(Debug)]
pub(crate) enum Turn {
    /// The server said something.
    Heard(Bytes),
    /// Something was written, or a line was too long to be looked at.
    Moved,
    /// The connection is gone.
    Lost(String),
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub(crate) async fn open(socket: &Path) -> io::Result<Self> {
        let (reader, writer) = UnixStream::connect(socket).await?.into_split();
        Ok(Self {
            // An assignment is a few hundred bytes; the limit keeps a strange peer from filling our memory.
            lines: FramedRead::new(reader, LineCodec::new(LINE_BYTES_MAX_DEFAULT)),
            writer,
            buffer: Vec::new(),
            written: 0,
        })
    }

    /// Lines to be written are added at its end.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Whether everything is written.
    pub(crate) fn is_idle(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Reads a line or writes what is to be written, whichever is possible first.
    ///
    /// Cancel safe: a line half read or half written is gone on with by the next call.
    pub(crate) async fn turn(&mut self) -> Turn {
        tokio::select! {
            line = self.lines.next() => match line {
                Some(Ok(Line::Complete(line))) => Turn::Heard(line),
                Some(Ok(Line::TooLong { .. })) => Turn::Moved,
                Some(Ok(Line::Unfinished { .. })) | None => Turn::Lost("the server closed it".to_owned()),
                Some(Err(error)) => Turn::Lost(error.to_string()),
            },
            written = self.writer.write(&self.buffer[self.written..]), if !self.buffer.is_empty() => match written {
                Ok(count) => {
                    self.written += count;
                    if self.written == self.buffer.len() {
                        self.buffer.clear();
                        self.written = 0;
                    }
                    Turn::Moved
                }
                Err(error) => Turn::Lost(error.to_string()),
            },
        }
    }

    /// Says that nothing more will come, so that the server reads to the end.
    pub(crate) async fn close(mut self) {
        // It may be gone already.
        let _ = self.writer.shutdown().await;
    }
}
