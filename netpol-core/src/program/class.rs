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
    pub(crate) own_node: OwnNode,
    pub(crate) stack: Stack,
}

/// Whether traffic with the endpoint's own node is allowed although the class denies it (NP-NODE-1). That depends on
/// the identity of the node's address where the Admin tier decides for some. Ids are in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OwnNode {
    Never,
    AllBut(Vec<IdentityId>),
    Only(Vec<IdentityId>),
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
        own_node: OwnNode::Never,
        stack: Stack { admin: Vec::new(), network: None, baseline: Vec::new(), own_node: false },
    };

    /// The verdict for an identity, the exemption of the own node aside. `O(log n)` in the exceptions.
    pub fn verdict(&self, identity: IdentityId) -> Verdict {
        match self.exceptions.binary_search(&identity) {
            Ok(_) => self.default.opposite(),
            Err(_) => self.default,
        }
    }

    /// Whether an address of this identity is allowed if it is the endpoint's own node's.
    pub(super) fn allows_own_node(&self, identity: IdentityId) -> bool {
        match &self.own_node {
            OwnNode::Never => false,
            OwnNode::AllBut(denied) => denied.binary_search(&identity).is_err(),
            OwnNode::Only(allowed) => allowed.binary_search(&identity).is_ok(),
        }
    }

    /// A name for what it asks of the other end: the same in every program and process, and unique in a program.
    pub fn key(&self) -> u128 {
        self.key
    }

    /// The verdict for every other end, if there is no exception.
    pub fn constant(&self) -> Option<Verdict> {
        let constant = self.exceptions.is_empty()
            && (self.own_node == OwnNode::Never || self.default == Verdict::Allow);
        constant.then_some(self.default)
    }
}
