//! What it costs to look something up in the kernel: the table by which renderings are chosen.
//!
//! Nanoseconds are the kernel's own, measured on Linux 6.18 as differences to a ruleset that only
//! accepts established connections (about 3200 ns for the first packet of a connection):
//!
//! | what                                                          | nanoseconds                            |
//! |---------------------------------------------------------------|----------------------------------------|
//! | to load an address, or a port of a protocol                   | 15, 25                                 |
//! | to compare it with an address or port, or the ends of a range | 3                                      |
//! | to find it in a hash of a declared size, 4 or 8 to 32 bytes   | 33, 60                                 |
//! | to find it in an interval set                                 | 68, and 34 more whenever that doubles  |
//!
//! A rule loads what it looks at, so several rules do so several times. Bytes are slab memory.

/// A way to look something up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookUp {
    /// A hash table of a declared size.
    Hash,
    /// Sorted intervals.
    Intervals,
    /// A rule for each.
    Rules,
}

/// What a way to look something up costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Which way.
    pub look_up: LookUp,
    /// How long it takes for something that is not found, in nanoseconds, about.
    pub nanoseconds: u32,
    /// How much kernel memory it takes, in bytes, about.
    pub bytes: usize,
}

const LOAD_ADDRESS: u32 = 15;
const LOAD_PORT: u32 = 25;
const COMPARE: u32 = 3;
const HASH: u32 = 33;
const LONG_HASH: u32 = 60;
const INTERVAL: u32 = 68;
const INTERVALS_DOUBLED: u32 = 34;

const RULE_BYTES: usize = 256;
/// An element of a hash that is three quarters full.
const HASH_BYTES: usize = 135;
const INTERVAL_BYTES: usize = 186;
/// The first interval of a set takes this much more.
const INTERVAL_SET_BYTES: usize = 17_000;

impl Price {
    /// Whether nothing is gained by the other way.
    pub(crate) fn is_least(self, other: Self) -> bool {
        self.nanoseconds <= other.nanoseconds
    }
}

/// A rule for each of so many ranges of addresses.
pub(crate) fn of_address_rules(count: usize) -> Price {
    rules(count, LOAD_ADDRESS + COMPARE)
}

/// A rule for each of so many ranges of ports.
pub(crate) fn of_port_rules(count: usize) -> Price {
    rules(count, LOAD_PORT + COMPARE)
}

fn rules(count: usize, nanoseconds: u32) -> Price {
    let nanoseconds = u32::try_from(count).unwrap_or(u32::MAX).saturating_mul(nanoseconds);
    Price { look_up: LookUp::Rules, nanoseconds, bytes: count.saturating_mul(RULE_BYTES) }
}

/// A rule that finds an address in an interval set.
pub(crate) fn of_address_intervals(count: usize) -> Price {
    intervals(count, LOAD_ADDRESS)
}

/// A rule that finds a port in an interval map.
pub(crate) fn of_port_intervals(count: usize) -> Price {
    intervals(count, LOAD_PORT)
}

fn intervals(count: usize, load: u32) -> Price {
    let doubled = count.checked_ilog2().unwrap_or_default();
    let nanoseconds = load + INTERVAL + INTERVALS_DOUBLED * doubled;
    let bytes = INTERVAL_SET_BYTES + count * INTERVAL_BYTES;
    Price { look_up: LookUp::Intervals, nanoseconds, bytes }
}

/// A rule that finds an address, or two of them, of so many bytes in a hash set.
pub(crate) fn of_address_hash(count: usize, size: u32, key: usize) -> Price {
    hash(count, size, LOAD_ADDRESS + if key > 4 { LONG_HASH } else { HASH })
}

/// A rule that finds a port in a hash map.
pub(crate) fn of_port_hash(count: usize, size: u32) -> Price {
    hash(count, size, LOAD_PORT + HASH)
}

fn hash(count: usize, size: u32, nanoseconds: u32) -> Price {
    let buckets = size as usize / 3 * 4 * 8;
    Price { look_up: LookUp::Hash, nanoseconds, bytes: buckets + count * HASH_BYTES }
}
