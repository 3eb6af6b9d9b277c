use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::model::{Block, DomainPattern, Name, PodSelector, Protocol, Selector};

use super::SortedSet;

/// A question about one end of a connection that a rule can ask: the unit that identities are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Atom {
    /// Is it an ordinary pod that these selectors match? With `host` also host-network pods count, which stand for
    /// their node's addresses (CH-HOST-PEER).
    Pods { selector: PodSelector, host: bool },
    /// Is its address in this block?
    Block(Block),
    /// Is its address one of a matching node?
    Nodes(Selector),
    /// Is its address one that a matching name was seen to stand for?
    Domain(DomainPattern),
    /// Does it declare this port, and does the other term hold?
    Declares(Declares),
}

/// A destination that declares a port name as this protocol and number (NP-PORT-8).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Declares {
    pub(crate) name: Name,
    pub(crate) protocol: Protocol,
    pub(crate) number: u16,
    /// What else must hold.
    pub(crate) also: Option<Term>,
    /// Host-network pods count by their node's addresses (CH-NAME-HOST).
    pub(crate) host: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AtomId(pub(crate) u32);

/// What a rule asks of the other end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Term {
    Atom(AtomId),
    Within(Within),
}

/// Is its address in a block, and in no part that is left out of it? All are blocks without parts: so are told apart
/// those that leave out so many different parts of the same block that to ask for each by itself would be too much.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Within {
    pub(crate) block: AtomId,
    /// In ascending order.
    pub(crate) except: Arc<[AtomId]>,
}

impl Term {
    /// Whether it holds for an end for which exactly these atoms hold, in any order.
    pub(crate) fn holds(&self, holding: &[AtomId]) -> bool {
        match self {
            Self::Atom(atom) => holding.contains(atom),
            Self::Within(within) => within.holds(|atom| holding.contains(&atom)),
        }
    }
}

impl Within {
    /// Whether it holds where these atoms do.
    pub(crate) fn holds(&self, holds: impl Fn(AtomId) -> bool) -> bool {
        holds(self.block) && !self.except.iter().any(|atom| holds(*atom))
    }
}

/// All ends that answer every [`Atom`] alike.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    /// The atoms that hold, in ascending order.
    pub(crate) atoms: Arc<[AtomId]>,
    /// The addresses of endpoints, nodes and domain names that belong to it.
    pub(crate) addresses: SortedSet<IpAddr>,
    /// The blocks of which all addresses that have none of their own, and that no other block inside covers, belong to
    /// it.
    pub(crate) blocks: SortedSet<IpNet>,
}
