//! Proof that a ruleset says what a program says: both are asked about one packet of every kind
//! that either of them can tell apart.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netpol_core::backend::proof::{self, Boundaries};
use netpol_core::model::Family;
use netpol_core::program::Program;

use crate::render::Options;
use crate::ruleset::{Elements, Ruleset, Statement, Table, Undecided, Verdict};

/// A kind of packet that a ruleset does not treat as the program would.
pub type Mismatch = proof::Mismatch<Undecided>;

/// Compares a ruleset with the program that it should carry out, for what can be told apart by
/// either: addresses by the sets that they are in and the classes that know them, ports by both
/// sides of every boundary. One example of every kind that differs is returned; nothing is, if the
/// ruleset is right.
///
/// Of the options [`Options::deny_unknown`] counts, which the program does not know of. The program
/// must be of the node that the ruleset is for. Takes some microseconds per kind; there
/// are about (kinds of addresses)² × (ports that policies mention).
#[must_use]
pub fn verify(ruleset: &Ruleset, program: &Program, options: &Options) -> Vec<Mismatch> {
    proof::verify(
        program,
        |family| ruleset.tables.get(&family).map(|table| boundaries(table, family, options)),
        |asked| ruleset.passes(asked.path.into(), &asked.into()),
    )
}

/// By what a table tells packets apart.
fn boundaries(table: &Table, family: Family, options: &Options) -> Boundaries {
    let mut boundaries = Boundaries::new(family);
    boundaries.closed(options.deny_unknown.iter().copied());
    let rules = table.chains.values().flat_map(|chain| &chain.rules);
    for statement in rules.flat_map(|rule| &rule.statements) {
        match statement {
            Statement::AddressBetween(_, first, last) => boundaries.ranges([(*first, *last)]),
            Statement::PortBetween(first, last) => boundaries.ports(*first, *last),
            _ => {}
        }
    }
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
