//! An nf_tables ruleset as a value: what [`render`](crate::render) makes of a program, what
//! [`Nft`](crate::Nft) writes to the kernel and reads back from it, and what prints as nft syntax.
//!
//! The model holds the few statements that this crate renders, each with what it needs and no
//! more, so that a rule which the kernel would refuse for its shape cannot be written down.

mod decode;
mod difference;
mod encode;
mod interpret;
mod text;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netpol_core::backend::proof::Path;
pub use netpol_core::model::Family;

pub use crate::name::{Comment, Interface, InterfaceError, Name, NameError};
pub(crate) use decode::{TableReader, element_key};
pub(crate) use difference::{Difference, SetDifference, TableDifference};
pub(crate) use encode::{number, remove, write};
pub use interpret::{Packet, Route, Standing, Transport, Undecided};
pub(crate) use text::keyword;

/// Tables that belong together: the same name in one or both address families.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// The name of all tables.
    pub name: Name,
    /// The tables.
    pub tables: BTreeMap<Family, Table>,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// Who made it.
    pub comment: Option<Comment>,
    /// Who may change it.
    pub ownership: Ownership,
    /// Sets and maps; nf_tables calls both sets.
    pub sets: BTreeMap<Name, Set>,
    /// Chains.
    pub chains: BTreeMap<Name, Chain>,
    /// What else is there that this crate does not write; found only where somebody else changed
    /// the table.
    pub foreign: Vec<String>,
}

impl Table {
    pub(crate) const EMPTY: Self = Self {
        comment: None,
        ownership: Ownership::Shared,
        sets: BTreeMap::new(),
        chains: BTreeMap::new(),
        foreign: Vec::new(),
    };
}

/// Who may change a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ownership {
    /// Anyone with the capability.
    #[default]
    Shared,
    /// One socket alone, as long as it is open.
    Owned,
    /// It was owned, and is free for the next owner.
    Orphaned,
    /// One socket alone; the table ends with it.
    Bound,
}

/// A set, or a map to verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// What it stands for.
    pub comment: Option<Comment>,
    /// How many elements a hash set may hold. The kernel's fastest hash needs to know it; it
    /// refuses elements beyond.
    pub size: Option<u32>,
    /// The elements, which also give the key's type.
    pub elements: Elements,
}

/// The elements of a set, in ascending order of their keys and without duplicates. All addresses
/// are of the table's family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elements {
    /// A hash set of addresses.
    Addresses(Vec<IpAddr>),
    /// A hash set of (source, destination).
    AddressPairs(Vec<(IpAddr, IpAddr)>),
    /// An interval set of (first, last), disjoint and not adjacent.
    AddressRanges(Vec<(IpAddr, IpAddr)>),
    /// A hash map of addresses to verdicts.
    AddressVerdicts(Vec<AddressVerdict>),
    /// A hash map of interfaces to verdicts.
    InterfaceVerdicts(Vec<(Interface, Verdict)>),
    /// A hash map of (source, destination) to verdicts.
    PairVerdicts(Vec<((IpAddr, IpAddr), Verdict)>),
    /// A hash map of ports to verdicts.
    PortVerdicts(Vec<(u16, Verdict)>),
    /// An interval map of (first, last) to verdicts, disjoint.
    PortRangeVerdicts(Vec<((u16, u16), Verdict)>),
}

/// An element of a map of addresses to verdicts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressVerdict {
    /// The key.
    pub address: IpAddr,
    /// Whose address it is.
    pub comment: Option<Comment>,
    /// The value.
    pub verdict: Verdict,
}

impl Elements {
    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Addresses(list) => list.len(),
            Self::AddressPairs(list) | Self::AddressRanges(list) => list.len(),
            Self::AddressVerdicts(list) => list.len(),
            Self::InterfaceVerdicts(list) => list.len(),
            Self::PairVerdicts(list) => list.len(),
            Self::PortVerdicts(list) => list.len(),
            Self::PortRangeVerdicts(list) => list.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the keys are intervals.
    #[must_use]
    pub fn is_interval(&self) -> bool {
        matches!(self, Self::AddressRanges(_) | Self::PortRangeVerdicts(_))
    }

    /// Whether the elements carry verdicts.
    #[must_use]
    pub fn is_map(&self) -> bool {
        matches!(
            self,
            Self::AddressVerdicts(_)
                | Self::InterfaceVerdicts(_)
                | Self::PairVerdicts(_)
                | Self::PortVerdicts(_)
                | Self::PortRangeVerdicts(_)
        )
    }
}

/// A chain of rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// Where packets enter it; none for a chain that others jump to.
    pub base: Option<Base>,
    /// What it stands for.
    pub comment: Option<Comment>,
    /// The rules in order.
    pub rules: Vec<Rule>,
}

/// How a base chain sits in the packet path. Its policy is always to accept: what is denied is
/// denied by a rule, since a policy can be changed behind a ruleset's back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// The hook.
    pub hook: Hook,
    /// The place among the base chains of the hook; 0 is nft's `filter`.
    pub priority: i32,
}

