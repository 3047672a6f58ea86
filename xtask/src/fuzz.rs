//! A short run of every fuzz target. Built without a sanitizer, since there is no unsafe code to watch, and with overflow
//! checks and debug assertions on.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;

/// The crate with the targets, the program that makes its seeds if it has one, and a target. In `<crate>/fuzz`.
const TARGETS: [(&str, Option<&str>, &str); 2] = [("protocol", Some("seeds"), "decode"), ("transport", None, "lines")];

/// Seconds for each target. Longer runs are for whoever changed what they fuzz.
const SECONDS: u32 = 15;

/// Bytes of an input: a few lines.
const INPUT_BYTES_MAX: u32 = 8192;

/// Says whether no target found anything.
pub(crate) fn run(root: &Path) -> anyhow::Result<bool> {
    if !succeeds(root, "cargo fuzz --version", Stdio::null())? {
        anyhow::bail!("cargo-fuzz is missing: cargo install cargo-fuzz --locked");
    }
    for (package, seeds, target) in TARGETS {
        let place = root.join(package);
        let built = root.join("target/fuzz");
        if let Some(seeds) = seeds {
            let line = format!(
                "cargo run --quiet --manifest-path fuzz/Cargo.toml --target-dir {}/seeds --bin {seeds}",
                built.display()
            );
            if !succeeds(&place, &line, Stdio::inherit())? {
                return Ok(false);
            }
        }
        let line = format!(
            "cargo fuzz run --dev --sanitizer none --target-dir {} {target} -- -max_total_time={SECONDS} \
             -max_len={INPUT_BYTES_MAX} -print_final_stats=1 -verbosity=0",
            built.display()
        );
        println!("--- {package}: {target}");
        if !succeeds(&place, &line, Stdio::inherit())? {
            println!("error: an input that fails is in {package}/fuzz/artifacts");
            return Ok(false);
        }
    }
    Ok(true)
}

/// The instrumentation is an unstable flag of the compiler, which the pinned stable one takes when asked so.
fn succeeds(place: &Path, line: &str, output: Stdio) -> anyhow::Result<bool> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("cargo"));
    command
        .args(words)
        .current_dir(place)
        .env("RUSTC_BOOTSTRAP", "1")
        .stdout(output);
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    Ok(status.success())
}
