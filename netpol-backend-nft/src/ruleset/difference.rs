//! What differs between two rulesets, object by object.

use std::collections::BTreeMap;

use super::{Chain, Elements, Family, Name, Set, Table};

/// What has to change in each table.
pub(crate) type Difference = BTreeMap<Family, TableDifference>;

/// What has to change in a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TableDifference {
    pub(crate) sets: BTreeMap<Name, SetDifference>,
    /// Chains as they have to be; `None` for those that go.
    pub(crate) chains: BTreeMap<Name, Option<Chain>>,
}

/// What has to become of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SetDifference {
    /// It is new, or has to be as this one.
    Whole(Set),
    /// The same with other elements, all ascending. An element whose value differs is removed and
    /// added.
    Elements {
        /// What is in it and goes.
        removed: Elements,
        /// What comes.
        added: Elements,
        /// The declared size of a set of its own.
        size: Option<u32>,
    },
    /// It goes.
    Gone,
}

impl TableDifference {
    /// What makes one table of the other, by comparing everything. The comment and the ownership of
    /// the tables are not looked at.
    pub(crate) fn between(old: &Table, new: &Table) -> Self {
        let mut difference = Self::default();
        for name in old.sets.keys().filter(|name| !new.sets.contains_key(*name)) {
            difference.sets.insert(name.clone(), SetDifference::Gone);
        }
        for (name, set) in new.sets.iter().filter(|(name, set)| old.sets.get(*name) != Some(set)) {
            difference.sets.insert(name.clone(), SetDifference::Whole(set.clone()));
        }
        for name in old.chains.keys().filter(|name| !new.chains.contains_key(*name)) {
            difference.chains.insert(name.clone(), None);
        }
        for (name, chain) in &new.chains {
            if old.chains.get(name).is_none_or(|found| found.rules != chain.rules) {
                difference.chains.insert(name.clone(), Some(chain.clone()));
            }
        }
        difference
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.chains.is_empty()
    }

    /// Makes the new table of the old one.
    pub(crate) fn apply(self, table: &mut Table) {
        for (name, difference) in self.sets {
            match difference {
                SetDifference::Whole(set) => drop(table.sets.insert(name, set)),
                SetDifference::Gone => drop(table.sets.remove(&name)),
                SetDifference::Elements { removed, added, size } => {
                    if let Some(set) = table.sets.get_mut(&name) {
                        set.elements.remove(&removed);
                        set.elements.insert(&added);
                        set.size = size;
                    }
                }
            }
        }
        for (name, chain) in self.chains {
            match chain {
                Some(chain) => drop(table.chains.insert(name, chain)),
                None => drop(table.chains.remove(&name)),
            }
        }
    }
}

impl Elements {
    /// What has to be removed from here, and what to be added, to get to `new`; `None` if that is
    /// another kind of set. An element whose value differs is removed and added.
    pub(crate) fn difference(&self, new: &Self) -> Option<(Self, Self)> {
        macro_rules! differences {
            ($($kind:ident),*) => {
                match (self, new) {
                    $((Self::$kind(a), Self::$kind(b)) => {
                        let (removed, added) = difference(a, b);
                        Some((Self::$kind(removed), Self::$kind(added)))
                    })*
                    _ => None,
                }
            };
        }
        differences!(
            Addresses,
            AddressPairs,
            AddressRanges,
            AddressVerdicts,
            InterfaceVerdicts,
            PairVerdicts,
            PortVerdicts,
            PortRangeVerdicts
        )
    }

    /// Takes elements out.
    pub(crate) fn remove(&mut self, elements: &Self) {
        match (self, elements) {
            (Self::Addresses(a), Self::Addresses(b)) => remove(a, b),
            (Self::AddressPairs(a), Self::AddressPairs(b)) => remove(a, b),
            (Self::AddressRanges(a), Self::AddressRanges(b)) => remove(a, b),
            (Self::AddressVerdicts(a), Self::AddressVerdicts(b)) => remove(a, b),
            (Self::InterfaceVerdicts(a), Self::InterfaceVerdicts(b)) => remove(a, b),
            (Self::PairVerdicts(a), Self::PairVerdicts(b)) => remove(a, b),
            (Self::PortVerdicts(a), Self::PortVerdicts(b)) => remove(a, b),
            (Self::PortRangeVerdicts(a), Self::PortRangeVerdicts(b)) => remove(a, b),
            _ => {}
        }
    }

    /// Puts elements in.
    pub(crate) fn insert(&mut self, elements: &Self) {
        match (self, elements) {
            (Self::Addresses(a), Self::Addresses(b)) => insert(a, b),
            (Self::AddressPairs(a), Self::AddressPairs(b)) => insert(a, b),
            (Self::AddressRanges(a), Self::AddressRanges(b)) => insert(a, b),
            (Self::AddressVerdicts(a), Self::AddressVerdicts(b)) => insert(a, b),
            (Self::InterfaceVerdicts(a), Self::InterfaceVerdicts(b)) => insert(a, b),
            (Self::PairVerdicts(a), Self::PairVerdicts(b)) => insert(a, b),
            (Self::PortVerdicts(a), Self::PortVerdicts(b)) => insert(a, b),
            (Self::PortRangeVerdicts(a), Self::PortRangeVerdicts(b)) => insert(a, b),
            _ => {}
        }
    }
}

/// What only the first, and what only the second of two ascending lists holds.
pub(crate) fn difference<T: Ord + Clone>(old: &[T], new: &[T]) -> (Vec<T>, Vec<T>) {
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

/// So many elements are moved one by one at most: each makes room in an array.
const FEW: usize = 8;

fn remove<T: Ord + Clone>(all: &mut Vec<T>, some: &[T]) {
    if some.len() > FEW {
        all.retain(|element| some.binary_search(element).is_err());
        return;
    }
    for element in some {
        if let Ok(at) = all.binary_search(element) {
            all.remove(at);
        }
    }
}

fn insert<T: Ord + Clone>(all: &mut Vec<T>, some: &[T]) {
    if some.len() > FEW {
        // Two ascending runs: the sort merges them.
        all.extend_from_slice(some);
        all.sort();
        all.dedup();
        return;
    }
    for element in some {
        if let Err(at) = all.binary_search(element) {
            all.insert(at, element.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_each_other() {
        for (old, new) in [(0..0, 0..50), (0..50, 0..0), (0..50, 25..75), (10..12, 8..15)] {
            let (old, new): (Vec<i32>, Vec<i32>) = (old.collect(), new.collect());
            let (removed, added) = difference(&old, &new);
            let mut list = old.clone();
            remove(&mut list, &removed);
            insert(&mut list, &added);
            assert_eq!(list, new);
        }
    }
}
