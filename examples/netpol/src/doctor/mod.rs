//! Whether policies are truly enforced on this host.
//!
//! The most common false assumption about network policies is that they are enforced. So nothing is taken for granted
//! here: each check looks for itself, and what is wrong comes with what to do about it.

mod kernel;
mod others;
mod probe;
mod rules;

use std::fmt;

use netpol_core::program::Program;
use serde::Serialize;

use crate::exit::Failure;
use crate::host::BackendArgs;

pub(crate) use self::probe::self_probe;

/// What one check has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// A stable name for it.
    pub(crate) check: &'static str,
    pub(crate) state: State,
    pub(crate) message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Good,
    /// It could not be found out.
    Unknown,
    /// Policies are enforced, but not in every case, or not for long.
    Warning,
    /// Policies are not enforced.
    Bad,
}

impl Finding {
    fn good(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, state: State::Good, message: message.into(), advice: None }
    }

    fn unknown(check: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { check, state: State::Unknown, message: message.into(), advice }
    }

    fn warning(check: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { check, state: State::Warning, message: message.into(), advice }
    }

    fn bad(check: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, state: State::Bad, message: message.into(), advice: Some(advice.into()) }
    }
}

/// Looks at this host, without changing or sending anything.
pub(crate) fn examine(
    backend: &BackendArgs,
    program: Option<&Program>,
) -> Result<Vec<Finding>, Failure> {
    let mut findings = rules::check(backend, program)?;
    findings.extend(kernel::check(program));
    findings.extend(others::check(&backend.instance));
    Ok(findings)
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Bad => "BAD",
        })
    }
}
