//! What a rendering costs a packet, and why it is rendered so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use netpol_core::model::Family;
use netpol_core::program::Program;

use crate::name::Name;
use crate::price::{self, LookUp, Price};
use crate::render::{Options, WIDEST_LISTED, render, size_of};
use crate::ruleset::{Chain, Elements, Set, Statement};

/// What the rendering of a program costs, look-up by look-up: prints as a table with reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostExplanation {
    /// The sets and maps, and the rules that stand for one; those of IPv4 first.
    pub costs: Vec<Cost>,
}

/// What one look-up costs, and what it would cost otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// Of which table.
    pub family: Family,
    /// The set or map, or the chain that has the rules.
    pub name: Name,
    /// Among how many elements, or ranges.
    pub elements: usize,
    /// How it is done.
    pub chosen: Price,
    /// How else it could have been done.
    pub rejected: Vec<Price>,
}

/// What the rendering of a program costs, and why it is rendered so. Pure, like [`render`].
#[must_use]
pub fn explain_cost(program: &Program, options: &Options) -> CostExplanation {
    let ruleset = render(program, options);
    let costs = ruleset.tables.iter().flat_map(|(family, table)| {
        let statements = table.chains.values().flat_map(|chain| &chain.rules);
        let statements = statements.flat_map(|rule| &rule.statements);
        let blocks: BTreeSet<&Name> = statements
            .filter_map(|statement| match statement {
                Statement::BlockIn(_, _, set) => Some(set),
                _ => None,
            })
            .collect();
        let sets = table.sets.iter();
        let sets =
            sets.map(move |(name, set)| Cost::of_set(*family, name, set, blocks.contains(name)));
        let rules =
            table.chains.iter().flat_map(move |(name, it)| Cost::of_rules(*family, name, it));
        sets.chain(rules)
    });
    CostExplanation { costs: costs.collect() }
}

impl Cost {
    /// Of a set or map; whether it has `blocks` of one length.
    fn of_set(family: Family, name: &Name, set: &Set, blocks: bool) -> Self {
        let elements = set.elements.len();
        let size = set.size.unwrap_or_default();
        let (chosen, rejected) = match &set.elements {
            Elements::Addresses(_) if blocks => (
                price::of_block_hash(family, elements, size),
                vec![
                    price::of_address_rules(family, elements),
                    price::of_address_intervals(family, elements),
                ],
            ),
            Elements::Addresses(_) | Elements::AddressVerdicts(_) => (
                price::of_address_hash(family, elements, size),
                vec![
                    price::of_address_rules(family, elements),
                    price::of_address_intervals(family, elements),
                ],
            ),
            Elements::InterfaceVerdicts(_) => (
                price::of_interface_hash(elements, size),
                vec![price::of_interface_rules(elements)],
            ),
            Elements::AddressPairs(_) | Elements::PairVerdicts(_) => (
                price::of_pair_hash(family, elements, size),
                vec![price::of_address_rules(family, 2 * elements)],
            ),
            Elements::AddressRanges(_) => (
                price::of_address_intervals(family, elements),
                vec![price::of_address_rules(family, elements)],
            ),
            Elements::PortVerdicts(_) => (
                price::of_port_hash(elements, size),
                vec![price::of_port_rules(elements), price::of_port_intervals(elements)],
            ),
            Elements::PortRangeVerdicts(_) => {
                (price::of_port_intervals(elements), vec![price::of_port_rules(elements)])
            }
        };
        Self { family, name: name.clone(), elements, chosen, rejected }
    }

