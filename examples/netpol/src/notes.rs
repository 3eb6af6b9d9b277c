//! What is told beside the results: on standard error.

use std::fmt;
use std::io::Write;

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
