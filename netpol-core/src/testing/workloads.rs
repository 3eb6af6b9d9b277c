use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Choices, pick};
use crate::model::{
    DeclaredPort, DomainName, Endpoint, Labels, Name, Namespace, Node, Phase, Protocol, name,
};

const KEYS: [&str; 2] = ["app", "tier"];

pub(super) fn namespace_name(at: usize) -> Name {
    format!("n{at}").into()
}

pub(super) fn key(choices: &mut Choices<'_>) -> &'static str {
    choices.of(KEYS)
}

pub(super) fn value(choices: &mut Choices<'_>) -> &'static str {
    choices.of(["a", "a", "b", ""])
}

/// A name that endpoints declare ports under and rules refer to.
pub(super) fn port_name(choices: &mut Choices<'_>) -> Name {
    name(choices.of(["http", "http", "dns"]))
}

pub(super) fn protocol(choices: &mut Choices<'_>) -> Protocol {
    choices.of([Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Sctp])
}

/// An address that endpoints have or might have, or a neighbour of one.
pub(super) fn pod_address(choices: &mut Choices<'_>) -> IpAddr {
    let host = choices.of([1, 2, 3, 4, 5, 6, 7, 8]);
    if choices.one_in(3) { v6(0, host) } else { v4(0, host) }
}

/// An address that nodes have or might have.
pub(super) fn node_address(choices: &mut Choices<'_>) -> IpAddr {
    // A node and a pod may claim one address.
    choices.of([v4(1, 1), v4(1, 2), v6(1, 1), v4(1, 3), v4(0, 1)])
}

/// An address outside of the cluster.
pub(super) fn outside_address(choices: &mut Choices<'_>) -> IpAddr {
    choices.of([v4(9, 1), v4(9, 2), v6(9, 1)])
}

fn v4(net: u8, host: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, net, host).into()
}

fn v6(net: u8, host: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, u16::from(net), 0, 0, 0, u16::from(host)).into()
}

pub(super) fn namespaces(choices: &mut Choices<'_>) -> Vec<Namespace> {
    let count = choices.of([1, 1, 2, 3, 4]);
    (0..count).map(|at| Namespace::new(&namespace_name(at), labels(choices))).collect()
}

fn labels(choices: &mut Choices<'_>) -> Labels {
    let mut labels = Labels::default();
    for key in KEYS {
        if let Some(value) = choices.of([None, Some("a"), Some("a"), Some("b"), Some("")]) {
            labels = labels.with(key, value);
        }
    }
    labels
}

pub(super) fn endpoints(choices: &mut Choices<'_>, namespaces: usize) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for at in 0..choices.of([0, 3, 5, 8, 1, 2, 4, 6, 7, 3, 5, 8]) {
        let namespace = namespace_name(choices.pick(namespaces));
        let mut endpoint = Endpoint::new(&namespace, &format!("e{at}"));
        let uid = choices.of(["", "u", "t"]);
        let double = choices.one_in(6).then(|| pick(choices, &endpoints)).flatten();
        if let Some(other) = double {
            // The pod and the one that replaces it: either uid may be the smaller one.
            endpoint.namespace = other.namespace;
            endpoint.name = other.name;
            endpoint.uid = format!("{uid}{at}").into();
        } else {
            endpoint.uid = name(uid);
        }
        endpoint.labels = labels(choices);
        endpoint.addresses = addresses(choices, at).into();
        endpoint.node =
            choices.of([Some(0), Some(1), Some(0), Some(1), Some(2), None]).map(node_name);
        endpoint.phase = if choices.one_in(8) { Phase::Finished } else { Phase::Live };
        endpoint.host_network = choices.one_in(4);
        if endpoint.host_network && choices.one_in(2) {
            endpoint.addresses = [node_address(choices)].into_iter().collect();
        }
        endpoint.ports = choices.some([0, 1, 2, 3, 3], declared_port);
        endpoints.push(endpoint);
    }
    endpoints
}

fn addresses(choices: &mut Choices<'_>, at: usize) -> Vec<IpAddr> {
    let host = u8::try_from(at + 1).unwrap_or(u8::MAX);
    match choices.pick(8) {
        1 | 2 => vec![v4(0, host), v6(0, host)],
        3 => vec![v6(0, host)],
        4 => vec![],
        5 => vec![pod_address(choices)],
        6 => vec![pod_address(choices), v6(0, host)],
        7 => vec![v4(0, host), pod_address(choices), node_address(choices)],
        _ => vec![v4(0, host)],
    }
}

fn declared_port(choices: &mut Choices<'_>) -> DeclaredPort {
    DeclaredPort {
        name: port_name(choices),
        protocol: protocol(choices),
        number: choices.of([80, 81, 1, 65535]),
    }
}

fn node_name(at: usize) -> Name {
    format!("node{at}").into()
}

pub(super) fn nodes(choices: &mut Choices<'_>) -> Vec<Node> {
    let count = choices.of([0, 3, 2, 3, 1, 2, 2]);
    let node = |at| {
        let addresses = choices.some([1, 2, 1, 3, 0], node_address);
        Node { name: node_name(at), labels: labels(choices), addresses }
    };
    (0..count).map(node).collect()
}

pub(super) fn domains(choices: &mut Choices<'_>) -> Vec<DomainName> {
    choices.some([0, 1, 2, 3], |choices| {
        let name = choices.of(["example.org", "a.example.org", "B.a.Example.org.", "example.com"]);
        let address = match choices.pick(4) {
            1 => pod_address(choices),
            2 => node_address(choices),
            _ => outside_address(choices),
        };
        DomainName::new(name, address)
    })
}
