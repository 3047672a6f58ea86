//! Bytes to lines.
//!
//! The wire is one message per line (system README, line 142). This module only cuts: what a line
//! says is decided elsewhere. A line that is too long is a fact about the stream and not an error
//! of it, so it is an item like any other and the stream goes on after the next newline.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;
use tokio_util::codec::Decoder;

/// A buffer that grew beyond this is given back once what remains fits in it. 64 KiB holds some two
/// hundred ordinary messages, so normal traffic never reallocates, while one huge line does not
/// make its connection expensive for good.
const KEEP_BYTES: usize = 64 * 1024;

/// What the codec cuts from the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A whole line, without its newline and without a carriage return before that. Never blank.
    /// It shares the read buffer's memory: copy what is kept for long.
    Complete(Bytes),
    /// A line longer than the limit. Reported once, as soon as it is known; its bytes up to and
    /// including the next newline are thrown away without being held.
    TooLong {
        /// The length at which it was given up: the limit plus one, however the bytes arrived.
        discarded_at_least: usize,
    },
    /// The stream ended inside a line. Not a message: the peer may have died while writing it.
    Unfinished {
        /// How many bytes of it had arrived.
        bytes: usize,
    },
}

/// What a codec has seen so far (connection management, lines 55 and 76).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CodecStats {
    /// Complete lines given out.
    pub lines: u64,
    /// Lines of nothing but white space, skipped.
    pub blank: u64,
    /// Lines above the limit.
    pub too_long: u64,
    /// Lines cut off by the end of the stream: 0 or 1.
    pub unfinished: u64,
    /// Bytes consumed, line endings and discarded ones included.
    pub bytes: u64,
    /// Bytes thrown away because their line was too long.
    pub discarded_bytes: u64,
    /// The most bytes the buffer held at once.
    pub peak_buffer_bytes: usize,
}

/// Cuts newline-delimited lines out of a growing buffer.
///
/// Only `\n` splits. One `\r` directly before it is dropped; any other `\r` is data. Lines of only
/// ASCII white space are skipped. A byte is searched for a newline once, however it arrives.
///
/// As a [`Decoder`] it never returns `Err`: `FramedRead` would end the stream on one.
#[derive(Debug)]
pub struct LineCodec {
    max_line_bytes: usize,
    /// Bytes at the front of the buffer known to hold no newline.
    scanned: usize,
    /// Inside a line already reported as too long.
    discarding: bool,
    /// The buffer went beyond `KEEP_BYTES` and has not been given back yet.
    grown: bool,
    /// Newlines consumed: lines of every kind that have ended.
    ended_lines: u64,
    stats: CodecStats,
}

impl LineCodec {
    /// A codec that accepts lines of up to `max_line_bytes` bytes, line ending not counted.
    pub fn new(max_line_bytes: usize) -> Self {
        Self {
            max_line_bytes,
            scanned: 0,
            discarding: false,
            grown: false,
            ended_lines: 0,
            stats: CodecStats::default(),
        }
    }

    /// What has been seen so far.
    pub fn stats(&self) -> CodecStats {
        self.stats
    }

    /// How many lines of any kind, blank and too long ones included, have ended with a newline.
    pub(crate) fn ended_lines(&self) -> u64 {
        self.ended_lines
    }

    /// Whether a line has been started and not ended, given the buffer that goes with this codec.
    /// Meaningful when [`LineCodec::next_line`] has just returned `None`.
    pub fn is_mid_line(&self, buffer: &BytesMut) -> bool {
        self.discarding || !buffer.is_empty()
    }

    /// The next item that is wholly in `buffer`, or `None` when more bytes are needed.
    pub fn next_line(&mut self, buffer: &mut BytesMut) -> Option<Line> {
        self.stats.peak_buffer_bytes = self.stats.peak_buffer_bytes.max(buffer.len());
        self.grown |= buffer.len() > KEEP_BYTES;
        let line = self.cut(buffer);
        if self.grown && buffer.len() <= KEEP_BYTES {
            // The allocation behind the buffer would otherwise be reused at its largest size.
            *buffer = BytesMut::from(&buffer[..]);
            self.grown = false;
        }
        line
    }

    /// What is left when the stream has ended: [`LineCodec::next_line`] until it is `None`, then
    /// once [`Line::Unfinished`] if a line was cut off that is neither blank nor reported already.
    pub fn end(&mut self, buffer: &mut BytesMut) -> Option<Line> {
        if let Some(line) = self.next_line(buffer) {
            return Some(line);
        }
        let rest = std::mem::take(buffer);
        self.scanned = 0;
        self.stats.bytes += rest.len() as u64;
        if rest.is_empty() {
            return None;
        }
        if rest.trim_ascii().is_empty() {
            self.stats.blank += 1;
            return None;
        }
        self.stats.unfinished += 1;
        Some(Line::Unfinished { bytes: rest.len() })
    }

