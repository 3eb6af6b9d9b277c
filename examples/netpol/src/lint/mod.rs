//! What policies say that their authors hardly meant.

mod catalogue;
mod checks;
mod facts;
mod redundancy;

use netpol_core::model::{Objects, Policy, PolicyKey};
use netpol_core::program::Program;
use serde::Serialize;

use self::facts::Facts;
use crate::input::Written;
use crate::progress::Progress;

pub(crate) use self::catalogue::{Lint, markdown};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Worth knowing
    Info,
    /// Probably not what was meant
    Warning,
    /// A part of the policy has no effect, or another one than it says
    Error,
}

/// Something that a lint found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) object: PolicyKey,
    pub(crate) lint: Lint,
    /// The field; empty for the whole object.
    pub(crate) path: String,
    pub(crate) message: String,
}

/// The findings of one policy at a time.
struct Report<'a> {
    policy: &'a Policy,
    findings: Vec<Finding>,
}

impl Report<'_> {
    fn add(&mut self, lint: Lint, path: impl Into<String>, message: impl Into<String>) {
        let (path, message) = (path.into(), message.into());
        self.findings.push(Finding { object: self.policy.key.clone(), lint, path, message });
    }
}

/// All that is to be found, in the order of the objects.
pub(crate) fn findings<'a>(
    objects: &'a Objects,
    program: &'a Program,
    written: impl Fn(&PolicyKey) -> Option<&'a Written>,
) -> Vec<Finding> {
    let facts = Facts::new(objects, program);
    let mut findings = Vec::new();
    for policy in &objects.policies {
        let mut report = Report { policy, findings: Vec::new() };
        checks::run(&facts, written(&policy.key), &mut report);
        findings.append(&mut report.findings);
    }
    let progress = Progress::new("proving");
    findings.extend(checks::profiles(&facts));
    findings.extend(redundancy::findings(&facts, |done, all| progress.tell(done, all)));
    findings.sort();
    findings.dedup();
    findings
}
