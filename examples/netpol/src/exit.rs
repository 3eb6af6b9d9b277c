//! How the program ends.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// What the exit code says; the family is that of `kubectl diff`: 0 and 1 are answers, what is higher went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Yes; nothing to complain of.
    Success = 0,
    /// No; something differs.
    Negative = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The input cannot be read, or not all of it.
    BadInput = 3,
    /// The kernel refused.
    Kernel = 4,
    /// A privilege or a feature of the kernel is missing.
    Unavailable = 5,
}

/// Why a command could not be carried out.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) cause: anyhow::Error,
}

impl Failure {
    /// The command line makes no sense.
    pub(crate) fn usage(cause: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Usage, cause: cause.into() }
    }

    /// The input cannot be read.
    pub(crate) fn input(cause: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::BadInput, cause: cause.into() }
    }

    /// The kernel refused.
    pub(crate) fn kernel(cause: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Kernel, cause: cause.into() }
    }

    /// A privilege or a feature of the kernel is missing.
    pub(crate) fn unavailable(cause: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Unavailable, cause: cause.into() }
    }

    /// Whether the reader of the results has gone away, as `head` does: no reason to complain.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        let cause = self.cause.downcast_ref::<io::Error>();
        cause.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Results could not be written.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::input(error)
    }
}

/// As [`From<io::Error>`].
impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::from(io::Error::from(error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.cause)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
