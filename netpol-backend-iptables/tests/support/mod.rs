//! Generated worlds as questions to rulesets.
#![allow(dead_code, reason = "every test binary uses its own part")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use netpol_backend_iptables::ruleset::{Packet, Standing};
use netpol_core::model::{End, Flow, Objects, Traffic};
use netpol_core::program::Scope;

/// The packet that begins a connection.
pub(crate) fn packet(source: IpAddr, destination: IpAddr, traffic: Traffic) -> Packet {
    Packet { source, destination, transport: traffic.into(), standing: Standing::New }
}

/// The packet that begins a connection, if both ends are addresses of one family.
pub(crate) fn packet_of(flow: &Flow) -> Option<Packet> {
    match (&flow.source, &flow.destination) {
        (End::Address(a), End::Address(b)) if a.is_ipv4() == b.is_ipv4() => {
            Some(packet(*a, *b, flow.traffic))
        }
        _ => None,
    }
}

/// Every node that the objects speak of.
pub(crate) fn scopes(objects: &Objects) -> Vec<Scope> {
    let of_endpoints = objects.endpoints.iter().filter_map(|endpoint| endpoint.node.clone());
    let nodes: BTreeSet<_> =
        objects.nodes.iter().map(|node| node.name.clone()).chain(of_endpoints).collect();
    nodes.into_iter().map(Scope::Node).collect()
}
