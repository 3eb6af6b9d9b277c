mod compare;
mod special;

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::model::{Direction, End, Flow, Name};

use super::{Program, TrafficRange, Verdict};
use compare::Comparison;

/// What becomes allowed and what becomes denied from one program to another, whatever their policies look like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The verdicts that change, of endpoints that both programs police.
    pub cells: Vec<Cell>,
    /// Namespace and name of the endpoints that only the second program polices.
    pub added: Vec<(Name, Name)>,
    /// Namespace and name of the endpoints that only the first program polices.
    pub removed: Vec<(Name, Name)>,
    /// Addresses and names that stand for another endpoint, as far as this does not follow from the two lists above.
    pub moved: Vec<Moved>,
}

/// Connections whose verdict changes: of each of the subjects, with each of the peers, by any of the traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Whose side of the connections it is.
    pub direction: Direction,
    /// What the second program says; the first says the opposite.
    pub verdict: Verdict,
    /// The endpoints whose policies are asked.
    pub subjects: Vec<DiffSubject>,
    /// The other ends: addresses in ascending order, then names.
    pub peers: Vec<DiffPeer>,
    /// Protocols and destination ports, in order, never adjacent.
    pub traffic: Vec<TrafficRange>,
}

/// An endpoint that both programs police.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiffSubject {
    /// Its namespace; empty for the host-network pods of a node.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
    /// What it goes by in both programs: its addresses and its name.
    pub ends: Vec<End>,
    /// The addresses of the node that it is on, in either program, and the names that stand for them.
    pub own_node: Vec<End>,
}

/// The other end of connections whose verdict changes.
///
/// A subject and its own node are judged as nobody else is, and are told of apart, so that cells may have many
/// subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiffPeer {
    /// Whatever has one of these addresses, other than the subject itself and its own node.
    Addresses(RangeInclusive<IpAddr>),
    /// An endpoint asked about by name, other than those.
    Endpoint {
        /// Its namespace.
        namespace: Name,
        /// Its name.
        name: Name,
    },
    /// The subject's own node (NP-NODE-1): by this address or name, or by any.
    OwnNode(Option<End>),
    /// The subject itself, where that is policed (CH-SELF): by this address or name, or by any.
    Itself(Option<End>),
}

/// An address or a name that stands for another endpoint than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The address or the name.
    pub end: End,
    /// Whose it was, by namespace and name, if it was that of a policed endpoint.
    pub from: Option<(Name, Name)>,
    /// Whose it is now.
    pub to: Option<(Name, Name)>,
}

impl Program {
    /// What another program changes: exactly the verdicts of all possible connections that differ.
    ///
    /// Both are compared over the finite partition of addresses, names, protocols and ports that they induce together.
    /// Left out are ends of a name that neither program knows. The order of the answer depends on nothing but what
    /// the programs say.
    ///
    /// About the product of pairs of classes and pairs of identities; endpoints of equal profiles cost little more
    /// than one. The answer lists peers one by one, so that it is long where many profiles change for many peers.
    ///
    /// What one policy does is [`effect_of`](crate::effect_of).
    pub fn diff(&self, other: &Self) -> Difference {
        if Arc::ptr_eq(&self.inner, &other.inner) {
            return Difference::default();
        }
        Comparison::new([self, other]).run()
    }
}

impl Difference {
    /// Whether both programs mean the same, while `==` on them compares what is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Cell {
    /// Whether it includes this connection, seen from its [direction](Self::direction).
    pub fn covers(&self, flow: &Flow) -> bool {
        let (subject, peer) = match self.direction {
            Direction::Egress => (&flow.source, &flow.destination),
            Direction::Ingress => (&flow.destination, &flow.source),
        };
        let Some(of) = self.subjects.iter().find(|it| it.ends.contains(subject)) else {
            return false;
        };
        let itself = of.ends.contains(peer);
        let own_node = !itself && of.own_node.contains(peer);
        let among = self.peers.iter().any(|it| match (it, peer) {
            (DiffPeer::Itself(end), peer) => itself && end.as_ref().is_none_or(|it| it == peer),
            (DiffPeer::OwnNode(end), peer) => own_node && end.as_ref().is_none_or(|it| it == peer),
            (DiffPeer::Addresses(range), End::Address(address)) => {
                !itself && !own_node && range.contains(address)
            }
            (
                DiffPeer::Endpoint { namespace, name },
                End::Endpoint { namespace: in_, name: called },
            ) => !itself && !own_node && (namespace, name) == (in_, called),
            _ => false,
        });
        among && self.traffic.iter().any(|it| it.contains(flow.traffic))
    }
}
impl fmt::Display for DiffPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(range) if range.start() == range.end() => {
                write!(f, "{}", range.start())
            }
            Self::Addresses(range) => write!(f, "{}-{}", range.start(), range.end()),
            Self::Endpoint { namespace, name } => write!(f, "{namespace}/{name}"),
            Self::OwnNode(None) => f.write_str("its own node"),
            Self::OwnNode(Some(end)) => write!(f, "its own node ({end})"),
            Self::Itself(None) => f.write_str("itself"),
            Self::Itself(Some(end)) => write!(f, "itself ({end})"),
        }
    }
}
