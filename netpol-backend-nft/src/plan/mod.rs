//! How to get from one ruleset to another without a moment in which a packet is judged by anything
//! but the one or the other.
//!
//! One transaction switches *rules* atomically: a packet walks all chains as they were when it
//! entered the base chain. *Set look-ups* are not tied to that: each sees what is in the set at its
//! own instant, so that a packet under way during a commit may ask one set before and the next one
//! after it. Interval sets are later still: their changes show some time after the commit
//! (10 to 100 microseconds were measured). So changes are ordered:
//!
//! | step      | what it changes                                                   | to packets       |
//! |-----------|-------------------------------------------------------------------|------------------|
//! | `Prepare` | new chains, sets and maps, which nothing leads to yet             | nothing          |
//! | `Close`   | elements that deny more: peers leave, endpoints become isolated   | only denies more |
//! | `Open`    | elements that allow more: peers join, endpoints leave             | only allows more |
//! | `Switch`  | rules                                                             | old to new       |
//! | `Clean`   | what nothing leads to any more is deleted                         | nothing          |
//!
//! A change is either by **elements** (`Close`, then `Open`) or by **rules** (`Switch`).
//!
//! - *By elements*, where the rules of both are the same and every set that differs is a hash set.
//!   Each direction of a packet's judgement is then a look-up whose answer only goes down in `Close`
//!   and only up in `Open`; between the two a packet passes exactly if the old *and* the new ruleset
//!   let it pass. Opening first would let through what leaves by one direction and enters by the
//!   other. The exception is found beforehand: an endpoint that becomes isolated, while a peer joins
//!   a set that it is judged by, would lose that peer for a moment; such changes go by rules.
//! - *By rules*, everywhere else: sets whose content differs are made anew beside the old ones,
//!   under a name with a version (`allow-9f3c.1`), and the rules that use them are replaced, all at
//!   once. Nothing that a packet may be looking at changes.
//!
//! New chains are never led to in the transaction that makes them: a packet that entered before
//! would find them empty.
//!
//! What is *not* excluded: a packet that is held up inside of its judgement, which takes a
//! microsecond, for longer than the time between two transactions.

mod by_elements;
mod change;
mod version;

use std::collections::BTreeMap;

use netpol_core::model::Family;

pub use self::change::{Change, Purpose, Step};
use crate::ruleset::{Difference, Ownership, Ruleset, SetDifference, Table, TableDifference};

/// The way from one ruleset to another, in transactions to be made one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    steps: Vec<Step>,
    target: Ruleset,
}

impl Plan {
    /// Plans the way from what is in force to what is wanted. `present` is `None` where our tables
    /// do not exist; it may hold anything that can be read back.
    ///
    /// `O(n log n)` in the elements of both.
    #[must_use]
    pub fn new(present: Option<&Ruleset>, wanted: Ruleset) -> Self {
        let mut steps = Steps::default();
        let gone = present.into_iter().flat_map(|it| it.tables.keys());
        for family in gone.filter(|family| !wanted.tables.contains_key(family)) {
            steps.put(*family, Purpose::Clean, Change::DeleteTable);
        }
        for (family, table) in wanted.tables {
            let found = present.and_then(|it| it.tables.get(&family));
            let replaces = found.is_some_and(|found| !can_become(found, &table));
            let old = found.filter(|_| !replaces);
            steps.replacing = replaces;
            if replaces {
                steps.put(family, Purpose::Replace, Change::DeleteTable);
            }
            if old.is_none() {
                let owned = table.ownership == Ownership::Owned;
                let comment = table.comment.clone();
                steps.put(family, Purpose::Prepare, Change::CreateTable { comment, owned });
            }
            if old.is_some_and(|old| old.ownership != table.ownership) {
                steps.put(family, Purpose::Prepare, Change::ClaimTable);
            }
            let old = old.unwrap_or(const { &Table::EMPTY });
            let new = version::as_in_force(table, old);
            steps.between(family, old, TableDifference::between(old, &new));
        }
        let steps = steps.finish();
        let nothing = || Ruleset { name: wanted.name.clone(), tables: BTreeMap::new() };
        let mut target = present.cloned().unwrap_or_else(nothing);
        target.name.clone_from(&wanted.name);
        steps.iter().for_each(|step| step.apply(&mut target));
        Self { steps, target }
    }

