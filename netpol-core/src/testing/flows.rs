use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{Choices, pick};
use crate::model::{
    End, Endpoint, Flow, Objects, Peer, Peers, PortMatch, Ports, Protocol, Rule, Traffic, name,
};

/// A connection that some rule is likely to be about, or that just escapes one.
pub fn flow(choices: &mut Choices<'_>, objects: &Objects) -> Flow {
    let (pods, nodes) = (pods(objects), nodes(objects));
    let (inside, outside) = (inside(objects), outside(objects));
    let mut end = || {
        let ends = choices.of([&pods, &pods, &pods, &nodes, &inside, &outside]);
        pick(choices, ends).unwrap_or(End::Address(Ipv4Addr::UNSPECIFIED.into()))
    };
    let (source, destination) = (end(), end());
    // An end that reaches itself is rarer than it matters.
    let destination = if choices.one_in(8) { source.clone() } else { destination };
    let (declared, all) = (declared(objects), traffic(objects));
    let traffic = if choices.one_in(2) { pick(choices, &declared) } else { pick(choices, &all) };
    let via_service = choices.one_in(4);
    Flow { source, destination, traffic: traffic.unwrap_or(Traffic::ICMP), via_service }
}

/// Every direct connection that [`flow`] may come up with of which policies might judge one end: both sides of every
/// boundary that the objects draw between addresses, and between ports.
///
/// Their number is the product of endpoints, addresses and ports that occur: on average 9,000 in a random
/// [`world`](super::world), and four times that in a large one.
pub fn flows_of_interest(objects: &Objects) -> Vec<Flow> {
    let (inside, outside, traffic) = (inside(objects), outside(objects), traffic(objects));
    let within = inside.iter().flat_map(|a| inside.iter().map(move |b| (a, b)));
    let across = inside.iter().flat_map(|a| outside.iter().flat_map(move |b| [(a, b), (b, a)]));
    let pairs = within.chain(across);
    let flows = pairs.flat_map(|(source, destination)| {
        let between = |traffic| Flow::between(source.clone(), destination.clone(), traffic);
        traffic.iter().copied().map(between)
    });
    flows.collect()
}

/// The addresses of ordinary endpoints.
fn pods(objects: &Objects) -> Vec<End> {
    let pods = objects.endpoints.iter().filter(|e| e.is_ordinary());
    distinct(pods.flat_map(|e| &e.addresses).map(|a| End::Address(*a)))
}

fn nodes(objects: &Objects) -> Vec<End> {
    distinct(objects.nodes.iter().flat_map(|n| &n.addresses).map(|a| End::Address(*a)))
}

/// Endpoints by address and by name, and nodes.
fn inside(objects: &Objects) -> Vec<End> {
    let by_name =
        |e: &Endpoint| End::Endpoint { namespace: e.namespace.clone(), name: e.name.clone() };
    let of_endpoints = objects.endpoints.iter().flat_map(|e| &e.addresses);
    let of_endpoints = of_endpoints.map(|a| End::Address(*a));
    distinct(of_endpoints.chain(nodes(objects)).chain(objects.endpoints.iter().map(by_name)))
}

/// All other ends that the objects tell apart.
fn outside(objects: &Objects) -> Vec<End> {
    let nowhere: [IpAddr; 6] = [
        [203, 0, 113, 9].into(),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9).into(),
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv4Addr::BROADCAST.into(),
        Ipv6Addr::UNSPECIFIED.into(),
        Ipv6Addr::from(u128::MAX).into(),
    ];
    let observed = objects.domains.iter().map(|d| d.address);
    let blocks = peers(objects).filter_map(|peer| match peer {
        Peer::Block(block) => Some(block),
        _ => None,
    });
    let blocks = blocks.flat_map(|block| block.except().iter().copied().chain([block.cidr()]));
    let addresses = observed.chain(blocks.flat_map(edges)).chain(nowhere);
    let nobody = End::Endpoint { namespace: name("n0"), name: name("nobody") };
    let inside = inside(objects);
    let outside = addresses.map(End::Address).chain([nobody]).filter(|end| !inside.contains(end));
    distinct(outside)
}

fn peers(objects: &Objects) -> impl Iterator<Item = &Peer> {
    rules(objects).flat_map(|rule| match &rule.peers {
        Peers::Everyone => &[],
        Peers::AnyOf(peers) => peers.as_slice(),
    })
}

fn rules(objects: &Objects) -> impl Iterator<Item = &Rule> {
    let policies = objects.policies.iter();
    policies.flat_map(|policy| policy.ingress.iter().chain(&policy.egress)).flatten()
}

/// The first and the last address of a block, and their neighbours outside of it.
fn edges(block: IpNet) -> impl Iterator<Item = IpAddr> {
    let (first, last) = (block.network(), block.broadcast());
    [Some(first), Some(last), before(first), after(last)].into_iter().flatten()
}

fn before(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address).checked_sub(1)?).into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address).checked_sub(1)?).into(),
    })
}

fn after(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address).checked_add(1)?).into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address).checked_add(1)?).into(),
    })
}

/// To the ports that endpoints declare.
fn declared(objects: &Objects) -> Vec<Traffic> {
    let ports = objects.endpoints.iter().flat_map(|e| &e.ports);
    distinct(ports.map(|port| Traffic::Port(port.protocol, port.number)))
}

/// Both sides of every boundary between ports, of every protocol.
fn traffic(objects: &Objects) -> Vec<Traffic> {
    let entries = rules(objects).flat_map(|rule| match &rule.ports {
        Ports::All => &[],
        Ports::AnyOf(entries) => entries.as_slice(),
    });
    let ranges = entries.filter_map(|entry| match entry {
        PortMatch::Range(_, range) => Some(*range),
        _ => None,
    });
    let edges = ranges.flat_map(|range| {
        let neighbours = [range.first().checked_sub(1), range.last().checked_add(1)];
        [range.first(), range.last()].into_iter().chain(neighbours.into_iter().flatten())
    });
    let declared = objects.endpoints.iter().flat_map(|e| &e.ports).map(|port| port.number);
    let numbers = distinct(declared.chain(edges).chain([9, 0, u16::MAX]));
    let ports = numbers.into_iter().flat_map(|n| Protocol::ALL.map(|p| Traffic::Port(p, n)));
    ports.chain([Traffic::ICMP, Traffic::ICMPV6, Traffic::Other(47)]).collect()
}

fn distinct<T: Clone + Eq + Hash>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = std::collections::HashSet::new();
    items.filter(|item| seen.insert(item.clone())).collect()
}
