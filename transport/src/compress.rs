//! Single lines as zstd frames: packed when that pays, unpacked without trusting the sender.
//!
//! Only bytes are here. How a frame is wrapped into a line, and who may send one, is for whoever
//! knows the protocol.

use std::fmt;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{find_frame_compressed_size, get_frame_content_size};

/// Lines below this are not packed. A message of 300 bytes loses a fifth by packing, and three
/// times that is where it begins to pay for the text around the frame.
pub const THRESHOLD_DEFAULT: usize = 1024;

/// zstd's fastest ordinary level. Lists of names, which long lines are, shrink nearly as well as on
/// higher ones, with tables of a quarter of the size.
const LEVEL: i32 = 1;

/// Packs lines, reusing its tables: one per connection. They are made with the first line that is
/// long enough, and take up to about half a MiB.
#[derive(Default)]
pub struct Packer {
    threshold: Option<usize>,
    context: Option<Compressor<'static>>,
}

impl Packer {
    /// One that packs lines of at least `threshold` bytes; the default is [`THRESHOLD_DEFAULT`].
    pub fn new(threshold: usize) -> Self {
        Self {
            threshold: Some(threshold),
            context: None,
        }
    }

    /// The line as one zstd frame that says its size; `None` if the line is below the threshold or
    /// would not become smaller.
    pub fn pack(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        if line.len() < self.threshold.unwrap_or(THRESHOLD_DEFAULT) {
            return None;
        }
        let context = match &mut self.context {
            Some(context) => context,
            none => none.insert(Compressor::new(LEVEL).ok()?),
        };
        // Without memory for it the line goes as it is.
        let frame = context.compress(line).ok()?;
        (frame.len() < line.len()).then_some(frame)
    }
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

/// Why a frame is not taken. Nothing of it has been handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// The size it is said to have is above the limit: not even looked at.
    #[error("the line would have {size} bytes and may have at most {max}")]
    TooLarge {
        /// The size announced.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// It holds more or less than it is said to.
    #[error("the frame does not hold the {announced} bytes announced")]
    WrongSize {
        /// The size announced.
        announced: usize,
    },
    /// It is not one whole zstd frame and nothing else.
    #[error("not one whole zstd frame")]
    NotAFrame,
    /// It looks like a frame and cannot be unpacked.
    #[error("the frame is damaged")]
    Damaged,
    /// There is no memory for unpacking.
    #[error("no memory to unpack a frame")]
    OutOfMemory,
}

impl UnpackError {
    /// The stable name, in snake case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::WrongSize { .. } => "wrong_size",
            Self::NotAFrame => "not_a_frame",
            Self::Damaged => "damaged",
            Self::OutOfMemory => "out_of_memory",
        }
    }
}

/// Unpacks frames, reusing its tables: one per connection. They are made with the first frame and
/// take some 160 KiB.
#[derive(Default)]
pub struct Unpacker {
    context: Option<Decompressor<'static>>,
}

impl Unpacker {
    /// One that has nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The line in `frame`, which must have exactly `size` bytes, at most `max`.
    ///
    /// Never takes more memory than `size`, whatever the frame would expand to: it is unpacked in
    /// one step into a buffer of that size, which is its window too, so a window of any size that
    /// the frame asks for is never made.
    ///
    /// # Errors
    /// [`UnpackError`]
    pub fn unpack(&mut self, frame: &[u8], size: usize, max: usize) -> Result<Vec<u8>, UnpackError> {
        if size > max {
            return Err(UnpackError::TooLarge { size, max });
        }
        // The library would unpack several frames in a row, and skip those that are marked so.
        if find_frame_compressed_size(frame) != Ok(frame.len()) {
            return Err(UnpackError::NotAFrame);
        }
        let wrong_size = UnpackError::WrongSize { announced: size };
        match get_frame_content_size(frame) {
            Err(_) => return Err(UnpackError::NotAFrame),
            Ok(Some(holds)) if holds != size as u64 => return Err(wrong_size),
            Ok(_) => {}
        }
        let context = match &mut self.context {
            Some(context) => context,
            none => none.insert(Decompressor::new().map_err(|_| UnpackError::OutOfMemory)?),
        };
        let mut line = Vec::new();
        line.try_reserve_exact(size).map_err(|_| UnpackError::OutOfMemory)?;
        // A frame that says nothing of its size and holds more fails here like a damaged one.
        let unpacked = context.decompress_to_buffer(frame, &mut line);
        unpacked.map_err(|_| UnpackError::Damaged)?;
        if line.len() == size { Ok(line) } else { Err(wrong_size) }
    }
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_as_small_as_documented() {
        let mut packer = Packer::default();
        let line: Vec<u8> = (0..1 << 20)
            .map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 27) as u8)
            .collect();
        let frame = packer.pack(&line).expect("smaller");
        let packing = packer.context.as_mut().expect("made").context_mut().sizeof();
        assert!(packing < 600 * 1024, "{packing}");
        let mut unpacker = Unpacker::new();
        assert_eq!(unpacker.unpack(&frame, line.len(), line.len()), Ok(line));
    }
}
