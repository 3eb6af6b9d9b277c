//! How to get from one ruleset to another without a moment in which a packet is judged by anything
//! but the one or the other.
//!
//! `iptables-restore` switches all chains of one family at once: a packet meets the old rules or the
//! new ones. `ipset restore` goes line by line, and a packet meets every set as it is at that
//! instant. So the calls of the tools are ordered:
//!
//! | step      | what it changes                                            | to packets       |
//! |-----------|------------------------------------------------------------|------------------|
//! | `Prepare` | new sets, which no rule uses yet                           | nothing          |
//! | `Close`   | elements that deny more: peers leave                       | only denies more |
//! | `Switch`  | the rules, one call per family                             | old to new       |
//! | `Open`    | elements that allow more: peers join                       | only allows more |
//! | `Clean`   | sets that no rule uses any more                            | nothing          |
//!
//! Every direction of a packet's judgement asks one set, once. Before the switch it asks the set that
//! the old rules name, which has lost what the new program does not have in it; afterwards the set
//! that the new rules name, which has not gained anything yet. So nothing passes that neither program
//! allows. Opening first would let through what leaves by the one direction and enters by the other.
//!
//! And nothing is dropped that both allow, as long as both name the same set. Where an endpoint gets
//! other chains in the same change, it may be another one: so the sets behind these chains, if they
//! change for anybody but the endpoint itself, are made anew beside the old ones, under a name with a
//! version (`netpol-4-9f3c.1`), and are switched with the rules. The same is done where a set cannot
//! be changed in place: where anything but single addresses differs, or where the last element of a
//! prefix length goes, during which the kernel may skip another length.

mod elements;
mod step;
mod version;

use std::collections::{BTreeMap, BTreeSet};

use netpol_core::model::Family;

pub use self::step::{Purpose, RuleChanges, SetChange, Step, Tool};
use crate::ruleset::{Hook, Ruleset, Table};

/// The way from one ruleset to another, in calls to be made one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    steps: Vec<Step>,
    target: Ruleset,
}

impl Plan {
    /// Plans the way from what is in force to what is wanted, for the families that are wanted.
    /// `present` may hold anything that can be read back.
    ///
    /// `O(n log n)` in the elements of both.
    #[must_use]
    pub fn new(present: &Ruleset, wanted: Ruleset) -> Self {
        let mut sets: BTreeMap<Purpose, Vec<SetChange>> = BTreeMap::new();
        let mut switches = Vec::new();
        let mut tables = BTreeMap::new();
        let name = wanted.name.clone();
        for (family, table) in wanted.tables {
            let old = present.tables.get(&family).unwrap_or(const { &Table::EMPTY });
            let mut new = version::as_in_force(table, old);
            new = version::beside(elements::not_in_place(&name, old, &new), new, old);
            let rules = rule_changes(family, old, &new);
            if !rules.is_empty() {
                switches.push(Step::Rules(rules));
            }
            let mut put = |purpose, change| sets.entry(purpose).or_default().push(change);
            for (set, wanted) in &new.sets {
                match old.sets.get(set) {
                    Some(found) => elements::changes(set, found, wanted, &new)
                        .into_iter()
                        .for_each(|(purpose, change)| put(purpose, change)),
                    None => put(
                        Purpose::Prepare,
                        SetChange::Create(family, set.clone(), wanted.clone()),
                    ),
                }
            }
            for set in old.sets.keys().filter(|set| !new.sets.contains_key(*set)) {
                put(Purpose::Clean, SetChange::Destroy(set.clone()));
            }
            tables.insert(family, new);
        }
        let step = |(purpose, changes)| Step::Sets { purpose, changes };
        let after = sets.split_off(&Purpose::Switch);
        let steps =
            sets.into_iter().map(step).chain(switches).chain(after.into_iter().map(step)).collect();
        Self { steps, target: Ruleset { name, tables } }
    }

    /// The steps, in order; none if there is nothing to do.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What is in force after the last step: the wanted ruleset, but that the names of some sets
    /// carry a version.
    #[must_use]
    pub fn target(&self) -> &Ruleset {
        &self.target
    }

    pub(crate) fn into_target(self) -> Ruleset {
        self.target
    }
}

fn rule_changes(family: Family, old: &Table, new: &Table) -> RuleChanges {
    let chains = new.chains.iter().filter(|(name, rules)| old.chains.get(*name) != Some(*rules));
    let deleted = old.chains.keys().filter(|name| !new.chains.contains_key(*name));
    let place = |table: &Table, hook| table.jumps.get(hook).cloned().unwrap_or_default();
    let hooks: BTreeSet<&Hook> = old.jumps.keys().chain(new.jumps.keys()).collect();
    let jumps = hooks.into_iter().filter(|hook| place(old, hook) != place(new, hook));
    RuleChanges {
        family,
        chains: chains.map(|(name, rules)| (name.clone(), rules.clone())).collect(),
        deleted: deleted.cloned().collect(),
        jumps: jumps.map(|hook| (*hook, (place(old, hook).len(), place(new, hook)))).collect(),
    }
}
