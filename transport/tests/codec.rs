//! The codec against a naive reference, over every kind of byte soup and every way of cutting it.

use bytes::BytesMut;
use crawlwire_transport::{Line, LineCodec};
use futures_util::StreamExt;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio_util::codec::FramedRead;

const MAX: usize = 8;

/// What the rules say, with the whole input at hand.
fn reference(input: &[u8]) -> Vec<Line> {
    let mut parts: Vec<&[u8]> = input.split(|&b| b == b'\n').collect();
    let last = parts.pop().unwrap_or_default();
    let mut lines: Vec<Line> = Vec::new();
    let too_long = Line::TooLong {
        discarded_at_least: MAX + 1,
    };
    for part in parts {
        let content = part.strip_suffix(b"\r").unwrap_or(part);
        if content.len() > MAX {
            lines.push(too_long.clone());
        } else if !content.trim_ascii().is_empty() {
            lines.push(Line::Complete(content.to_vec().into()));
        }
    }
    // At the end nothing follows, so only a carriage return could have been a line ending.
    let could_end = last.strip_suffix(b"\r").unwrap_or(last);
    if could_end.len() > MAX {
        lines.push(too_long);
    } else if !last.trim_ascii().is_empty() {
        lines.push(Line::Unfinished { bytes: last.len() });
    }
    lines
}

fn run(input: &[u8], cuts: &[usize]) -> (Vec<Line>, LineCodec) {
    let mut codec = LineCodec::new(MAX);
    let mut buffer = BytesMut::new();
    let mut lines = Vec::new();
    let mut rest = input;
    for &cut in cuts.iter().chain(&[usize::MAX]) {
        let (now, later) = rest.split_at(cut.min(rest.len()));
        buffer.extend_from_slice(now);
        rest = later;
        while let Some(line) = codec.next_line(&mut buffer) {
            lines.push(line);
        }
        assert!(buffer.len() <= MAX + 1, "holds more than one line can be");
    }
    while let Some(line) = codec.end(&mut buffer) {
        lines.push(line);
    }
    (lines, codec)
}

/// Few symbols, so that line endings, blanks and lines around the limit are common.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        6 => Just(b'a'),
        2 => Just(b'\n'),
        2 => Just(b'\r'),
        1 => Just(b' '),
        1 => any::<u8>(),
    ];
    vec(byte, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn any_split_gives_the_reference_items(input in soup(), cuts in vec(0usize..20, 0..40)) {
        let want = reference(&input);
        let (got, codec) = run(&input, &cuts);
        prop_assert_eq!(&got, &want);
        let stats = codec.stats();
        let count = |pick: fn(&Line) -> bool| want.iter().filter(|l| pick(l)).count() as u64;
        prop_assert_eq!(stats.lines, count(|l| matches!(l, Line::Complete(_))));
        prop_assert_eq!(stats.too_long, count(|l| matches!(l, Line::TooLong { .. })));
        prop_assert_eq!(stats.unfinished, count(|l| matches!(l, Line::Unfinished { .. })));
        prop_assert_eq!(stats.bytes, input.len() as u64, "every byte is accounted for");
    }

    #[test]
    fn byte_by_byte_is_no_different(input in soup()) {
        let ones = vec![1; input.len()];
        prop_assert_eq!(run(&input, &ones).0, reference(&input));
    }
}

#[test]
fn the_limit_counts_neither_newline_nor_carriage_return() {
    let exact = b"12345678\n12345678\r\n123456789\n12345678\r\r\nok\n";
    let (lines, _) = run(exact, &[]);
    let too_long = Line::TooLong {
        discarded_at_least: MAX + 1,
    };
    assert_eq!(
        lines,
        [
            Line::Complete("12345678".into()),
            Line::Complete("12345678".into()),
            too_long.clone(),
            too_long,
            Line::Complete("ok".into()),
        ]
    );
}

#[test]
fn a_carriage_return_inside_is_data_and_blanks_are_skipped() {
    let (lines, codec) = run(b"a\rb\r\n\r\n \t\n\na\n", &[]);
    assert_eq!(lines, [Line::Complete("a\rb".into()), Line::Complete("a".into())]);
    assert_eq!(codec.stats().blank, 3);
}

#[tokio::test]
async fn a_framed_stream_goes_on_after_a_line_that_is_too_long() {
    let input: &[u8] = b"one\n123456789 and more\ntwo\nthr";
    let framed = FramedRead::new(input, LineCodec::new(MAX));
    let lines: Vec<Line> = framed.map(|l| l.expect("never an error")).collect().await;
    assert_eq!(lines, reference(input));
    assert_eq!(lines.len(), 4);
}
