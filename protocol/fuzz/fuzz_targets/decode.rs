//! Any bytes, in both dialects and both directions: reading never panics, `explain` agrees with `decode`, what is
//! accepted is written and read back the same, and a look at a good line finds what reading it finds.
//!
//! In the folder of the crate: `cargo run --manifest-path fuzz/Cargo.toml --bin seeds`, then
//! `cargo +nightly fuzz run decode -- -max_total_time=60`. It needs cargo-fuzz and a C++ compiler.
#![no_main]

use std::fmt::Debug;

use crawlwire_protocol::explain::{Explain, explain};
use crawlwire_protocol::{CrawlerMessage, Decoded, Dialect, WebAppMessage, decode, encode, fingerprint, peek};
use libfuzzer_sys::fuzz_target;

fn judge<M: Explain + PartialEq + Debug>(line: &[u8], dialect: Dialect) {
    let decoded = decode::<M>(line, dialect);
    let known = matches!(decoded, Ok(Decoded::Known(_)));
    let violations = explain::<M>(line, dialect);
    assert_eq!(known, violations.is_empty(), "{violations:?}");
    let Ok(Decoded::Known(envelope)) = decoded else {
        return;
    };
    let peeked = peek(line);
    assert_eq!(peeked.type_name.as_deref(), Some(M::name_of(envelope.message.kind())));
    assert_eq!(peeked.job_id, envelope.job_id);
    if dialect == Dialect::Session {
        assert_eq!(peeked.seq, envelope.marks.seq);
    }
    let written = encode(&envelope).expect("what was read can be written");
    assert_eq!(written.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
    match decode::<M>(&written, dialect) {
        Ok(Decoded::Known(again)) => assert_eq!(again, envelope),
        other => panic!("refuses its own line: {other:?}"),
    }
}

fuzz_target!(|line: &[u8]| {
    peek(line);
    fingerprint(line);
    for dialect in [Dialect::Base, Dialect::Session] {
        judge::<CrawlerMessage>(line, dialect);
        judge::<WebAppMessage>(line, dialect);
    }
});