    /// Rules that compare with what could have been elements of a set.
    fn of_rules(family: Family, name: &Name, chain: &Chain) -> Vec<Self> {
        let mut blocks = 0;
        // By protocol, and whether they are wide: how many, and of how many ports.
        let mut ports: BTreeMap<(Option<u8>, bool), (usize, usize)> = BTreeMap::new();
        for rule in &chain.rules {
            let protocol = rule.statements.iter().find_map(|statement| match statement {
                Statement::Protocol(number) => Some(*number),
                _ => None,
            });
            for statement in &rule.statements {
                match statement {
                    Statement::AddressBetween(..) => blocks += 1,
                    Statement::PortBetween(first, last) => {
                        let width = u32::from(*last) - u32::from(*first) + 1;
                        let counts = ports.entry((protocol, width > WIDEST_LISTED)).or_default();
                        counts.0 += 1;
                        counts.1 += width as usize;
                    }
                    _ => {}
                }
            }
        }
        let of = |elements, chosen, rejected| {
            let (name, rejected) = (name.clone(), vec![rejected]);
            Self { family, name, elements, chosen, rejected }
        };
        let ports = ports.into_iter().map(|((_, wide), (count, ports))| {
            let map = match wide {
                true => price::of_port_intervals(count),
                false => price::of_port_hash(ports, size_of(ports)),
            };
            of(count, price::of_port_rules(count), map)
        });
        let intervals = price::of_address_intervals(family, blocks);
        let blocks =
            (blocks > 0).then(|| of(blocks, price::of_address_rules(family, blocks), intervals));
        ports.chain(blocks).collect()
    }

    /// Why it is done so, and not otherwise.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        let prefix = self.name.as_str().split('-').next().unwrap_or_default();
        match (self.chosen.look_up, prefix) {
            (LookUp::Rules, _) => "so few of them cost less by a rule each",
            (LookUp::Intervals, "blocks" | "closed") => {
                "so many address blocks of so many lengths need intervals; single addresses are kept \
                 apart, so that a pod costs a hash look-up and no commit grows with the blocks"
            }
            (LookUp::Intervals, _) => {
                "ranges wider than 16 ports; narrower ones are listed port by port, where a look-up \
                 costs half"
            }
            (LookUp::Hash, "egress" | "ingress" | "from" | "to") => {
                "one look-up finds the endpoint, whoever it is; with rules each would cost all others"
            }
            (LookUp::Hash, "allow" | "deny") => {
                "one union of all peers of a class: a pod that comes or goes is an element, and no \
                 rule changes"
            }
            (LookUp::Hash, "blocks") => {
                "all blocks of one length are found by one look-up, however many they are"
            }
            (LookUp::Hash, _) => "exact keys that change one by one: a hash of a declared size",
        }
    }
}

impl CostExplanation {
    /// Kernel memory of all look-ups, in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.costs.iter().map(|cost| cost.chosen.bytes).sum()
    }
}

impl fmt::Display for CostExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [set, elements, ns, bytes] = ["look-up", "elements", "ns", "bytes"];
        writeln!(f, "{set:<40} {elements:>9} {ns:>6} {bytes:>9}  {:<10} why", "by")?;
        for cost in &self.costs {
            let family = match cost.family {
                Family::V4 => "ip",
                Family::V6 => "ip6",
            };
            let name = format!("{family} {}", cost.name);
            let Cost { elements, chosen, .. } = cost;
            let Price { look_up, nanoseconds, bytes } = chosen;
            let by = look_up.to_string();
            write!(f, "{name:<40} {elements:>9} {nanoseconds:>6} {bytes:>9}  {by:<10} ")?;
            write!(f, "{}", cost.reason())?;
            let mut separator = "; not by ";
            for Price { look_up, nanoseconds, bytes } in &cost.rejected {
                write!(f, "{separator}{look_up} ({nanoseconds} ns, {bytes} bytes)")?;
                separator = ", ";
            }
            writeln!(f)?;
        }
        let memory = self.bytes().div_ceil(1024);
        writeln!(f, "about {memory} KiB of kernel memory; nanoseconds are those of a miss")
    }
}

impl fmt::Display for LookUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hash => "hash",
            Self::Intervals => "intervals",
            Self::Rules => "rules",
        })
    }
}