    /// The transactions, in order; none if there is nothing to do.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What is in force after the last step: the wanted ruleset, but that the names of some sets
    /// carry a version, and that some sets have more room.
    #[must_use]
    pub fn target(&self) -> &Ruleset {
        &self.target
    }

    pub(crate) fn into_steps(self) -> Vec<Step> {
        self.steps
    }
}

/// The steps that change what is in force, by what differs from it in the names that a rendering
/// gives. `O(m + n)` for `m` differing elements and `n` chains.
pub(crate) fn amend(present: &Ruleset, difference: Difference) -> Vec<Step> {
    let mut steps = Steps::default();
    for (family, difference) in difference {
        if let Some(old) = present.tables.get(&family).filter(|_| !difference.is_empty()) {
            steps.between(family, old, version::localised(difference, old));
        }
    }
    steps.finish()
}

/// Whether nothing in `found` is in the way: the kernel does not say all about other kinds of
/// objects, and neither chains can be given another hook or comment, nor tables an owner unless
/// they had one.
fn can_become(found: &Table, wanted: &Table) -> bool {
    let fits = |(name, wanted): (&_, &crate::ruleset::Chain)| match found.chains.get(name) {
        Some(found) => wanted.base == found.base && wanted.comment == found.comment,
        None => true,
    };
    let claimable = found.ownership == wanted.ownership
        || (found.ownership, wanted.ownership) == (Ownership::Orphaned, Ownership::Owned);
    let chains_fit = wanted.chains.iter().all(fits);
    claimable && found.foreign.is_empty() && found.comment == wanted.comment && chains_fit
}

/// Collects changes by what they are for.
#[derive(Default)]
struct Steps {
    by_purpose: BTreeMap<Purpose, Vec<(Family, Change)>>,
    /// A table is made anew, in one transaction.
    replacing: bool,
}

impl Steps {
    fn put(&mut self, family: Family, purpose: Purpose, change: Change) {
        let purpose = if self.replacing { Purpose::Replace } else { purpose };
        self.by_purpose.entry(purpose).or_default().push((family, change));
    }

    fn finish(self) -> Vec<Step> {
        let steps = self.by_purpose.into_iter();
        steps.map(|(purpose, changes)| Step::new(purpose, changes)).collect()
    }

    /// Plans the changes of one table.
    fn between(&mut self, family: Family, old: &Table, mut difference: TableDifference) {
        let differing = by_elements::differing(old, &difference);
        let by_elements = by_elements::changes(old, &difference, &differing);
        let mut beside = Vec::new();
        let changes = by_elements.unwrap_or_else(|| {
            let (exempting, others): (Vec<_>, Vec<_>) =
                differing.iter().partition(|(_, set)| set.exempts());
            beside.extend(others.into_iter().map(|(name, _)| (*name).clone()));
            exempting.into_iter().flat_map(|(name, set)| set.exemptions(name)).collect()
        });
        drop(differing);
        changes.into_iter().for_each(|(purpose, change)| self.put(family, purpose, change));
        version::put_beside(&beside, &mut difference, old);
        for (name, chain) in difference.chains {
            match (old.chains.get(&name), chain) {
                (Some(found), Some(chain)) if found.rules == chain.rules => {}
                (Some(_), Some(chain)) => {
                    self.put(family, Purpose::Switch, Change::ReplaceRules(name, chain.rules));
                }
                (None, Some(chain)) => {
                    let inner = chain.base.is_none();
                    let purpose = if inner { Purpose::Prepare } else { Purpose::Switch };
                    self.put(family, purpose, Change::CreateChain(name, chain));
                }
                (Some(_), None) => self.put(family, Purpose::Clean, Change::DeleteChain(name)),
                (None, None) => {}
            }
        }
        for (name, set) in difference.sets {
            match (old.sets.contains_key(&name), set) {
                (false, SetDifference::Whole(set)) => {
                    self.put(family, Purpose::Prepare, Change::CreateSet(name, set));
                }
                (true, SetDifference::Gone) => {
                    self.put(family, Purpose::Clean, Change::DeleteSet(name));
                }
                _ => {}
            }
        }
    }
}
