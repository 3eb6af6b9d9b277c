//! Completions and manual pages.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::process::{Command, Stdio};

use support::netpol;

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let run = netpol(&["completions", shell]);
        assert_eq!(run.code, 0);
        for command in ["check", "explain", "list", "diff", "lint", "validate"] {
            assert!(run.out.contains(command), "{command} in {shell}");
        }
    }
    assert_eq!(netpol(&["completions", "abacus"]).code, 2);
    let script = netpol(&["completions", "bash"]).out;
    let ask =
        "COMP_WORDS=(netpol li); COMP_CWORD=1; _netpol netpol li netpol; echo ${COMPREPLY[@]}";
    let script = format!("complete() {{ :; }}\n{script}\n{ask}");
    match Command::new("bash").args(["-c", &script]).stderr(Stdio::null()).output() {
        Ok(output) => assert_eq!(String::from_utf8(output.stdout).unwrap(), "lint list\n"),
        Err(error) => eprintln!("SKIPPED: there is no bash: {error}"),
    }
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let directory = std::env::temp_dir().join(format!("netpol-man-{}", std::process::id()));
    assert_eq!(netpol(&["man", directory.to_str().unwrap()]).code, 0);
    for page in ["netpol.1", "netpol-list.1", "netpol-diff.1", "netpol-lint.1", "netpol-explain.1"]
    {
        let text = fs::read_to_string(directory.join(page)).unwrap();
        assert!(text.contains(".SH DESCRIPTION"), "{page}");
    }
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!(netpol(&["man", "/dev/null/no"]).code, 3);
}
