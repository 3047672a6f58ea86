//! Packed lines: what comes back, and what a hostile sender cannot do.

use std::io::Write;

use crawlwire_transport::compress::{Packer, THRESHOLD_DEFAULT, UnpackError, Unpacker};
use proptest::prelude::*;
use zstd::stream::Encoder;

const MAX: usize = 1024 * 1024;

fn text(bytes: usize) -> Vec<u8> {
    b"{\"type\":\"jobs_discovered\",\"name\":\"group/project\"},"
        .iter()
        .copied()
        .cycle()
        .take(bytes)
        .collect()
}

/// A frame that does not say what it holds, as a stream encoder makes it.
fn silent_frame(line: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), 1).expect("an encoder");
    encoder.write_all(line).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn long_lines_come_back_and_short_or_dense_ones_stay() {
    let mut packer = Packer::default();
    let mut unpacker = Unpacker::new();
    assert_eq!(packer.pack(&text(THRESHOLD_DEFAULT - 1)), None);
    for bytes in [THRESHOLD_DEFAULT, 5000, MAX, 2000] {
        let line = text(bytes);
        let frame = packer.pack(&line).expect("worth it");
        assert!(frame.len() < bytes / 4);
        assert_eq!(unpacker.unpack(&frame, bytes, MAX), Ok(line));
    }
    let mut state = 1_u64;
    let dense = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    let dense: Vec<u8> = dense.take(5000).collect();
    assert_eq!(packer.pack(&dense), None);
    assert!(Packer::new(10).pack(&[b'x'; 100]).is_some());
    assert!(Packer::new(101).pack(&[b'x'; 100]).is_none());
}

#[test]
fn bombs_are_refused() {
    let mut unpacker = Unpacker::new();
    // 1 GiB of nothing in some 30 KiB, made without holding it.
    let mut encoder = Encoder::new(Vec::new(), 1).expect("an encoder");
    for _ in 0..1024 {
        encoder.write_all(&[0; MAX]).expect("memory");
    }
    let silent = encoder.finish().expect("memory");
    assert!(silent.len() < MAX / 4);
    assert_eq!(unpacker.unpack(&silent, MAX, MAX), Err(UnpackError::Damaged));
    // One that owns up to its size, and one that lies about it.
    let honest = zstd::bulk::compress(&vec![0; MAX * 2], 1).expect("packed");
    let size = MAX * 2;
    assert_eq!(
        unpacker.unpack(&honest, size, MAX),
        Err(UnpackError::TooLarge { size, max: MAX })
    );
    assert_eq!(
        unpacker.unpack(&honest, MAX, MAX),
        Err(UnpackError::WrongSize { announced: MAX })
    );
    let huge = usize::MAX;
    assert_eq!(
        unpacker.unpack(&honest, huge, MAX),
        Err(UnpackError::TooLarge { size: huge, max: MAX })
    );
    // It still works afterwards.
    let line = text(3000);
    assert_eq!(unpacker.unpack(&silent_frame(&line), 3000, MAX), Ok(line));
}

#[test]
fn sizes_must_be_right() {
    let mut unpacker = Unpacker::new();
    let line = text(3000);
    for frame in [silent_frame(&line), Packer::default().pack(&line).expect("worth it")] {
        for size in [0, 1, 2999, 3001, MAX] {
            assert!(unpacker.unpack(&frame, size, MAX).is_err(), "{size}");
        }
        assert_eq!(unpacker.unpack(&frame, 3000, 3000).as_ref(), Ok(&line));
        let too_large = UnpackError::TooLarge { size: 3000, max: 2999 };
        assert_eq!(unpacker.unpack(&frame, 3000, 2999), Err(too_large));
    }
    let announced = 3001;
    assert_eq!(
        unpacker.unpack(&silent_frame(&line), announced, MAX),
        Err(UnpackError::WrongSize { announced })
    );
}

#[test]
fn only_one_whole_frame_is_a_frame() {
    let mut unpacker = Unpacker::new();
    let line = text(3000);
    let frame = Packer::default().pack(&line).expect("worth it");
    for cut in 0..frame.len() {
        assert!(unpacker.unpack(&frame[..cut], 3000, MAX).is_err(), "{cut}");
    }
    let twice = [&frame[..], &frame[..]].concat();
    assert_eq!(unpacker.unpack(&twice, 6000, MAX), Err(UnpackError::NotAFrame));
    let tailed = [&frame[..], b"\n"].concat();
    assert_eq!(unpacker.unpack(&tailed, 3000, MAX), Err(UnpackError::NotAFrame));
    let skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd";
    assert!(unpacker.unpack(skippable, 4, MAX).is_err());
    assert_eq!(unpacker.unpack(b"plain text", 10, MAX), Err(UnpackError::NotAFrame));
    assert_eq!(unpacker.unpack(&frame, 3000, MAX), Ok(line));
}

proptest! {
    #[test]
    fn damage_never_yields_more_than_was_announced(at in any::<proptest::sample::Index>(), xor in 1..=255_u8) {
        let line = text(5000);
        let mut frame = Packer::default().pack(&line).expect("worth it");
        let at = at.index(frame.len());
        frame[at] ^= xor;
        if let Ok(unpacked) = Unpacker::new().unpack(&frame, 5000, MAX) {
            prop_assert_eq!(unpacked.len(), 5000);
        }
    }
}
