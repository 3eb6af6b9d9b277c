//! What is told on a terminal while something takes long.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread::{self, sleep};
use std::time::Duration;

use nix::pty::openpty;
use support::netpol_with;

const POD: &[u8] = b"{apiVersion: v1, kind: Pod, metadata: {name: a}}";

/// Lists what it reads from a pipe.
fn list(stderr: Stdio) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netpol"));
    command.args(["list", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(stderr);
    command.spawn().expect("netpol starts")
}

/// What a terminal shows until the program ends that gets its input after some time.
fn shown_if_it_takes(time: Duration) -> String {
    let pty = openpty(None, None).expect("a terminal");
    let mut child = list(pty.slave.into());
    let mut terminal = File::from(pty.master);
    let reader = thread::spawn(move || {
        let mut shown = Vec::new();
        // It ends with an error when nobody writes any more.
        let _ = terminal.read_to_end(&mut shown);
        String::from_utf8_lossy(&shown).into_owned()
    });
    sleep(time);
    child.stdin.take().expect("piped").write_all(POD).expect("written");
    assert!(child.wait().expect("it ends").success());
    reader.join().expect("read")
}

#[test]
fn what_takes_long_is_told_and_wiped() {
    let shown = shown_if_it_takes(Duration::from_millis(1500));
    assert!(shown.contains("waiting for standard input  1 s"), "{shown:?}");
    let (_, after) = shown.rsplit_once("waiting").expect("told");
    assert!(after.contains("\r\u{1b}[K"), "{shown:?}");
    assert!(!shown_if_it_takes(Duration::ZERO).contains("waiting"), "not worth telling");
}

#[test]
fn nothing_is_told_where_there_is_no_terminal() {
    let mut child = list(Stdio::piped());
    sleep(Duration::from_millis(800));
    child.stdin.take().expect("piped").write_all(POD).expect("written");
    let output = child.wait_with_output().expect("it ends");
    let notes = String::from_utf8(output.stderr).expect("text");
    let quick = netpol_with(&["list", "-f", "-"], std::str::from_utf8(POD).expect("text"));
    assert_eq!(notes, quick.notes);
}
