//! One transaction of a plan.

use std::collections::BTreeSet;

use netpol_core::model::Family;

use crate::name::{Comment, Name};
use crate::ruleset::{Chain, Elements, Ownership, Rule, Ruleset, Set, Table};

/// What a step is for: see the [module](super). The order is that of the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Makes a table anew: only where somebody else's objects are in the way.
    Replace,
    /// Makes objects that nothing leads to.
    Prepare,
    /// Denies more.
    Close,
    /// Allows more.
    Open,
    /// Replaces rules.
    Switch,
    /// Deletes what nothing leads to.
    Clean,
}

/// One change of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Deletes the table with all that is in it.
    DeleteTable,
    /// Makes the table.
    CreateTable {
        /// What it is for.
        comment: Option<Comment>,
        /// Nobody else may change it.
        owned: bool,
    },
    /// Takes an orphaned table over, so that nobody else may change it.
    ClaimTable,
    /// Makes a chain with its rules.
    CreateChain(Name, Chain),
    /// Makes a set with its elements.
    CreateSet(Name, Set),
    /// Replaces all rules of a chain.
    ReplaceRules(Name, Vec<Rule>),
    /// Deletes elements that are in a set.
    DeleteElements(Name, Elements),
    /// Adds elements that are not in a set.
    AddElements(Name, Elements),
    /// Deletes a set that no rule uses.
    DeleteSet(Name),
    /// Deletes a chain, its rules first, that nothing else leads to.
    DeleteChain(Name),
}

/// One transaction: all of it is in force, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    purpose: Purpose,
    changes: Vec<(Family, Change)>,
}

impl Step {
    pub(super) fn new(purpose: Purpose, mut changes: Vec<(Family, Change)>) -> Self {
        // The kernel needs chains before the maps that lead to them, and sets before the rules that
        // use them; what is replaced goes before what replaces it.
        changes.sort_by_key(|(family, change)| (*family, change.rank()));
        Self { purpose, changes }
    }

    /// What it is for.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The changes, in an order that the kernel accepts.
    #[must_use]
    pub fn changes(&self) -> &[(Family, Change)] {
        &self.changes
    }

    /// What is in force after the step, if `ruleset` was before: the step played in user space.
    pub fn apply(&self, ruleset: &mut Ruleset) {
        for (family, change) in &self.changes {
            if *change == Change::DeleteTable {
                ruleset.tables.remove(family);
            } else {
                change.apply(ruleset.tables.entry(*family).or_default());
            }
        }
    }
}

impl Change {
    fn rank(&self) -> u8 {
        match self {
            Self::DeleteTable => 0,
            Self::CreateTable { .. } | Self::ClaimTable => 1,
            Self::CreateChain(..) => 2,
            Self::CreateSet(..) => 3,
            Self::ReplaceRules(..) => 4,
            Self::DeleteElements(..) => 5,
            Self::AddElements(..) => 6,
            Self::DeleteSet(_) => 7,
            Self::DeleteChain(_) => 8,
        }
    }

    fn apply(&self, table: &mut Table) {
        match self {
            Self::DeleteTable => *table = Table::default(),
            Self::CreateTable { comment, owned } => {
                table.comment.clone_from(comment);
                if *owned {
                    table.ownership = Ownership::Owned;
                }
            }
            Self::ClaimTable => table.ownership = Ownership::Owned,
            Self::CreateChain(name, chain) => {
                table.chains.insert(name.clone(), chain.clone());
            }
            Self::CreateSet(name, set) => {
                table.sets.insert(name.clone(), set.clone());
            }
            Self::ReplaceRules(name, rules) => {
                if let Some(chain) = table.chains.get_mut(name) {
                    chain.rules.clone_from(rules);
                }
            }
            Self::DeleteElements(name, elements) => {
                if let Some(set) = table.sets.get_mut(name) {
                    set.elements.remove(elements);
                }
            }
            Self::AddElements(name, elements) => {
                if let Some(set) = table.sets.get_mut(name) {
                    set.elements.insert(elements);
                }
            }
            Self::DeleteSet(name) => {
                table.sets.remove(name);
            }
            Self::DeleteChain(name) => {
                table.chains.remove(name);
            }
        }
    }
}

impl Elements {
    /// What has to be removed from here, and what to be added, to get to `new`; `None` if that is
    /// another kind of set. An element whose value differs is removed and added.
    pub(super) fn difference(&self, new: &Self) -> Option<(Self, Self)> {
        Some(match (self, new) {
            (Self::Addresses(a), Self::Addresses(b)) => {
                let (removed, added) = difference(a, b);
                (Self::Addresses(removed), Self::Addresses(added))
            }
            (Self::AddressPairs(a), Self::AddressPairs(b)) => {
                let (removed, added) = difference(a, b);
                (Self::AddressPairs(removed), Self::AddressPairs(added))
            }
            (Self::AddressRanges(a), Self::AddressRanges(b)) => {
                let (removed, added) = difference(a, b);
                (Self::AddressRanges(removed), Self::AddressRanges(added))
            }
            (Self::AddressVerdicts(a), Self::AddressVerdicts(b)) => {
                let (removed, added) = difference(a, b);
                (Self::AddressVerdicts(removed), Self::AddressVerdicts(added))
            }
            (Self::PairVerdicts(a), Self::PairVerdicts(b)) => {
                let (removed, added) = difference(a, b);
                (Self::PairVerdicts(removed), Self::PairVerdicts(added))
            }
            (Self::PortVerdicts(a), Self::PortVerdicts(b)) => {
                let (removed, added) = difference(a, b);
                (Self::PortVerdicts(removed), Self::PortVerdicts(added))
            }
            (Self::PortRangeVerdicts(a), Self::PortRangeVerdicts(b)) => {
                let (removed, added) = difference(a, b);
                (Self::PortRangeVerdicts(removed), Self::PortRangeVerdicts(added))
            }
            _ => return None,
        })
    }

    fn remove(&mut self, elements: &Self) {
        if let Some((rest, _)) = self.difference(elements) {
            *self = rest;
        }
    }

    fn insert(&mut self, elements: &Self) {
        match (self, elements) {
            (Self::Addresses(a), Self::Addresses(b)) => union(a, b),
            (Self::AddressPairs(a), Self::AddressPairs(b)) => union(a, b),
            (Self::AddressRanges(a), Self::AddressRanges(b)) => union(a, b),
            (Self::AddressVerdicts(a), Self::AddressVerdicts(b)) => union(a, b),
            (Self::PairVerdicts(a), Self::PairVerdicts(b)) => union(a, b),
            (Self::PortVerdicts(a), Self::PortVerdicts(b)) => union(a, b),
            (Self::PortRangeVerdicts(a), Self::PortRangeVerdicts(b)) => union(a, b),
            _ => {}
        }
    }
}

/// What only the first, and what only the second of two ascending lists holds.
fn difference<T: Ord + Clone>(old: &[T], new: &[T]) -> (Vec<T>, Vec<T>) {
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        match (old.peek(), new.peek()) {
            (Some(a), Some(b)) if a == b => {
                old.next();
                new.next();
            }
            (Some(a), Some(b)) if a < b => removed.extend(old.next().cloned()),
            (Some(_), None) => removed.extend(old.next().cloned()),
            (_, Some(_)) => added.extend(new.next().cloned()),
            (None, None) => return (removed, added),
        }
    }
}

fn union<T: Ord + Clone>(all: &mut Vec<T>, more: &[T]) {
    let joined: BTreeSet<T> = all.drain(..).chain(more.iter().cloned()).collect();
    all.extend(joined);
}
