//! Proof that a ruleset says what a program says: both are asked about one packet of every kind
//! that either of them can tell apart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netpol_core::backend::proof::{self, Boundaries, Path, Standing};
use netpol_core::model::{Family, Flow};
use netpol_core::program::Program;

use crate::name::Interface;
use crate::render::{Options, is_unrouted};
use crate::ruleset::{Elements, Route, Ruleset, Statement, Table, Undecided, Verdict};

/// A kind of packet that a ruleset does not treat as the program would.
pub type Mismatch = proof::Mismatch<Undecided>;

/// Compares a ruleset with the program that it should carry out, for what can be told apart by
/// either: addresses by the sets that they are in and the classes that know them, ports by both
/// sides of every boundary. One example of every kind that differs is returned; nothing is, if the
/// ruleset is right.
///
/// Of the options count those that the program does not know of: [`Options::deny_unknown`], and
/// [`Options::interfaces`], by which the packets of their addresses are taken to travel; by those of
/// others they are denied. The program must be of the node that the ruleset is for. Takes some
/// microseconds per kind; there are about (kinds of addresses)² × (ports that policies mention).
#[must_use]
pub fn verify(ruleset: &Ruleset, program: &Program, options: &Options) -> Vec<Mismatch> {
    let attached = attached(program, options);
    let interfaces: BTreeSet<&Interface> = attached.values().copied().collect();
    let mut tried = BTreeSet::new();
    let mut spoofed = Vec::new();
    let mut mismatches = proof::verify(
        program,
        |family| ruleset.tables.get(&family).map(|table| boundaries(table, family, options)),
        |asked| {
            let proof::Packet { source, destination, path, .. } = *asked;
            let (hook, packet) = (path.into(), asked.into());
            let from = attached.get(&source).copied().filter(|_| path != Path::FromHost);
            let to = attached.get(&destination).copied().filter(|_| path != Path::ToHost);
            let comes_in = path != Path::FromHost && asked.standing == Standing::New;
            if comes_in && !is_unrouted(source) && tried.insert((source, destination, path)) {
                // The same by the interface of somebody else.
                for other in interfaces.iter().copied().filter(|other| Some(*other) != from) {
                    if ruleset.passes_by(hook, &packet, Route { from: Some(other), to })? {
                        let flow = Flow::new(source, destination, asked.traffic);
                        spoofed.push(Mismatch::Verdict { flow, path, allowed: false });
                    }
                }
            }
            ruleset.passes_by(hook, &packet, Route { from, to })
        },
    );
    mismatches.extend(spoofed);
    mismatches
}

/// The interfaces of endpoints in scope, by their addresses.
fn attached<'o>(program: &Program, options: &'o Options) -> BTreeMap<IpAddr, &'o Interface> {
    let ordinary = program.endpoints().filter(|entry| !entry.is_host());
    let addresses = ordinary.flat_map(|entry| entry.addresses().iter().copied());
    addresses.filter_map(|it| Some((it, options.interfaces.get(&it)?))).collect()
}

/// By what a table tells packets apart.
fn boundaries(table: &Table, family: Family, options: &Options) -> Boundaries {
    let mut boundaries = Boundaries::new(family);
    boundaries.closed(&options.deny_unknown);
    for address in options.interfaces.keys().filter(|it| Family::of(**it) == family) {
        boundaries.addresses([*address]);
    }
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
            Elements::InterfaceVerdicts(_) => {}
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
