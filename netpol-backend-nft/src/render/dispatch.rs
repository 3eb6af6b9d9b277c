//! Who is an endpoint of this host, and whose packets go where.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netpol_core::backend::Closed;
use netpol_core::model::{Direction, Family};

use super::base::dispatch_map;
use super::interfaces::{Interfaces, entrance, interface_map};
use super::stray::isolated_set;
use super::table::{Source, changed};
use super::unknown::{self, closed_ranges};
use super::{Local, Options};
use crate::name::Interface;
use crate::ruleset::{AddressVerdict, Chain, Elements, SetDifference, TableDifference, Verdict};

/// By what the endpoints of one family are known, as it is in force.
#[derive(Debug, Default)]
pub(super) struct Dispatch {
    sides: [Side; 2],
    /// What comes in by an interface.
    entrances: BTreeMap<Interface, Chain>,
    /// The addresses that may be used, where others are denied.
    known: BTreeSet<IpAddr>,
}

/// What endpoints send, or receive.
#[derive(Debug, Default)]
struct Side {
    by_address: BTreeMap<IpAddr, AddressVerdict>,
    by_interface: BTreeMap<Interface, Verdict>,
    /// The addresses that are judged, however they are known.
    isolated: BTreeSet<IpAddr>,
}

impl Dispatch {
    /// What differs from before, if there was anything. Where an endpoint's policies send its packets is
    /// asked of `entry`: nowhere if they judge nothing. `own` tells whether some are judged otherwise when
    /// they reach themselves.
    pub(super) fn update<'v>(
        &mut self,
        family: Family,
        source: &Source<'_>,
        entry: impl Fn(&Local, Direction) -> Option<&'v Verdict>,
        own: bool,
        difference: &mut TableDifference,
    ) {
        let options = source.options;
        let first = source.before.is_none();
        let interfaces = Interfaces::new(options, source.locals.values());
        let mut asked: BTreeMap<IpAddr, Verdict> = BTreeMap::new();
        let mut sides: [Side; 2] = Default::default();
        for (direction, side) in Direction::ALL.into_iter().zip(&mut sides) {
            for local in source.locals.values() {
                let Some(verdict) = entry(local, direction) else { continue };
                for address in local.addresses(family) {
                    side.isolated.insert(address);
                    let interface = interfaces.stands_for(options, address, direction);
                    match (interface, direction) {
                        (Some(_), Direction::Egress) => {
                            asked.insert(address, verdict.clone());
                        }
                        (Some(interface), Direction::Ingress) => {
                            side.by_interface.insert(interface.clone(), verdict.clone());
                        }
                        (None, _) => {
                            let comment = Some(local.comment.clone());
                            let verdict = verdict.clone();
                            let element = AddressVerdict { address, comment, verdict };
                            side.by_address.insert(address, element);
                        }
                    }
                }
            }
        }
        let asked = |address| match asked.get(&address)? {
            // The chain of the interface is jumped to already.
            Verdict::Jump(chain) => Some(Verdict::Goto(chain.clone())),
            verdict => Some(verdict.clone()),
        };
        let entrances = interfaces.entrances(options, family, own, asked);
        let [sends, _] = &mut sides;
        let jumps = entrances.keys().map(|it| (it.clone(), Verdict::Jump(entrance(it))));
        sends.by_interface.extend(jumps);
        self.enter(entrances, difference);
        for ((direction, old), new) in Direction::ALL.into_iter().zip(&mut self.sides).zip(sides) {
            old.become_new(new, direction, options, first, difference);
        }
        self.know(family, source, first, difference);
    }

    /// Whether endpoints are known by address that are judged for what they send, and for what they
    /// receive.
    pub(super) fn by_address(&self) -> [bool; 2] {
        self.sides.each_ref().map(|side| !side.by_address.is_empty())
    }

    fn enter(&mut self, entrances: BTreeMap<Interface, Chain>, difference: &mut TableDifference) {
        let gone = self.entrances.keys().filter(|it| !entrances.contains_key(*it));
        difference.chains.extend(gone.map(|interface| (entrance(interface), None)));
        let differ = entrances.iter().filter(|(it, chain)| self.entrances.get(*it) != Some(*chain));
        let differ = differ.map(|(it, chain)| (entrance(it), Some(chain.clone())));
        difference.chains.extend(differ);
        self.entrances = entrances;
    }

    /// Which addresses may be used, where others are denied.
    fn know(
        &mut self,
        family: Family,
        source: &Source<'_>,
        first: bool,
        difference: &mut TableDifference,
    ) {
        let Closed { ranges, except } = &source.options.deny_unknown;
        let closed = closed_ranges(ranges, family);
        if closed.is_empty() {
            return;
        }
        if first {
            let set = unknown::set(&closed).into_iter();
            difference.sets.extend(set.map(|(name, set)| (name, SetDifference::Whole(set))));
        }
        let locals = source.locals.values();
        let own = locals.clone().flat_map(|local| local.addresses(family));
        let hosts = locals.filter(|local| local.entry.is_host());
        let same = hosts.flat_map(|local| local.with_itself(source.now, family));
        let except = except.iter().copied().filter(|it| Family::of(*it) == family);
        let new: BTreeSet<IpAddr> = own.chain(same.map(|(_, it)| it)).chain(except).collect();
        let [before, now] = [&self.known, &new].map(|it| it.iter().copied().collect());
        let [before, now] = [before, now].map(Elements::Addresses);
        let change = changed(Some("who may use addresses of closed ranges"), before, now, first);
        difference.sets.extend(change.map(|change| (unknown::known_set(), change)));
        self.known = new;
    }
}

impl Side {
    fn become_new(
        &mut self,
        new: Self,
        direction: Direction,
        options: &Options,
        first: bool,
        difference: &mut TableDifference,
    ) {
        let mut put = |name, comment: &str, before, now| {
            let comment = Some(comment).filter(|comment| !comment.is_empty());
            let change = changed(comment, before, now, first);
            difference.sets.extend(change.map(|change| (name, change)));
        };
        let (isolated, by_interface) = match direction {
            Direction::Egress => (
                "endpoints that are isolated for what they send",
                "endpoints that send by an interface of their own",
            ),
            Direction::Ingress => (
                "endpoints that are isolated for what they receive",
                "endpoints that receive by an interface of their own",
            ),
        };
        let old = std::mem::replace(self, new);
        let [before, now] = [&old, &*self].map(|it| it.by_address.values().cloned().collect());
        let [before, now] = [before, now].map(Elements::AddressVerdicts);
        put(dispatch_map(direction), isolated, before, now);
        let [before, now] = [&old, &*self].map(|it| it.isolated.iter().copied().collect());
        let [before, now] = [before, now].map(Elements::Addresses);
        put(isolated_set(direction), "", before, now);
        if !options.interfaces.is_empty() {
            let [before, now] = [&old, &*self].map(|it| {
                let list = it.by_interface.iter().map(|(a, b)| (a.clone(), b.clone()));
                Elements::InterfaceVerdicts(list.collect())
            });
            put(interface_map(direction), by_interface, before, now);
        }
    }
}
