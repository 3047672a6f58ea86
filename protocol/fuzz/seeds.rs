//! Writes the seed corpus: every line of the test fixtures, good and bad, as a file of its own in `corpus/decode`.
//!
//! `cargo run --bin seeds`, in this folder. Lines longer than a few thousand bytes are left out: they only slow the
//! fuzzer down.

use std::fs;
use std::io;
use std::path::Path;

use crawlwire_protocol::fingerprint;
use serde_json::Value;

const BYTES_MAX: usize = 4096;

fn main() -> io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixtures = here.join("../tests/fixtures");
    let corpus = here.join("corpus/decode");
    fs::create_dir_all(&corpus)?;
    let mut lines = Vec::new();
    for golden in [
        "base/golden.ndjson",
        "session/golden-crawler.ndjson",
        "session/golden-server.ndjson",
    ] {
        lines.extend(fs::read_to_string(fixtures.join(golden))?.lines().map(str::to_owned));
    }
    for rows in ["base/conformance.jsonl", "session/conformance.jsonl"] {
        for row in fs::read_to_string(fixtures.join(rows))?.lines() {
            let row: Value = serde_json::from_str(row)?;
            lines.extend(row["line"].as_str().map(str::to_owned));
        }
    }
    lines.retain(|line| line.len() <= BYTES_MAX);
    for line in &lines {
        let name = format!("{:016x}", fingerprint(line.as_bytes()));
        fs::write(corpus.join(name), line)?;
    }
    println!("{} lines are in {}", lines.len(), corpus.display());
    Ok(())
}
