use crate::model::Action;

use super::{AtomId, IdentityId, Verdict};

/// A verdict for every identity: the other ends that a profile allows on one or more ports.
///
/// Profiles share it where their policies ask the same of the other end. It is named by what it asks
/// ([`key`](Self::key)), not by who fulfils it today: a pod that joins or leaves changes a class in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    pub(crate) key: u128,
    pub(crate) default: Verdict,
    /// The identities with the other verdict, in ascending order.
    pub(crate) exceptions: Vec<IdentityId>,
    /// Traffic with the endpoint's own node is allowed, but for these identities, in ascending order (NP-NODE-1).
    pub(crate) own_node: Option<Vec<IdentityId>>,
    pub(crate) stack: Stack,
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
    pub(crate) const NOBODY: Self = Self {
        key: 0,
        default: Verdict::Deny,
        exceptions: Vec::new(),
        own_node: None,
        stack: Stack { admin: Vec::new(), network: None, baseline: Vec::new(), own_node: false },
    };

    /// The verdict for an identity, the exemption of the own node aside. `O(log n)` in the exceptions.
    pub fn verdict(&self, identity: IdentityId) -> Verdict {
        match self.exceptions.binary_search(&identity) {
            Ok(_) => self.default.opposite(),
            Err(_) => self.default,
        }
    }

    /// A name for what it asks of the other end: the same in every program and process, and unique in a program.
    pub fn key(&self) -> u128 {
        self.key
    }

    /// The verdict for every other end, if there is no exception.
    pub fn constant(&self) -> Option<Verdict> {
        let constant = self.exceptions.is_empty()
            && (self.own_node.is_none() || self.default == Verdict::Allow);
        constant.then_some(self.default)
    }
}
