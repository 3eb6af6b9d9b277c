//! Chains, rules and sets as a value: what [`render`](crate::render) makes of a program, what is
//! written with the tools and read back from them, and what can be asked about packets.
//!
//! The model holds the few matches and targets that this crate renders. Everything else that is
//! found in a chain or set of ours was put there by somebody else, and is kept as text.

mod blocks;
mod interpret;
mod parse;
mod text;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

pub use netpol_backend_nft::ruleset::{Hook, Packet, Side, Standing, Transport};
use netpol_core::model::{Family, PortRange};

pub use self::blocks::Block;
pub(crate) use self::blocks::covering;
pub use self::interpret::Undecided;
pub use self::parse::{Counters, ParseError};
pub(crate) use self::text::{add, create, delete, hook_name, restore};
pub use crate::name::{Comment, Instance, Name};

/// What is ours in the filter tables of one or both families, and the sets that belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// What all names of chains and sets begin with.
    pub name: Instance,
    /// By family.
    pub tables: BTreeMap<Family, Table>,
}

/// What is ours in one family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// At which places of a built-in chain the rule is that jumps to our chain for the hook; right
    /// is the first place, 0, alone.
    pub jumps: BTreeMap<Hook, Vec<usize>>,
    /// Chains.
    pub chains: BTreeMap<Name, Vec<Rule>>,
    /// Sets; shared between rulesets, since they may be large.
    pub sets: BTreeMap<Name, Arc<Set>>,
}

impl Table {
    pub(crate) const EMPTY: Self =
        Self { jumps: BTreeMap::new(), chains: BTreeMap::new(), sets: BTreeMap::new() };

    /// Whether nothing of ours is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }
}

/// A rule: if all of the matches do, its target is what happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The matches, addresses and protocol first.
    pub matches: Vec<Match>,
    /// The target.
    pub target: Target,
}

impl Rule {
    /// A rule without a remark.
    pub fn new(matches: impl Into<Vec<Match>>, target: Target) -> Self {
        Self { matches: matches.into(), target }
    }

    /// The set that it looks addresses up in.
    #[must_use]
    pub fn set(&self) -> Option<(&Name, Side, bool)> {
        self.matches.iter().find_map(|it| match it {
            Match::InSet { set, side, inverted } => Some((set, *side, *inverted)),
            _ => None,
        })
    }
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// `-s`: the packet comes from a block.
    Source(Block),
    /// `-d`: the packet goes to a block.
    Destination(Block),
    /// `-p`: the transport protocol, by its number.
    Protocol(u8),
    /// `-m conntrack --ctstate RELATED,ESTABLISHED`: a packet of a known connection, or an error
    /// about one.
    Established,
    /// `-m conntrack --ctstate UNTRACKED`: connection tracking was told to leave the packet alone.
    Untracked,
    /// `-m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN`: a TCP packet that begins no connection.
    TcpUnderWay,
    /// `-m sctp ! --chunk-types any INIT`: an SCTP packet that begins no association.
    SctpUnderWay,
    /// `--dport`, `-m multiport --dports`: the destination port is in one of up to 15 slots; a range
    /// takes two.
    Ports(Vec<PortRange>),
    /// `-m icmp6 --icmpv6-type`: the type of the message.
    IcmpType(u8),
    /// `-m set --match-set`: an address is in a set, or is not.
    InSet {
        /// The set.
        set: Name,
        /// Which address of the packet.
        side: Side,
        /// It must not be in the set.
        inverted: bool,
    },
    /// `-m limit`: at most so many per second, and a few more at once. Only ever in front of
    /// reports.
    Limit(u32),
    /// `-m comment`: a remark.
    Comment(Comment),
    /// A rule that this crate does not write, as a whole; found only where somebody else changed our
    /// chains.
    Foreign(String),
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Back to where the last jump came from. What we allow is left to the rules of others behind
    /// ours.
    Return,
    /// It is gone.
    Drop,
    /// Into a chain, and back here at its end.
    Jump(Name),
    /// Into a chain for good.
    Goto(Name),
    /// Reports the packet to user space, and goes on.
    Report {
        /// The NFLOG group to report to.
        group: u16,
        /// A text for the report.
        prefix: Comment,
    },
}

impl Target {
    /// The chain that it leads to.
    #[must_use]
    pub fn chain(&self) -> Option<&Name> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            _ => None,
        }
    }
}

/// A set of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Set {
    /// `hash:ip`: single addresses, ascending.
    Addresses(Vec<IpAddr>),
    /// `hash:net`: blocks, ascending. The smallest that an address is in counts: whether it is in
    /// the set, or an exception (`nomatch`).
    Blocks(Vec<(Block, bool)>),
    /// A set that this crate would not make: somebody else's under a name of ours.
    Foreign(String),
}

impl Set {
    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Addresses(list) => list.len(),
            Self::Blocks(list) => list.len(),
            Self::Foreign(_) => 0,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an address is in the set; `None` if that cannot be told.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> Option<bool> {
        match self {
            Self::Addresses(list) => Some(list.binary_search(&address).is_ok()),
            Self::Blocks(list) => Some(blocks::contains(list, address)),
            Self::Foreign(_) => None,
        }
    }
}
