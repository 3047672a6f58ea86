//! However bytes are cut on their way, the same lines come out, and no more is held than the limit.
#![no_main]

use bytes::BytesMut;
use crawlwire_transport::{Line, LineCodec};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // The first two bytes are the limit and how to cut.
    let [limit, cut, bytes @ ..] = input else { return };
    let max = usize::from(*limit).max(1);
    let whole = lines(max, [bytes]);
    let size = usize::from(*cut).max(1);
    assert_eq!(lines(max, bytes.chunks(size)), whole);
    // Pieces of uneven sizes, which the bytes themselves choose.
    let mut rest = bytes;
    let uneven = std::iter::from_fn(|| {
        let size = usize::from(*rest.first()? % 7 + 1).min(rest.len());
        let (piece, after) = rest.split_at(size);
        rest = after;
        Some(piece)
    });
    assert_eq!(lines(max, uneven), whole);
});

fn lines<'a>(max: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Line> {
    let mut codec = LineCodec::new(max);
    let (mut buffer, mut lines, mut given) = (BytesMut::new(), Vec::new(), 0);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        given += piece.len();
        while let Some(line) = codec.next_line(&mut buffer) {
            lines.push(line);
        }
        // One more may be the carriage return of a line ending.
        assert!(buffer.len() <= max + 1, "{} bytes held", buffer.len());
    }
    while let Some(line) = codec.end(&mut buffer) {
        lines.push(line);
    }
    let stats = codec.stats();
    assert_eq!(stats.bytes, given as u64, "every byte is accounted for");
    assert!(buffer.is_empty());
    assert_eq!(stats.lines + stats.too_long + stats.unfinished, lines.len() as u64);
    for line in &lines {
        match line {
            Line::Complete(line) => {
                assert!(line.len() <= max && !line.contains(&b'\n') && !line.trim_ascii().is_empty());
            }
            Line::TooLong { discarded_at_least } => assert_eq!(*discarded_at_least, max + 1),
            Line::Unfinished { bytes } => assert!(*bytes <= max + 1),
        }
    }
    lines
}
