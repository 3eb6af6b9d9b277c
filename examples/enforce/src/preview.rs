//! What a synchronisation would do, for people.

use std::collections::BTreeMap;
use std::fmt;

use netpol_backend_nft::plan::{Change, Plan, Purpose, Step};
use netpol_backend_nft::ruleset::Ruleset;
use netpol_core::model::Family;

mod iptables {
    pub(super) use netpol_backend_iptables::plan::{Plan, Purpose};
    pub(super) use netpol_backend_iptables::ruleset::Ruleset;
}

const PREPARE: &str = "prepare what nothing leads to yet";
const CLOSE: &str = "deny more";
const OPEN: &str = "allow more";
const SWITCH: &str = "switch rules";
const CLEAN: &str = "delete what nothing leads to any more";

/// The commits that would be made, in order; none if there is nothing to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// One for each.
    pub commits: Vec<Commit>,
}

/// One commit: all of it, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// What it is for.
    pub purpose: &'static str,
    /// Its changes in words.
    pub changes: Vec<String>,
}

pub(crate) fn of_transactions(present: Option<&Ruleset>, wanted: Ruleset) -> Preview {
    let plan = Plan::new(present, wanted);
    let commits = plan.steps().iter().map(|step| Commit {
        purpose: match step.purpose() {
            Purpose::Replace => "replace what is not ours",
            Purpose::Prepare => PREPARE,
            Purpose::Close => CLOSE,
            Purpose::Open => OPEN,
            Purpose::Switch => SWITCH,
            Purpose::Clean => CLEAN,
        },
        changes: in_words(step),
    });
    Preview { commits: commits.collect() }
}

/// Each call of a tool is a commit of its own; its lines are what it is told.
pub(crate) fn of_calls(present: Option<iptables::Ruleset>, wanted: iptables::Ruleset) -> Preview {
    let nothing = || iptables::Ruleset { name: wanted.name.clone(), tables: BTreeMap::new() };
    let present = present.unwrap_or_else(nothing);
    let plan = iptables::Plan::new(&present, wanted);
    let commits = plan.steps().iter().map(|step| Commit {
        purpose: match step.purpose() {
            iptables::Purpose::Prepare => PREPARE,
            iptables::Purpose::Close => CLOSE,
            iptables::Purpose::Switch => SWITCH,
            iptables::Purpose::Open => OPEN,
            iptables::Purpose::Clean => CLEAN,
        },
        changes: step.script(plan.target()).lines().map(str::to_owned).collect(),
    });
    Preview { commits: commits.collect() }
}

fn in_words(step: &Step) -> Vec<String> {
    let mut lines = Vec::new();
    // What is made and deleted is many things of little interest each; they are counted.
    let mut counts: BTreeMap<(Family, &str), (usize, usize)> = BTreeMap::new();
    for (family, change) in step.changes() {
        let table = table(*family);
        let mut count = |what, elements| {
            let count = counts.entry((*family, what)).or_default();
            *count = (count.0 + 1, count.1 + elements);
        };
        match change {
            Change::DeleteTable => lines.push(format!("{table}: delete the table")),
            Change::CreateTable { .. } => lines.push(format!("{table}: create the table")),
            Change::ClaimTable => lines.push(format!("{table}: take the table over")),
            Change::CreateChain(..) => count("chains created", 0),
            Change::CreateSet(_, set) => count("sets created", set.elements.len()),
            Change::DeleteSet(_) => count("sets deleted", 0),
            Change::DeleteChain(_) => count("chains deleted", 0),
            Change::ReplaceRules(chain, _) => lines.push(format!("{table}: rules of {chain}")),
            Change::DeleteElements(set, elements) => {
                lines.push(format!("{table}: {} out of {set}", self::elements(elements.len())));
            }
            Change::AddElements(set, elements) => {
                lines.push(format!("{table}: {} into {set}", self::elements(elements.len())));
            }
        }
    }
    lines.extend(counts.into_iter().map(|((family, what), (count, elements))| {
        let table = table(family);
        match elements {
            0 => format!("{table}: {count} {what}"),
            _ => format!("{table}: {count} {what}, with {}", self::elements(elements)),
        }
    }));
    lines
}

fn table(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

fn elements(count: usize) -> String {
    format!("{count} element{}", if count == 1 { "" } else { "s" })
}

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (Commit { purpose, changes }, number) in self.commits.iter().zip(1..) {
            writeln!(f, "commit {number}: {purpose}")?;
            for change in changes {
                writeln!(f, "  {change}")?;
            }
        }
        Ok(())
    }
}
