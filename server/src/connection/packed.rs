//! Lines in compressed form, both ways, where both sides agreed on it: a form of a line, and no message of its own.

use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crawlwire_protocol::message::{Compressed, ZSTD};
use crawlwire_protocol::{Count, CrawlerMessage, Decoded, Envelope, Name, WebAppMessage, encode};
use crawlwire_transport::compress::{Packer, Unpacker};

/// Packers and unpackers kept when nobody needs them: as many as threads that could use them at once on most machines.
/// Each has up to half a MiB of tables, so connections share them.
const SPARE_MAX: usize = 8;

/// What all connections use to compress and expand lines.
#[derive(Debug, Default)]
pub(crate) struct Packing {
    packers: Spare<Packer>,
    unpackers: Spare<Unpacker>,
}

/// Things that are made when needed and used again. Locked for taking and giving back only.
#[derive(Debug, Default)]
struct Spare<T>(Mutex<Vec<T>>);

impl<T: Default> Spare<T> {
    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut one = taken.unwrap_or_default();
        let result = work(&mut one);
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_MAX {
            spare.push(one);
        }
        result
    }
}

impl Packing {
    /// The line in compressed form, as a line; none where that would not be shorter.
    pub(super) fn pack(&self, line: &[u8]) -> Option<Bytes> {
        let plain = line.strip_suffix(b"\n").unwrap_or(line);
        let frame = self.packers.with(|packer| packer.pack(plain))?;
        let packed = Compressed {
            encoding: Name::cut(ZSTD),
            size: Count::try_from(plain.len() as u64).ok()?,
            frame: STANDARD.encode(frame),
        };
        let packed = encode(&Envelope::now(WebAppMessage::Compressed(packed))).ok()?;
        (packed.len() < line.len()).then(|| packed.into())
    }

    /// The line that is in it.
    ///
    /// # Errors
    /// Why there is none, for the peer.
    pub(super) fn unpack(&self, packed: &Compressed, bytes_max: usize) -> Result<Bytes, String> {
        if packed.encoding.as_str() != ZSTD {
            return Err("another encoding than zstd was not agreed on".to_owned());
        }
        let frame = STANDARD.decode(&packed.frame).map_err(|_| "the frame is not base64")?;
        let size = usize::try_from(packed.size.get()).unwrap_or(usize::MAX);
        let unpacked = self.unpackers.with(|unpacker| unpacker.unpack(&frame, size, bytes_max));
        unpacked.map(Bytes::from).map_err(|error| error.to_string())
    }
}

/// What a line holds in compressed form, if that is what it is.
pub(super) fn held_by(message: &Decoded<CrawlerMessage>) -> Option<&Compressed> {
    match message {
        Decoded::Known(Envelope {
            message: CrawlerMessage::Compressed(packed),
            ..
        }) => Some(packed),
        _ => None,
    }
}
