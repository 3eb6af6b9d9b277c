//! One call of a tool.

use std::collections::BTreeMap;
use std::sync::Arc;

use netpol_core::model::Family;

use crate::name::Name;
use crate::ruleset::{self, Hook, Rule, Ruleset, Set};

/// What a step is for: see the [module](super). The order is that of the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Makes sets that no rule uses.
    Prepare,
    /// Denies more.
    Close,
    /// Replaces rules.
    Switch,
    /// Allows more.
    Open,
    /// Destroys sets that no rule uses.
    Clean,
}

/// One call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Of `ipset restore`: line by line.
    Sets {
        /// What for.
        purpose: Purpose,
        /// The changes.
        changes: Vec<SetChange>,
    },
    /// Of `iptables-restore` or `ip6tables-restore`: all or nothing.
    Rules(RuleChanges),
}

/// One change of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetChange {
    /// Makes a set with its elements.
    Create(Family, Name, Arc<Set>),
    /// Adds elements.
    Add(Name, Set),
    /// Deletes elements.
    Delete(Name, Set),
    /// Destroys a set.
    Destroy(Name),
}

/// What changes in the rules of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleChanges {
    /// The family.
    pub family: Family,
    /// Chains that are made or replaced.
    pub chains: BTreeMap<Name, Vec<Rule>>,
    /// Chains that are deleted.
    pub deleted: Vec<Name>,
    /// By hook: how many jumps to our chain are there, and where they are to be.
    pub jumps: BTreeMap<Hook, (usize, Vec<usize>)>,
}

impl RuleChanges {
    pub(super) fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.deleted.is_empty() && self.jumps.is_empty()
    }
}

/// What reads a step's script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `ipset restore`.
    Sets,
    /// `iptables-restore` or `ip6tables-restore`.
    Rules(Family),
}

impl Step {
    /// What it is for.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        match self {
            Self::Sets { purpose, .. } => *purpose,
            Self::Rules(_) => Purpose::Switch,
        }
    }

    /// The tool that carries it out.
    #[must_use]
    pub fn tool(&self) -> Tool {
        match self {
            Self::Sets { .. } => Tool::Sets,
            Self::Rules(changes) => Tool::Rules(changes.family),
        }
    }

    /// What the tool is told, for the ruleset that the step belongs to.
    #[must_use]
    pub fn script(&self, ruleset: &Ruleset) -> String {
        match self {
            Self::Sets { changes, .. } => {
                let mut text = String::new();
                for change in changes {
                    match change {
                        SetChange::Create(family, name, set) => {
                            ruleset::create(&mut text, *family, name, set);
                        }
                        SetChange::Add(name, set) => ruleset::add(&mut text, name, set),
                        SetChange::Delete(name, set) => ruleset::delete(&mut text, name, set),
                        SetChange::Destroy(name) => {
                            text.push_str("destroy ");
                            text.push_str(name.as_str());
                            text.push('\n');
                        }
                    }
                }
                text
            }
            Self::Rules(changes) => {
                let jumps = changes.jumps.iter();
                let jumps =
                    jumps.map(|(hook, (present, wanted))| (*hook, *present, !wanted.is_empty()));
                ruleset::restore(ruleset, changes.chains.iter(), changes.deleted.iter(), jumps)
            }
        }
    }

    /// What it makes of a ruleset.
    pub fn apply(&self, ruleset: &mut Ruleset) {
        match self {
            Self::Sets { changes, .. } => changes.iter().for_each(|change| change.apply(ruleset)),
            Self::Rules(changes) => {
                let table = ruleset.tables.entry(changes.family).or_default();
                changes.deleted.iter().for_each(|name| _ = table.chains.remove(name));
                table.chains.extend(changes.chains.clone());
                for (hook, (_, wanted)) in &changes.jumps {
                    table.jumps.insert(*hook, wanted.clone());
                }
                table.jumps.retain(|_, places| !places.is_empty());
            }
        }
    }
}

impl SetChange {
    fn apply(&self, ruleset: &mut Ruleset) {
        if let Self::Create(family, name, set) = self {
            let table = ruleset.tables.entry(*family).or_default();
            table.sets.insert(name.clone(), set.clone());
            return;
        }
        for table in ruleset.tables.values_mut() {
            match self {
                Self::Destroy(name) => _ = table.sets.remove(name),
                Self::Add(name, added) => {
                    if let Some(set) = table.sets.get_mut(name) {
                        Arc::make_mut(set).insert(added);
                    }
                }
                Self::Delete(name, removed) => {
                    if let Some(set) = table.sets.get_mut(name) {
                        Arc::make_mut(set).remove(removed);
                    }
                }
                Self::Create(..) => {}
            }
        }
    }
}

impl Set {
    fn insert(&mut self, added: &Self) {
        match (self, added) {
            (Self::Addresses(list), Self::Addresses(added)) => {
                list.extend(added);
                list.sort_unstable();
                list.dedup();
            }
            (Self::Blocks(list), Self::Blocks(added)) => {
                list.extend(added);
                list.sort_unstable();
                list.dedup();
            }
            _ => {}
        }
    }

    fn remove(&mut self, removed: &Self) {
        match (self, removed) {
            (Self::Addresses(list), Self::Addresses(removed)) => {
                list.retain(|it| removed.binary_search(it).is_err());
            }
            (Self::Blocks(list), Self::Blocks(removed)) => {
                list.retain(|it| removed.binary_search(it).is_err());
            }
            _ => {}
        }
    }
}