/// Where in the packet path a base chain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Packets for the host itself.
    Input,
    /// Packets routed through the host.
    Forward,
    /// Packets from the host itself.
    Output,
}

impl Hook {
    /// All hooks that the model knows.
    pub const ALL: [Self; 3] = [Self::Input, Self::Forward, Self::Output];
}

impl From<Path> for Hook {
    fn from(path: Path) -> Self {
        match path {
            Path::ToHost => Self::Input,
            Path::Forwarded => Self::Forward,
            Path::FromHost => Self::Output,
        }
    }
}

/// A rule: its statements are run in order until one does not match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// The statements.
    pub statements: Vec<Statement>,
    /// What it is for.
    pub comment: Option<Comment>,
}

impl<const N: usize> From<[Statement; N]> for Rule {
    fn from(statements: [Statement; N]) -> Self {
        Self { statements: statements.into(), comment: None }
    }
}

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// `ct state established,related`: packets of a known connection, or an error about one.
    Established,
    /// `ct state untracked`: connection tracking was told to leave the packet alone.
    Untracked,
    /// `tcp flags & (fin | syn | rst | ack) != syn`: a TCP packet that begins no connection.
    TcpUnderWay,
    /// `@th,96,8 != 1`: an SCTP packet that begins no association, which takes an INIT chunk.
    SctpUnderWay,
    /// `meta l4proto`: the transport protocol by its number, extension headers skipped.
    Protocol(u8),
    /// `icmpv6 type`: the type of an ICMP message is from the first to the last.
    IcmpType(u8, u8),
    /// `ip saddr @set`: the address is in the set.
    AddressIn(Side, Name),
    /// `ip saddr != @set`: the address is not in the set.
    AddressNotIn(Side, Name),
    /// `ip saddr & 255.255.255.0 == @set`: the first address of the block of so many bits that the
    /// address is in, is in the set.
    BlockIn(Side, u8, Name),
    /// `ip saddr 192.0.2.1-192.0.2.7`: the address is one from the first to the last.
    AddressBetween(Side, IpAddr, IpAddr),
    /// `th dport 80-90`: the destination port is one from the first to the last.
    PortBetween(u16, u16),
    /// `ip saddr . ip daddr @set`: the pair of source and destination is in the set.
    PairIn(Name),
    /// `ip saddr vmap @map`: the verdict that the map has for the address, if any.
    AddressMap(Side, Name),
    /// `iifname vmap @map`: the verdict that the map has for the interface, if any.
    InterfaceMap(Side, Name),
    /// `ip saddr . ip daddr vmap @map`: the verdict that the map has for the pair of source and
    /// destination, if any.
    PairMap(Name),
    /// `th dport vmap @map`: the verdict that the map has for the destination port, if any.
    PortMap(Name),
    /// Counts packets and bytes.
    Counter,
    /// `limit rate`: at most so many packets per second, and a few more at once. Only ever in front
    /// of reports.
    Limit(u32),
    /// Reports the packet to user space.
    Log {
        /// The NFLOG group to report to.
        group: u16,
        /// A text for the report.
        prefix: Comment,
    },
    /// Ends the rule.
    Verdict(Verdict),
    /// Something that this crate does not write; found only where somebody else changed the table.
    Foreign(String),
}

impl Statement {
    /// The set or map that it looks something up in.
    #[must_use]
    pub fn set(&self) -> Option<&Name> {
        match self {
            Self::AddressIn(_, set) | Self::AddressNotIn(_, set) | Self::BlockIn(_, _, set) => {
                Some(set)
            }
            Self::AddressMap(_, set) | Self::InterfaceMap(_, set) => Some(set),
            Self::PairIn(set) | Self::PairMap(set) | Self::PortMap(set) => Some(set),
            _ => None,
        }
    }

    pub(crate) fn set_mut(&mut self) -> Option<&mut Name> {
        match self {
            Self::AddressIn(_, set) | Self::AddressNotIn(_, set) | Self::BlockIn(_, _, set) => {
                Some(set)
            }
            Self::AddressMap(_, set) | Self::InterfaceMap(_, set) => Some(set),
            Self::PairIn(set) | Self::PairMap(set) | Self::PortMap(set) => Some(set),
            _ => None,
        }
    }
}

/// The mask of the first so many bits.
pub(super) fn netmask(family: Family, length: u8) -> IpAddr {
    let all: IpAddr = match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    IpNet::new(all, length).map_or(all, |net| net.netmask())
}

/// Which address of a packet, or which interface: where it enters the host, or leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Where it comes from.
    Source,
    /// Where it goes to.
    Destination,
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// This hook is done with it in our table; other tables still see it.
    Accept,
    /// It is gone.
    Drop,
    /// Back to where the last jump came from.
    Return,
    /// Into a chain, and back here at its end.
    Jump(Name),
    /// Into a chain for good.
    Goto(Name),
}

impl Verdict {
    /// The chain that it leads to.
    #[must_use]
    pub fn chain(&self) -> Option<&Name> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            Self::Accept | Self::Drop | Self::Return => None,
        }
    }
}
