//! One transaction of a plan.

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

    /// The same in several transactions, for where one of this size is not possible: each changes
    /// about so many `elements` at most, beside what cannot be put off. `None` if the step has to be
    /// one transaction.
    ///
    /// What nothing leads to may be made piece by piece; and of elements that only deny more, or only
    /// allow more, a part does so as well.
    #[must_use]
    pub fn split(&self, elements: usize) -> Option<Vec<Self>> {
        if matches!(self.purpose, Purpose::Replace | Purpose::Switch) || elements == 0 {
            return None;
        }
        let mut room = elements;
        let mut later = Vec::new();
        let first = self.changes.iter().cloned().filter_map(|(family, change)| {
            let (change, rest) = change.cut(room);
            room -= change.as_ref().map_or(0, Change::elements).min(room);
            later.extend(rest.map(|rest| (family, rest)));
            Some((family, change?))
        });
        let mut steps = vec![Self { purpose: self.purpose, changes: first.collect() }];
        for (family, change) in later {
            let mut rest = Some(change);
            while let Some(change) = rest {
                // Of a map there is no more than one piece: see `cut`.
                let (piece, others) = change.cut(elements);
                let changes = piece.map(|piece| (family, piece)).into_iter().collect();
                steps.push(Self { purpose: self.purpose, changes });
                rest = others;
            }
        }
        (steps.len() > 1).then_some(steps)
    }

    /// How many elements it changes.
    pub(crate) fn elements(&self) -> usize {
        self.changes.iter().map(|(_, change)| change.elements()).sum()
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
    fn elements(&self) -> usize {
        match self {
            Self::CreateSet(_, set) => set.elements.len(),
            Self::AddElements(_, elements) | Self::DeleteElements(_, elements) => elements.len(),
            _ => 0,
        }
    }

    /// Divides a change after so many elements. Those of maps that are in use are replaced within
    /// one transaction, so they stay together.
    fn cut(self, at: usize) -> (Option<Self>, Option<Self>) {
        let divide = |mut elements: Elements| {
            let rest = elements.split_off(at);
            (elements, rest)
        };
        let some = |change: fn(Name, Elements) -> Self, name: &Name, elements: Elements| {
            (!elements.is_empty()).then(|| change(name.clone(), elements))
        };
        match self {
            Self::CreateSet(name, set) => {
                let (elements, rest) = divide(set.elements);
                let rest = some(Self::AddElements, &name, rest);
                (Some(Self::CreateSet(name, Set { elements, ..set })), rest)
            }
            Self::AddElements(name, elements) if !elements.is_map() => {
                let (elements, rest) = divide(elements);
                let first = some(Self::AddElements, &name, elements);
                (first, some(Self::AddElements, &name, rest))
            }
            Self::DeleteElements(name, elements) if !elements.is_map() => {
                let (elements, rest) = divide(elements);
                let first = some(Self::DeleteElements, &name, elements);
                (first, some(Self::DeleteElements, &name, rest))
            }
            other => (Some(other), None),
        }
    }

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
    /// Divides the elements after the first so many.
    fn split_off(&mut self, at: usize) -> Self {
        fn rest<T>(list: &mut Vec<T>, at: usize) -> Vec<T> {
            list.split_off(at.min(list.len()))
        }
        match self {
            Self::Addresses(list) => Self::Addresses(rest(list, at)),
            Self::AddressPairs(list) => Self::AddressPairs(rest(list, at)),
            Self::AddressRanges(list) => Self::AddressRanges(rest(list, at)),
            Self::AddressVerdicts(list) => Self::AddressVerdicts(rest(list, at)),
            Self::InterfaceVerdicts(list) => Self::InterfaceVerdicts(rest(list, at)),
            Self::PairVerdicts(list) => Self::PairVerdicts(rest(list, at)),
            Self::PortVerdicts(list) => Self::PortVerdicts(rest(list, at)),
            Self::PortRangeVerdicts(list) => Self::PortRangeVerdicts(rest(list, at)),
        }
    }
}
