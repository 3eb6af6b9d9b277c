//! Endpoints that are known by the interface that their packets come in and go out by.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netpol_core::model::{Direction, Family};

use super::base::own_map;
use super::exits::refusal;
use super::{Local, Options};
use crate::name::{Comment, Interface, Name};
use crate::ruleset::{Chain, Rule, Side, Statement, Verdict};

/// Which interfaces the endpoints of this host have.
#[derive(Debug, Default)]
pub(super) struct Interfaces {
    /// With all their addresses, and whether they are all of one endpoint.
    all: BTreeMap<Interface, Attached>,
}

#[derive(Debug, Default)]
struct Attached {
    addresses: BTreeSet<IpAddr>,
    endpoints: usize,
}

impl Interfaces {
    pub(super) fn new<'l>(options: &Options, locals: impl Iterator<Item = &'l Local>) -> Self {
        let mut all: BTreeMap<Interface, Attached> = BTreeMap::new();
        if options.interfaces.is_empty() {
            return Self { all };
        }
        for local in locals.filter(|local| !local.entry.is_host()) {
            let addresses = local.entry.addresses().iter();
            let attached = addresses.filter_map(|it| Some((*it, options.interfaces.get(it)?)));
            let mut interfaces = BTreeSet::new();
            for (address, interface) in attached {
                all.entry(interface.clone()).or_default().addresses.insert(address);
                interfaces.insert(interface);
            }
            for interface in interfaces {
                all.entry(interface.clone()).or_default().endpoints += 1;
            }
        }
        Self { all }
    }

    /// The interface that stands for an endpoint in a direction, if its address is not looked at. What
    /// goes out by an interface that endpoints share is told apart by address.
    pub(super) fn stands_for(
        &self,
        options: &Options,
        address: IpAddr,
        direction: Direction,
    ) -> Option<&Interface> {
        let (interface, attached) = self.all.get_key_value(options.interfaces.get(&address)?)?;
        let known = attached.addresses.contains(&address);
        let alone = direction == Direction::Egress || attached.endpoints == 1;
        (known && alone).then_some(interface)
    }

    /// The chains of what comes in by interfaces: from its own address by what the policies of the
    /// endpoint say, from all others, but for those that are never routed, not at all.
    pub(super) fn entrances(
        &self,
        options: &Options,
        family: Family,
        own: bool,
        asked: impl Fn(IpAddr) -> Option<Verdict>,
    ) -> BTreeMap<Interface, Chain> {
        let unrouted: (IpAddr, IpAddr) = match family {
            Family::V4 => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()),
            Family::V6 => (LINK_LOCAL[0].into(), LINK_LOCAL[1].into()),
        };
        let rule = |(first, last), verdict| -> Rule {
            let is_source = Statement::AddressBetween(Side::Source, first, last);
            [is_source, Statement::Verdict(verdict)].into()
        };
        let chain = |attached: &Attached| {
            let addresses = attached.addresses.iter().filter(|it| Family::of(**it) == family);
            let known = addresses.flat_map(|it| {
                let with_itself = Statement::AddressBetween(Side::Source, *it, *it);
                let with_itself = [with_itself, Statement::PairMap(own_map())].into();
                let others = rule((*it, *it), asked(*it).unwrap_or(Verdict::Return));
                own.then_some(with_itself).into_iter().chain([others])
            });
            let spoofed = Statement::Verdict(refusal(options));
            let rest = [rule(unrouted, Verdict::Return), [Statement::Counter, spoofed].into()];
            let comment = Some(Comment::new("an endpoint sends by no address but its own"));
            Chain { base: None, comment, rules: known.chain(rest).collect() }
        };
        self.all.iter().map(|(interface, attached)| (interface.clone(), chain(attached))).collect()
    }
}

/// Addresses of one link, by which hosts are asked for an address: `fe80::/10`.
const LINK_LOCAL: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
    Ipv6Addr::new(0xfebf, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff),
];

/// Whether packets from this address may come in by the interface of any endpoint.
pub(crate) fn is_unrouted(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_unspecified(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The chain of what comes in by an interface.
pub(super) fn entrance(interface: &Interface) -> Name {
    Name::known(&format!("from-{interface}"))
}

/// The map of interfaces by which endpoints send, or receive.
pub(super) fn interface_map(direction: Direction) -> Name {
    Name::known(match direction {
        Direction::Egress => "from",
        Direction::Ingress => "to",
    })
}
