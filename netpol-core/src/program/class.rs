use std::sync::Arc;

use crate::model::Action;

use super::{AtomId, IdentityId, SortedSet, Verdict};

/// A verdict for every identity: the other ends that a profile allows on one or more ports.
///
/// Profiles share it where their policies ask the same of the other end. It is defined by what it asks
/// ([`Program::class_text`](super::Program::class_text)), not by who fulfils it today: a pod that joins or leaves
/// changes a class in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    pub(crate) default: Verdict,
    /// The identities with the other verdict.
    pub(crate) exceptions: SortedSet<IdentityId>,
    pub(crate) own_node: OwnNode,
    pub(crate) stack: Arc<Stack>,
}

/// Whether traffic with the endpoint's own node is allowed although the class denies it (NP-NODE-1). That depends on
/// the identity of the node's address where the Admin tier decides for some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OwnNode {
    Never,
    AllBut(Box<SortedSet<IdentityId>>),
    Only(Box<SortedSet<IdentityId>>),
}

/// Index of a [`Class`] in its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassId(pub(crate) u32);

/// What a class asks of the other end, tier by tier, in normal form: the definition that its verdicts follow from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Stack {
    pub(crate) admin: Vec<Segment>,
    /// `None` if the endpoint is not isolated.
    pub(crate) network: Option<Terms>,
    pub(crate) baseline: Vec<Segment>,
    /// The endpoint's own node is allowed unless the Admin tier denies it.
    pub(crate) own_node: bool,
}

/// Successive rules of one action.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Segment {
    pub(crate) action: Action,
    pub(crate) terms: Terms,
}

/// A union of atoms.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Terms {
    /// Every other end.
    Everyone,
    /// Whoever answers one of them, in ascending order; possibly nobody.
    AnyOf(Vec<AtomId>),
}

impl ClassId {
    pub(crate) const NONE: Self = Self(u32::MAX);
}

impl Class {
    /// Allows nobody.
    pub(crate) fn nobody() -> Self {
        let (exceptions, own_node) = (SortedSet::EMPTY, OwnNode::Never);
        Self { default: Verdict::Deny, exceptions, own_node, stack: Arc::default() }
    }

    /// The verdict for an identity, the exemption of the own node aside. `O(log n)` in the exceptions.
    #[inline]
    pub fn verdict(&self, identity: IdentityId) -> Verdict {
        if self.exceptions.contains(identity) { self.default.opposite() } else { self.default }
    }

    /// Whether an address of this identity is allowed if it is the endpoint's own node's.
    pub(super) fn allows_own_node(&self, identity: IdentityId) -> bool {
        match &self.own_node {
            OwnNode::Never => false,
            OwnNode::AllBut(denied) => !denied.contains(identity),
            OwnNode::Only(allowed) => allowed.contains(identity),
        }
    }

    /// Whether it is NetworkPolicies that deny an end for which exactly these atoms hold, given that it is denied.
    pub(super) fn denies_by_network_policy(&self, atoms: &[AtomId]) -> bool {
        self.stack.network.is_some() && self.stack.admin_action(atoms) != Some(Action::Deny)
    }

    /// The verdict for every other end, if there is no exception.
    pub fn constant(&self) -> Option<Verdict> {
        let constant = self.exceptions.is_empty()
            && (self.own_node == OwnNode::Never || self.default == Verdict::Allow);
        constant.then_some(self.default)
    }
}

impl Stack {
    /// What it says of an end for which exactly these atoms hold.
    pub(crate) fn verdict(&self, atoms: &[AtomId]) -> Verdict {
        match first_match(&self.admin, atoms) {
            Some(Action::Accept) => return Verdict::Allow,
            Some(Action::Deny) => return Verdict::Deny,
            Some(Action::Pass) | None => {}
        }
        let allowed = match &self.network {
            Some(terms) => terms.include(atoms),
            None => first_match(&self.baseline, atoms) != Some(Action::Deny),
        };
        if allowed { Verdict::Allow } else { Verdict::Deny }
    }

    /// What the Admin tier says of it.
    pub(crate) fn admin_action(&self, atoms: &[AtomId]) -> Option<Action> {
        first_match(&self.admin, atoms)
    }

    /// All atoms that it asks for, possibly some more than once.
    pub(crate) fn atoms(&self) -> impl Iterator<Item = AtomId> {
        let segments = self.admin.iter().chain(&self.baseline).map(|segment| &segment.terms);
        segments
            .chain(&self.network)
            .flat_map(|terms| match terms {
                Terms::Everyone => &[][..],
                Terms::AnyOf(atoms) => atoms,
            })
            .copied()
    }

    /// It denies by default, and rules only ever add to it.
    pub(crate) fn is_union(&self) -> bool {
        self.admin.is_empty() && matches!(self.network, Some(Terms::AnyOf(_)))
    }
}

fn first_match(segments: &[Segment], atoms: &[AtomId]) -> Option<Action> {
    segments.iter().find(|segment| segment.terms.include(atoms)).map(|segment| segment.action)
}

impl Terms {
    /// Whether an end for which exactly these atoms hold is included. Both lists are sorted; the shorter one is looked
    /// up in the longer.
    pub(crate) fn include(&self, holding: &[AtomId]) -> bool {
        let Self::AnyOf(asked) = self else { return true };
        let (few, many) = match asked.len() < holding.len() {
            true => (asked.as_slice(), holding),
            false => (holding, asked.as_slice()),
        };
        few.iter().any(|atom| many.binary_search(atom).is_ok())
    }
}
