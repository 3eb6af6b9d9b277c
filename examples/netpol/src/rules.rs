//! The rules that the nodes of a cluster would have, asked about packets in user space.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Result, anyhow};
use netpol_backend_nft::ruleset::{Hook, Packet, Ruleset, Standing, Transport};
use netpol_backend_nft::{Options, render};
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{Flow, Objects, Traffic};
use netpol_core::program::Scope;

use crate::live::address;

/// The rules of every node.
pub(crate) struct Rules {
    nodes: Vec<Ruleset>,
    /// Addresses of pods that are on no node, and so under nobody's rules.
    unplaced: BTreeMap<IpAddr, String>,
}

impl Rules {
    pub(crate) fn render(cluster: &Cluster, objects: &Objects) -> Self {
        let of_pods = objects.endpoints.iter().filter_map(|pod| pod.node.clone());
        let nodes: BTreeSet<_> =
            objects.nodes.iter().map(|node| node.name.clone()).chain(of_pods).collect();
        let ruleset = |node| render(&compile(cluster, Scope::Node(node)), &Options::default());
        let unplaced = objects.endpoints.iter().filter(|pod| pod.node.is_none()).flat_map(|pod| {
            let name = format!("{}/{}", pod.namespace, pod.name);
            pod.addresses.iter().map(move |address| (*address, name.clone()))
        });
        Self { nodes: nodes.into_iter().map(ruleset).collect(), unplaced: unplaced.collect() }
    }

    /// Whether the first packet of a connection passes the rules of all nodes: those of a node judge
    /// its own pods and let all others be.
    pub(crate) fn pass(&self, flow: &Flow) -> Result<bool> {
        let (source, destination) = (address(&flow.source)?, address(&flow.destination)?);
        for end in [source, destination] {
            if let Some(pod) = self.unplaced.get(&end) {
                return Err(anyhow!("{pod} is on no node"));
            }
        }
        let transport = match flow.traffic {
            Traffic::Port(protocol, port) => Transport::Port(protocol.number(), port),
            // Echo requests.
            Traffic::ICMP => Transport::Icmp(1, 8),
            Traffic::ICMPV6 => Transport::Icmp(58, 128),
            Traffic::Other(number) => Transport::Other(number),
        };
        let packet = Packet { source, destination, transport, standing: Standing::New };
        for rules in &self.nodes {
            if !rules.passes(Hook::Forward, &packet)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
