//! Proof that a ruleset says what a program says: both are asked about one packet of every kind
//! that either of them can tell apart.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use netpol_core::backend::proof::{self, Boundaries, Difference, Path};
use netpol_core::model::{Family, Flow, Traffic};
use netpol_core::program::Program;

use crate::ruleset::{
    Elements, Hook, Packet, Ruleset, Standing, Table, Transport, Undecided, Verdict,
};

/// A kind of packet that a ruleset does not treat as the program would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// It passes although it should not, or the other way round.
    Verdict {
        /// An example.
        flow: Flow,
        /// Where in the packet path.
        hook: Hook,
        /// What the program says.
        allowed: bool,
    },
    /// Packets of a known connection do not pass (NP-CONN-1).
    Established {
        /// An example.
        flow: Flow,
        /// Where in the packet path.
        hook: Hook,
    },
    /// Packets from the middle of a connection that nobody knows pass, although they may be those
    /// of a connection that is denied: this one, or one the other way round.
    Stray {
        /// An example.
        flow: Flow,
        /// Where in the packet path.
        hook: Hook,
    },
    /// There is no table for the packets of a family.
    NoTable(Family),
    /// The tables hold something that cannot be judged.
    Undecided(Undecided),
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verdict { flow, hook, allowed: true } => {
                write!(f, "{flow} is allowed and does not pass the {hook} hook")
            }
            Self::Verdict { flow, hook, allowed: false } => {
                write!(f, "{flow} is denied and passes the {hook} hook")
            }
            Self::Established { flow, hook } => {
                write!(f, "{flow} does not pass the {hook} hook once it is established")
            }
            Self::Stray { flow, hook } => {
                write!(
                    f,
                    "packets from the middle of {flow} pass the {hook} hook, and may be answers of \
                     a denied connection"
                )
            }
            Self::NoTable(family) => write!(f, "there is no table for {family:?}"),
            Self::Undecided(undecided) => undecided.fmt(f),
        }
    }
}

impl From<Difference> for Mismatch {
    fn from(difference: Difference) -> Self {
        match difference {
            Difference::Verdict { flow, path, allowed } => {
                Self::Verdict { flow, hook: hook(path), allowed }
            }
            Difference::Established { flow, path } => Self::Established { flow, hook: hook(path) },
            Difference::Stray { flow, path } => Self::Stray { flow, hook: hook(path) },
        }
    }
}

/// Compares a ruleset with the program that it should carry out, for what can be told apart by
/// either: addresses by the sets that they are in and the classes that know them, ports by both
/// sides of every boundary. One example of every kind that differs is returned; nothing is, if the
/// ruleset is right.
///
/// The program must be of the node that the ruleset is for. Takes some microseconds per kind; there
/// are about (kinds of addresses)² × (ports that policies mention).
#[must_use]
pub fn verify(ruleset: &Ruleset, program: &Program) -> Vec<Mismatch> {
    let mut mismatches = Vec::new();
    for family in Family::ALL {
        let is_of = |address: &IpAddr| Family::of(*address) == family;
        let local = program.endpoints().any(|entry| entry.addresses().iter().any(is_of));
        let Some(table) = ruleset.tables.get(&family) else {
            mismatches.extend(local.then_some(Mismatch::NoTable(family)));
            continue;
        };
        let compared = proof::compare(
            program,
            boundaries(table, family),
            |it| ruleset.passes(hook(it.path), &packet(it)),
            |difference| mismatches.push(difference.into()),
        );
        mismatches.extend(compared.err().map(Mismatch::Undecided));
    }
    mismatches
}

/// By what a table tells packets apart.
fn boundaries(table: &Table, family: Family) -> Boundaries {
    let mut boundaries = Boundaries::new(family);
    for set in table.sets.values() {
        match &set.elements {
            Elements::Addresses(list) => boundaries.addresses(list.iter().copied()),
            Elements::AddressVerdicts(list) => {
                let mut by_verdict: BTreeMap<&Verdict, Vec<IpAddr>> = BTreeMap::new();
                for element in list {
                    by_verdict.entry(&element.verdict).or_default().push(element.address);
                }
                by_verdict.into_values().for_each(|list| boundaries.addresses(list));
            }
            Elements::AddressRanges(list) => boundaries.ranges(list.iter().copied()),
            Elements::AddressPairs(list) => {
                list.iter().for_each(|(a, b)| boundaries.pair(*a, *b));
            }
            Elements::PairVerdicts(list) => {
                list.iter().for_each(|((a, b), _)| boundaries.pair(*a, *b));
            }
            Elements::PortVerdicts(list) => {
                list.iter().for_each(|(port, _)| boundaries.ports(*port, *port));
            }
            Elements::PortRangeVerdicts(list) => {
                list.iter().for_each(|((first, last), _)| boundaries.ports(*first, *last));
            }
        }
    }
    boundaries
}

fn hook(path: Path) -> Hook {
    match path {
        Path::ToHost => Hook::Input,
        Path::Forwarded => Hook::Forward,
        Path::FromHost => Hook::Output,
    }
}

fn packet(asked: &proof::Packet) -> Packet {
    let proof::Packet { source, destination, traffic, standing, .. } = *asked;
    let transport = match traffic {
        Traffic::Port(protocol, port) => Transport::Port(protocol.number(), port),
        Traffic::ICMP => Transport::Icmp(1, 8),
        Traffic::ICMPV6 => Transport::Icmp(58, 128),
        Traffic::Other(number) => Transport::Other(number),
    };
    let standing = match standing {
        proof::Standing::New => Standing::New,
        proof::Standing::Established => Standing::Established,
        proof::Standing::Stray => Standing::Stray,
    };
    Packet { source, destination, transport, standing }
}