    fn cut(&mut self, buffer: &mut BytesMut) -> Option<Line> {
        loop {
            let newline = memchr(b'\n', &buffer[self.scanned..]).map(|at| self.scanned + at);
            self.ended_lines += u64::from(newline.is_some());
            if self.discarding {
                let until = newline.map_or(buffer.len(), |at| at + 1);
                self.discard(buffer, until);
                self.discarding = newline.is_none();
                newline?;
                continue;
            }
            let Some(at) = newline else {
                self.scanned = buffer.len();
                return self.give_up_if_too_long(buffer);
            };
            let line = &buffer[..at];
            let length = line.strip_suffix(b"\r").map_or(at, <[u8]>::len);
            if length > self.max_line_bytes {
                self.discard(buffer, at + 1);
                return Some(self.too_long());
            }
            self.scanned = 0;
            self.stats.bytes += at as u64 + 1;
            if line.trim_ascii().is_empty() {
                self.stats.blank += 1;
                buffer.advance(at + 1);
                continue;
            }
            self.stats.lines += 1;
            let mut line = buffer.split_to(at + 1);
            line.truncate(length);
            return Some(Line::Complete(line.freeze()));
        }
    }

    /// The buffer holds no newline: is its line too long whatever comes?
    fn give_up_if_too_long(&mut self, buffer: &mut BytesMut) -> Option<Line> {
        let max = self.max_line_bytes;
        // One byte over may still be the carriage return of the line ending.
        let may_end = buffer.len() == max.saturating_add(1) && buffer.last() == Some(&b'\r');
        if buffer.len() <= max || may_end {
            return None;
        }
        self.discarding = true;
        self.discard(buffer, buffer.len());
        Some(self.too_long())
    }

    fn discard(&mut self, buffer: &mut BytesMut, bytes: usize) {
        self.stats.bytes += bytes as u64;
        self.stats.discarded_bytes += bytes as u64;
        self.scanned = 0;
        buffer.advance(bytes);
    }

    fn too_long(&mut self) -> Line {
        self.stats.too_long += 1;
        Line::TooLong {
            discarded_at_least: self.max_line_bytes.saturating_add(1),
        }
    }
}

impl Decoder for LineCodec {
    type Item = Line;
    type Error = io::Error;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Line>, io::Error> {
        Ok(self.next_line(src))
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Line>, io::Error> {
        Ok(self.end(src))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_searched_once() {
        let mut codec = LineCodec::new(1000);
        let mut buffer = BytesMut::new();
        for n in 1..=100 {
            buffer.extend_from_slice(b"x");
            assert_eq!(codec.next_line(&mut buffer), None);
            assert_eq!(codec.scanned, n);
        }
        buffer.extend_from_slice(b"\ny");
        assert!(matches!(codec.next_line(&mut buffer), Some(Line::Complete(l)) if l.len() == 100));
        assert_eq!(codec.scanned, 0, "what follows a line has not been searched");
        assert_eq!(codec.next_line(&mut buffer), None);
        assert_eq!(codec.scanned, 1);
    }

    #[test]
    fn the_buffer_shrinks_after_a_huge_line() {
        let mut codec = LineCodec::new(1 << 20);
        let mut buffer = BytesMut::new();
        buffer.extend_from_slice(&vec![b'x'; 1 << 20]);
        buffer.extend_from_slice(b"\nrest");
        let line = codec.next_line(&mut buffer);
        assert!(matches!(&line, Some(Line::Complete(l)) if l.len() == 1 << 20));
        drop(line);
        assert_eq!(&buffer[..], b"rest");
        // Asking for more must not bring the old allocation back.
        buffer.reserve(1024);
        assert!(buffer.capacity() <= KEEP_BYTES, "{}", buffer.capacity());
        assert_eq!(codec.stats().peak_buffer_bytes, (1 << 20) + 5);
    }

    #[test]
    fn a_line_that_is_too_long_is_not_held() {
        let mut codec = LineCodec::new(10);
        let mut buffer = BytesMut::from(&[b'x'; 11][..]);
        let too_long = Line::TooLong { discarded_at_least: 11 };
        assert_eq!(codec.next_line(&mut buffer), Some(too_long));
        for _ in 0..1000 {
            buffer.extend_from_slice(&[b'x'; 1000]);
            assert_eq!(codec.next_line(&mut buffer), None);
            assert!(buffer.is_empty());
            assert!(codec.is_mid_line(&buffer));
        }
        buffer.extend_from_slice(b"\nok\n");
        assert_eq!(codec.next_line(&mut buffer), Some(Line::Complete("ok".into())));
        assert!(!codec.is_mid_line(&buffer));
        let stats = codec.stats();
        assert_eq!((stats.too_long, stats.lines), (1, 1));
        assert_eq!(stats.discarded_bytes, 11 + 1_000_000 + 1);
        assert_eq!(stats.bytes, stats.discarded_bytes + 3);
    }
}
