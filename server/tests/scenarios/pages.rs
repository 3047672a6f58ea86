//! The tables of the session page name what the code can say, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use crawlwire_protocol::{Classify, CrawlerMessage, Dialect, decode};
use crawlwire_router::{Closing, code};
use crawlwire_transport::CloseReason;

const PAGE: &str = include_str!("../../../protocol/SESSION.md");

/// The lines of a section.
fn section(heading: &str) -> impl Iterator<Item = &'static str> {
    let mut lines = PAGE.lines().skip_while(move |line| *line != heading);
    assert!(lines.next().is_some(), "the page has no section {heading}");
    lines.take_while(|line| !line.starts_with("## "))
}

/// The cells of each row of its table.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let rows = section(heading).filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Codes of lines that are no messages, by a line of each kind.
fn codes_of_lines() -> Vec<&'static str> {
    let deep = "[".repeat(1000);
    let lines = [b"\xff".as_slice(), b"{", deep.as_bytes(), b"{}"];
    let code = |line: &&[u8]| {
        let refused = decode::<CrawlerMessage>(line, Dialect::Session);
        refused.expect_err("no message").code()
    };
    lines.iter().map(code).collect()
}

#[test]
fn every_error_code_has_its_row() {
    let listed: Vec<_> = rows("## Errors").iter().flat_map(|row| quoted(row[0])).collect();
    let on_page: BTreeSet<_> = listed.iter().copied().collect();
    assert_eq!(listed.len(), on_page.len(), "a code stands there twice");
    let mut in_code: BTreeSet<_> = code::ALL.iter().copied().collect();
    assert_eq!(in_code.len(), code::ALL.len(), "two codes have one name");
    in_code.extend(codes_of_lines());
    assert_eq!(on_page, in_code);
}

#[test]
fn every_close_reason_has_its_row_or_is_listed_as_silent() {
    let told: BTreeMap<_, _> = rows("## Close reasons")
        .into_iter()
        .map(|row| (row[0].trim_matches('`'), row[2]))
        .collect();
    for closing in Closing::ALL {
        let reconnect = closing.reconnect().to_string();
        assert_eq!(told.get(closing.as_str()), Some(&&*reconnect), "{}", closing.as_str());
    }
    let text: String = section("## Close reasons")
        .filter(|line| !line.starts_with('|'))
        .collect();
    let (_, silent) = text.split_once("without a `goodbye`").expect("the list of the others");
    let silent: BTreeSet<_> = quoted(silent).collect();
    let both: Vec<_> = told.keys().filter(|name| silent.contains(*name)).collect();
    assert!(both.is_empty(), "told and not told: {both:?}");
    let on_page: BTreeSet<_> = told.keys().copied().chain(silent).collect();
    let ours = Closing::ALL.iter().map(|closing| closing.as_str());
    let all = CloseReason::ALL.iter().map(|reason| reason.as_str());
    assert_eq!(on_page, ours.chain(all).collect());
}
