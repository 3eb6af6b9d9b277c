//! What a rendering costs a packet, and why it is rendered so.
//!
//! The figures are the kernel's own, measured on Linux 6.18 as differences to a ruleset that only
//! accepts established connections (about 3200 ns for the first packet of a connection).

use std::fmt;

use netpol_core::model::Family;
use netpol_core::program::Program;

use crate::name::Name;
use crate::render::{Options, WIDEST_LISTED, render};
use crate::ruleset::{Elements, Set};

/// A look-up in a hash set of a declared size, keys of 4 bytes.
const HASH: u32 = 33;
/// The same with keys of 8 to 32 bytes.
const LONG_HASH: u32 = 60;
/// A look-up in an interval set, by how many intervals there are at most.
const INTERVALS: [(usize, u32); 8] = [
    (1, 68),
    (3, 107),
    (10, 170),
    (100, 290),
    (1_000, 390),
    (10_000, 540),
    (100_000, 650),
    (usize::MAX, 700),
];
/// Bytes of kernel memory for an element: of a hash set that is three quarters full, of an interval
/// set, of a map to verdicts.
const HASH_BYTES: usize = 135;
const INTERVAL_BYTES: usize = 186;
/// The first interval of a set takes this much more.
const INTERVAL_SET_BYTES: usize = 17_000;

/// What the rendering of a program costs, set by set: prints as a table with reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostExplanation {
    /// The sets and maps, those of IPv4 first.
    pub sets: Vec<SetCost>,
}

/// What one set costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetCost {
    /// Of which table.
    pub family: Family,
    /// Its name.
    pub name: Name,
    /// How it is stored.
    pub kind: SetKind,
    /// How many elements it has.
    pub elements: usize,
    /// How long a look-up takes, in nanoseconds, about.
    pub nanoseconds: u32,
    /// How much kernel memory it takes, in bytes, about.
    pub bytes: usize,
}

/// How a set is stored in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetKind {
    /// A hash table of a declared size.
    Hash,
    /// Sorted intervals.
    Intervals,
}

/// What the rendering of a program costs, and why it is rendered so. Pure, like [`render`].
#[must_use]
pub fn explain_cost(program: &Program, options: &Options) -> CostExplanation {
    let ruleset = render(program, options);
    let sets = ruleset.tables.iter().flat_map(|(family, table)| {
        table.sets.iter().map(|(name, set)| SetCost::of(*family, name.clone(), set))
    });
    CostExplanation { sets: sets.collect() }
}

impl SetCost {
    fn of(family: Family, name: Name, set: &Set) -> Self {
        let elements = set.elements.len();
        let (kind, nanoseconds, bytes) = if set.elements.is_interval() {
            let steps = INTERVALS.iter().find(|(most, _)| elements <= *most);
            let nanoseconds = steps.map_or(0, |(_, nanoseconds)| *nanoseconds);
            let bytes = INTERVAL_SET_BYTES + elements * INTERVAL_BYTES;
            (SetKind::Intervals, nanoseconds, bytes)
        } else {
            let is_long = match set.elements {
                Elements::PortVerdicts(_) => false,
                Elements::AddressPairs(_) | Elements::PairVerdicts(_) => true,
                _ => family == Family::V6,
            };
            let buckets = set.size.map_or(0, |size| size as usize / 3 * 4 * 8);
            (SetKind::Hash, if is_long { LONG_HASH } else { HASH }, buckets + elements * HASH_BYTES)
        };
        Self { family, name, kind, elements, nanoseconds, bytes }
    }

    /// Why it is stored so, and not otherwise.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match (self.kind, self.name.as_str().split('-').next().unwrap_or_default()) {
            (SetKind::Intervals, "blocks") => {
                "address blocks need intervals; single addresses are kept apart, so that a pod costs a \
                 hash look-up and no commit grows with the blocks"
            }
            (SetKind::Intervals, _) => {
                "ranges wider than 16 ports; narrower ones are listed port by port, where a look-up \
                 costs a third"
            }
            (SetKind::Hash, "egress" | "ingress") => {
                "one look-up finds the endpoint, whoever it is"
            }
            (SetKind::Hash, "allow" | "deny") => {
                "one union of all peers of a class: one look-up, however many policies"
            }
            (SetKind::Hash, _) => "exact keys: a hash of a declared size is the fastest",
        }
    }
}

impl CostExplanation {
    /// Kernel memory of all sets, in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.sets.iter().map(|set| set.bytes).sum()
    }
}

impl fmt::Display for CostExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<40} {:>9} {:>9} {:>9}  why", "set", "elements", "ns", "bytes")?;
        for set in &self.sets {
            let family = match set.family {
                Family::V4 => "ip",
                Family::V6 => "ip6",
            };
            let name = format!("{family} {}", set.name);
            let SetCost { elements, nanoseconds, bytes, .. } = set;
            writeln!(f, "{name:<40} {elements:>9} {nanoseconds:>9} {bytes:>9}  {}", set.reason())?;
        }
        writeln!(
            f,
            "ranges of at most {WIDEST_LISTED} ports are listed; about {} KiB of kernel memory",
            self.bytes().div_ceil(1024)
        )
    }
}
