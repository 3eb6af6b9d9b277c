//! What it costs to look something up in the kernel: the table by which renderings are chosen.
//!
//! Nanoseconds are the kernel's own, measured on Linux 6.18 as differences to a ruleset that only
//! accepts established connections (about 3200 ns for the first packet of a connection). To load an
//! address of IPv6 takes 30 of them, one of IPv4 three.
//!
//! | a rule that                                             | IPv4, ns | IPv6, ns | ports, ns |
//! |---------------------------------------------------------|---------:|---------:|----------:|
//! | compares with the ends of a range                       |       16 |       57 |        28 |
//! | finds it in a hash of a declared size                   |       43 |       85 |        66 |
//! | finds the block of a certain length that it is in       |       47 |       97 |           |
//! | finds a pair of addresses                               |       58 |      120 |           |
//! | finds it in an interval set, 34 more whenever it doubles |       87 |      148 |        93 |
//!
//! A rule loads what it looks at, so several rules do so several times. Bytes are slab memory.

use netpol_core::model::Family;

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

/// A load and two comparisons.
const ADDRESS_RULE: [u32; 2] = [16, 57];
const ADDRESS_HASH: [u32; 2] = [43, 85];
const BLOCK_HASH: [u32; 2] = [47, 97];
const PAIR_HASH: [u32; 2] = [58, 120];
const ADDRESS_INTERVAL: [u32; 2] = [87, 148];
/// Sixteen bytes, as an IPv6 address.
const INTERFACE_HASH: u32 = 90;
const PORT_RULE: u32 = 28;
const PORT_HASH: u32 = 66;
const PORT_INTERVAL: u32 = 93;
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

/// What is measured for both families.
fn of(family: Family, [v4, v6]: [u32; 2]) -> u32 {
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
    }
}

/// A rule for each of so many ranges of addresses.
pub(crate) fn of_address_rules(family: Family, count: usize) -> Price {
    rules(count, of(family, ADDRESS_RULE))
}

/// A rule for each of so many ranges of ports.
pub(crate) fn of_port_rules(count: usize) -> Price {
    rules(count, PORT_RULE)
}

/// A rule for each of so many interfaces.
pub(crate) fn of_interface_rules(count: usize) -> Price {
    rules(count, PORT_RULE)
}

fn rules(count: usize, nanoseconds: u32) -> Price {
    let nanoseconds = u32::try_from(count).unwrap_or(u32::MAX).saturating_mul(nanoseconds);
    Price { look_up: LookUp::Rules, nanoseconds, bytes: count.saturating_mul(RULE_BYTES) }
}

/// A rule that finds an address in an interval set.
pub(crate) fn of_address_intervals(family: Family, count: usize) -> Price {
    intervals(count, of(family, ADDRESS_INTERVAL))
}

/// A rule that finds a port in an interval map.
pub(crate) fn of_port_intervals(count: usize) -> Price {
    intervals(count, PORT_INTERVAL)
}

fn intervals(count: usize, first: u32) -> Price {
    let doubled = count.checked_ilog2().unwrap_or_default();
    let nanoseconds = first + INTERVALS_DOUBLED * doubled;
    let bytes = INTERVAL_SET_BYTES + count * INTERVAL_BYTES;
    Price { look_up: LookUp::Intervals, nanoseconds, bytes }
}

/// A rule that finds an address in a hash set.
pub(crate) fn of_address_hash(family: Family, count: usize, size: u32) -> Price {
    hash(count, size, of(family, ADDRESS_HASH))
}

/// A rule that finds the block of addresses, of one length, that an address is in.
pub(crate) fn of_block_hash(family: Family, count: usize, size: u32) -> Price {
    hash(count, size, of(family, BLOCK_HASH))
}

/// A rule that finds a pair of addresses in a hash set.
pub(crate) fn of_pair_hash(family: Family, count: usize, size: u32) -> Price {
    hash(count, size, of(family, PAIR_HASH))
}

/// A rule that finds an interface in a hash map.
pub(crate) fn of_interface_hash(count: usize, size: u32) -> Price {
    hash(count, size, INTERFACE_HASH)
}

/// A rule that finds a port in a hash map.
pub(crate) fn of_port_hash(count: usize, size: u32) -> Price {
    hash(count, size, PORT_HASH)
}

fn hash(count: usize, size: u32, nanoseconds: u32) -> Price {
    let buckets = size as usize / 3 * 4 * 8;
    Price { look_up: LookUp::Hash, nanoseconds, bytes: buckets + count * HASH_BYTES }
}
