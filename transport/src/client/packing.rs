//! Lines made smaller, where both sides can (feature `zstd`).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crawlwire_protocol::message::{Compressed, ZSTD};
use crawlwire_protocol::{Count, CrawlerMessage, Marks, Name};

use super::words;
use crate::compress::{Packer, Unpacker};

/// The packer and the unpacker of one connection.
#[derive(Default)]
pub(super) struct Packing {
    packer: Packer,
    unpacker: Unpacker,
}

impl fmt::Debug for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Packing")
    }
}

impl Packing {
    /// The line, packed, if that makes it smaller. With its newline in and out.
    pub(super) fn pack(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        let plain = line.strip_suffix(b"\n").unwrap_or(line);
        let frame = self.packer.pack(plain)?;
        let message = CrawlerMessage::Compressed(Compressed {
            encoding: Name::cut(ZSTD),
            size: Count::try_from(plain.len() as u64).ok()?,
            frame: STANDARD.encode(frame),
        });
        let packed = words::line(None, Marks::default(), message)?;
        (packed.len() < line.len()).then_some(packed)
    }

    /// The plain line of a packed one, of at most `max` bytes. What cannot be unpacked is logged.
    pub(super) fn unpack(&mut self, packed: &Compressed, max: usize) -> Option<Vec<u8>> {
        if packed.encoding.as_str() != ZSTD {
            return None;
        }
        let size = usize::try_from(packed.size.get()).ok()?;
        let frame = STANDARD.decode(&packed.frame).ok()?;
        self.unpacker
            .unpack(&frame, size, max)
            .inspect_err(|error| tracing::warn!(%error, "a packed line cannot be unpacked"))
            .ok()
    }
}
