//! What shells and `man` get.

use std::process::{Command, Stdio};

use crate::console::{Said, ended};
use crate::support::server::BINARY;

fn run(arguments: &[&str]) -> Said {
    let mut command = Command::new(BINARY);
    command.env_clear().args(arguments);
    ended(command, "")
}

#[test]
fn shells_get_completions_for_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]).ok();
        for word in ["watch", "token", "doctor", "bench", "crawlers"] {
            assert!(script.contains(word), "{shell} has no {word}");
        }
    }
    let script = run(&["completions", "bash"]).ok();
    let mut bash = assert_cmd::Command::new("bash");
    bash.arg("-n").write_stdin(script).assert().success();
}

#[test]
fn the_manual_is_a_page_that_man_can_show() {
    let page = run(&["man"]).ok();
    assert!(page.contains("\n.TH crawlwire 1"), "{page}");
    let known = Command::new("man")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if known.is_ok_and(|status| status.success()) {
        let mut man = assert_cmd::Command::new("man");
        let shown = man
            .args(["--warnings", "-l", "-"])
            .env("MAN_KEEP_FORMATTING", "0")
            .write_stdin(page)
            .assert()
            .success();
        let errors = String::from_utf8_lossy(&shown.get_output().stderr).into_owned();
        assert!(!errors.contains("warning"), "{errors}");
    }
}
