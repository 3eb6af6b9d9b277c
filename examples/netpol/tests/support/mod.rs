//! Runs the program as users do.
#![allow(dead_code, reason = "every test binary uses its own part")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

use std::ffi::OsStr;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The exit code where network namespaces cannot be made.
const UNAVAILABLE: i32 = 5;

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) notes: String,
}

impl Run {
    /// Whether there was no way to send packets here, which is told.
    pub(crate) fn is_skipped(&self) -> bool {
        let skipped = self.code == UNAVAILABLE;
        if skipped {
            eprintln!("SKIPPED: {}", self.notes.trim());
        }
        skipped
    }
}

/// Runs `netpol` with these arguments.
pub(crate) fn netpol<A: AsRef<OsStr>>(arguments: &[A]) -> Run {
    netpol_with(arguments, "")
}

/// Runs `netpol` with something on its standard input.
pub(crate) fn netpol_with<A: AsRef<OsStr>>(arguments: &[A], input: &str) -> Run {
    let mut child = Command::new(env!("CARGO_BIN_EXE_netpol"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("netpol starts");
    let written = child.stdin.take().expect("piped").write_all(input.as_bytes());
    // Who finds fault with the command line does not read on.
    assert!(
        written.as_ref().is_err_and(|it| it.kind() == ErrorKind::BrokenPipe) || written.is_ok()
    );
    let output = child.wait_with_output().expect("netpol ends");
    Run {
        code: output.status.code().expect("netpol is not killed"),
        out: String::from_utf8(output.stdout).expect("text"),
        notes: String::from_utf8(output.stderr).expect("text"),
    }
}

/// A file or directory of this crate.
pub(crate) fn own(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A directory of the corpus that `NETPOL_CORPUS` names, which is not part of the project.
pub(crate) fn corpus(directory: &str) -> Option<PathBuf> {
    let corpus = std::env::var_os("NETPOL_CORPUS").map(PathBuf::from);
    if corpus.is_none() {
        eprintln!("SKIPPED: set NETPOL_CORPUS to the directory of the conformance corpus");
    }
    corpus.map(|path| path.join(directory))
}

/// The directories in this one, in order.
pub(crate) fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let paths = entries.map(|entry| entry.expect("readable").path());
    let mut directories: Vec<_> = paths.filter(|path| path.is_dir()).collect();
    directories.sort();
    assert!(!directories.is_empty(), "nothing in {path:?}");
    directories
}
