//! One connection to the server: lines in, lines out.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::connector::BoxedStream;
use crate::codec::{Line, LineCodec};

/// How much is put into the buffer at once: enough for full writes, little to throw away when the connection breaks.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// Bytes asked of the stream per read.
const READ_BYTES: usize = 16 * 1024;

/// An open connection.
pub(super) struct Link {
    reader: ReadHalf<BoxedStream>,
    writer: WriteHalf<BoxedStream>,
    codec: LineCodec,
    input: BytesMut,
    output: Output,
}

/// Whole lines on their way out.
#[derive(Debug, Default)]
pub(super) struct Output {
    buffer: Vec<u8>,
    /// Bytes at the front of the buffer that are written.
    written: usize,
    /// Bytes written before those in the buffer.
    written_before: u64,
    /// What was written has been flushed.
    flushed: bool,
}

/// What happened on a connection.
#[derive(Debug)]
pub(super) enum Turn {
    /// The server said something.
    Heard(Bytes),
    /// Something was written, or a line was too long to be looked at.
    Moved,
    /// The connection is gone.
    Lost(String),
}

impl Output {
    /// Adds a whole line, and says where in the stream of all bytes it ends.
    pub(super) fn push(&mut self, line: &[u8]) -> u64 {
        self.buffer.extend_from_slice(line);
        self.flushed = false;
        self.written_before + self.buffer.len() as u64
    }

    /// Whether no more should be added now.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() - self.written >= BUFFER_BYTES
    }

    /// Whether everything is written and flushed.
    pub(super) fn is_idle(&self) -> bool {
        self.buffer.is_empty() && self.flushed
    }

    /// How many bytes of all that was ever added are written.
    pub(super) fn written(&self) -> u64 {
        self.written_before + self.written as u64
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.written..]
    }

    fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written == self.buffer.len() {
            self.written_before += self.written as u64;
            self.buffer.clear();
            // One huge line does not make the connection expensive for good.
            self.buffer.shrink_to(BUFFER_BYTES);
            self.written = 0;
        }
    }
}

impl Link {
    pub(super) fn new(stream: BoxedStream, max_line_bytes: usize) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            reader,
            writer,
            codec: LineCodec::new(max_line_bytes),
            input: BytesMut::new(),
            output: Output {
                flushed: true,
                ..Output::default()
            },
        }
    }

    pub(super) fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Reads a line or writes what is to be written, whichever is possible first.
    ///
    /// Cancel safe: a line half read or half written is gone on with by the next call.
    pub(super) async fn turn(&mut self) -> Turn {
        loop {
            match self.codec.next_line(&mut self.input) {
                Some(Line::Complete(line)) => return Turn::Heard(line),
                Some(Line::TooLong { .. } | Line::Unfinished { .. }) => return Turn::Moved,
                None => {}
            }
            self.input.reserve(READ_BYTES);
            tokio::select! {
                // In an order, so that a simulation takes the same course again. What is to be written is bounded, so it
                // cannot keep us from reading.
                biased;
                wrote = write(&mut self.writer, &self.output), if !self.output.is_idle() => match wrote {
                    Ok(bytes) => {
                        self.output.wrote(bytes);
                        self.output.flushed = bytes == 0;
                        return Turn::Moved;
                    }
                    Err(error) => return Turn::Lost(error.to_string()),
                },
                read = self.reader.read_buf(&mut self.input) => match read {
                    Ok(0) => return Turn::Lost("the server closed it".to_owned()),
                    Ok(_) => {}
                    Err(error) => return Turn::Lost(error.to_string()),
                },
            }
        }
    }

    /// Says that nothing more will come, so that the server reads to the end.
    pub(super) async fn end(&mut self) {
        // It may be gone already.
        let _ = self.writer.shutdown().await;
    }
}

/// Writes some of what waits, or flushes when nothing does: a stream such as TLS holds back until told. 0 is a flush.
async fn write(writer: &mut WriteHalf<BoxedStream>, output: &Output) -> io::Result<usize> {
    if output.rest().is_empty() {
        writer.flush().await?;
        return Ok(0);
    }
    match writer.write(output.rest()).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        bytes => Ok(bytes),
    }
}
