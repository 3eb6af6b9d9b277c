//! What is told beside the results: on standard error.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use crate::input::Input;

/// Tells what was found out about the input.
pub(crate) fn tell(input: &Input) {
    for finding in &input.findings {
        note(finding);
    }
    if let Some(skipped) = input.skipped_note() {
        note(skipped);
    }
}

/// Tells of an error.
pub(crate) fn error(message: impl fmt::Display) {
    note(format_args!("error: {message}"));
}

/// Tells something. If nobody can hear it, that is no reason to stop.
pub(crate) fn note(message: impl fmt::Display) {
    let _ = writeln!(anstream::stderr(), "{message}");
}

/// `1 policy`, `3 policies`
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// One line on a terminal that tells how far something is; nothing where there is no terminal.
pub(crate) struct Progress {
    what: &'static str,
    shown: bool,
    /// Percent.
    told: Option<usize>,
}

impl Progress {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, shown: io::stderr().is_terminal(), told: None }
    }

    /// `done` of `all` are done.
    pub(crate) fn tell(&mut self, done: usize, all: usize) {
        let percent = done * 100 / all.max(1);
        if self.shown && self.told.replace(percent) != Some(percent) {
            let _ = write!(io::stderr(), "\r{} {done} of {all}", self.what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown && self.told.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
