//! On a terminal: bars, colours, and no line longer than there is room.
//!
//! The terminal is that of util-linux' `script`. Where that is missing these tests have nothing to say.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::console::{HARMLESS, HOSTILE, Said, command, ended, server};
use crate::support::TestServer;
use crate::support::server::BINARY;

/// Runs a command on a terminal with so many columns; none where there is no `script`.
fn on_terminal(server: &TestServer, columns: u16, arguments: &str, no_color: bool) -> Option<Said> {
    terminal(server, columns, arguments, no_color).map(|command| ended(command, ""))
}

fn terminal(server: &TestServer, columns: u16, arguments: &str, no_color: bool) -> Option<Command> {
    let script = Command::new("script")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !script.is_ok_and(|status| status.success()) {
        return None;
    }
    let path = std::env::var_os("PATH").expect("a path");
    let mut terminal = Command::new("script");
    // The environment is that of a command without a terminal, but for what a terminal has.
    terminal.env_clear().envs(
        command(server, &[])
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    terminal
        .env("PATH", path)
        .env("TERM", "xterm-256color")
        .env("SHELL", "/bin/sh");
    if no_color {
        terminal.env("NO_COLOR", "1");
    }
    terminal.args([
        "-qec",
        &format!("stty cols {columns} rows 24; {BINARY} {arguments}"),
        "/dev/null",
    ]);
    Some(terminal)
}

/// What a terminal would show, without colours.
fn plain(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        shown.push_str(before);
        rest = after
            .trim_start_matches(|it: char| it.is_ascii_digit() || it == ';')
            .get(1..)
            .unwrap_or_default();
    }
    shown + rest
}

#[test]
fn a_list_is_as_wide_as_the_terminal_and_has_colours_only_when_wanted() {
    let server = server();
    server
        .api()
        .submit_with(&json!({ "namespace_path": HOSTILE.repeat(5), "account_id": "x".repeat(200) }));
    for columns in [60, 100, 140] {
        let Some(said) = on_terminal(&server, columns, "jobs", false) else {
            return;
        };
        assert_eq!(said.status, 0, "{said:?}");
        assert!(said.out.contains("\u{1b}[2mID"), "no colour in {said:?}");
        for line in plain(&said.out).lines() {
            assert!(
                line.trim_end().chars().count() <= usize::from(columns),
                "{columns}: {line:?}"
            );
        }
        if columns == 140 {
            assert!(said.out.contains(&HARMLESS[..20]), "{said:?}");
        }
        let said = on_terminal(&server, columns, "jobs", true).expect("it was there just now");
        assert!(!said.out.contains('\u{1b}'), "{said:?}");
    }
}

#[test]
fn a_tree_is_watched_with_bars_to_its_end() {
    let server = server();
    let root = server
        .api()
        .submit_with(&json!({ "namespace_path": HOSTILE, "job_type": "crawl_group" }));
    let id = root["id"].as_str().expect("an id").to_owned();
    let mut crawler = server.crawler();
    crawler.assignment();
    crawler.started(&id);
    crawler.progress(&id, 0.4, 40);
    server.api().await_status(&id, "running");
    let Some(terminal) = terminal(&server, 120, &format!("watch {id}"), false) else {
        return;
    };
    let watching = std::thread::spawn(move || ended(terminal, ""));
    // Nothing outside tells when a picture was drawn; the first one comes within a fraction of this.
    crate::support::pause(Duration::from_secs(2));
    crawler.completed(&id);
    let said = watching.join().expect("it only watches");
    assert_eq!(said.status, 0, "{said:?}");
    let shown = plain(&said.out);
    for part in [
        "the tree",
        "still discovering, 40 of 100+ so far",
        "The tree has ended: completed; 100 %",
    ] {
        assert!(shown.contains(part), "{part} is missing in {shown}");
    }
    assert!(
        !shown.contains(['\u{202e}', '\u{9b}', '\u{7}']) && !said.out.contains("\u{1b}]"),
        "{said:?}"
    );
}
