//! A cluster of network namespaces in which policies are in force for real.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::ValueEnum;
use netpol_backend_iptables::{self as iptables, Iptables};
use netpol_backend_nft::{Error as NftError, Nft, Options as NftOptions};
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{End, Endpoint, Flow, Objects, Protocol, Traffic, name};
use netpol_core::program::{Program, Scope};
use netpol_testbed::{
    Node, Outcome, Place, Pod, Probe, ProbeOptions, Testbed, Topology, Traffic as Sent,
};

use crate::exit::Failure;
use crate::progress::Progress;

/// What puts policies into force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// nf_tables, over netlink
    #[default]
    Nft,
    /// iptables, ip6tables and ipset
    Iptables,
}

/// Which of the two that are called iptables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// The one that the host uses already
    #[default]
    Auto,
    /// The one that writes nf_tables rules
    Nft,
    /// The one that writes to the older ip_tables
    Legacy,
}

/// A running cluster.
pub(crate) struct Live {
    pub(crate) testbed: Testbed,
    /// The nodes, by name.
    pub(crate) nodes: BTreeSet<String>,
    /// The pods, by `namespace/name`.
    pub(crate) pods: BTreeSet<String>,
    /// Who has which address.
    places: BTreeMap<IpAddr, Place>,
    /// Addresses of pods that are on no node.
    unplaced: BTreeMap<IpAddr, String>,
}

impl Live {
    /// Builds the nodes and all pods that have an address and a node.
    pub(crate) fn build(objects: &Objects) -> Result<Self, Failure> {
        let mut topology = Topology::default();
        for node in &objects.nodes {
            topology
                .nodes
                .push(Node { name: node.name.to_string(), addresses: node.addresses.clone() });
        }
        let mut nodes: BTreeSet<String> =
            objects.nodes.iter().map(|it| it.name.to_string()).collect();
        let mut unplaced = BTreeMap::new();
        let with_address = |it: &&Endpoint| it.is_ordinary() && !it.addresses.is_empty();
        for endpoint in objects.endpoints.iter().filter(with_address) {
            let label = format!("{}/{}", endpoint.namespace, endpoint.name);
            let Some(node) = &endpoint.node else {
                unplaced.extend(endpoint.addresses.iter().map(|it| (*it, label.clone())));
                continue;
            };
            // A node that only pods speak of has no addresses.
            if nodes.insert(node.to_string()) {
                topology.nodes.push(Node { name: node.to_string(), addresses: Vec::new() });
            }
            topology.pods.push(Pod {
                name: label,
                node: node.to_string(),
                addresses: endpoint.addresses.to_vec(),
            });
        }
        let places = places(&topology);
        let pods = topology.pods.iter().map(|pod| pod.name.clone()).collect();
        let testbed = Testbed::build(&topology, |_| ()).map_err(Failure::kernel)?;
        Ok(Self { testbed, nodes, pods, places, unplaced })
    }

    /// Puts the policies into force on every node.
    pub(crate) fn enforce(
        &self,
        backend: Backend,
        variant: Variant,
        cluster: &Cluster,
    ) -> Result<(), Failure> {
        for node in &self.nodes {
            let program = compile(cluster, Scope::Node(name(node)));
            let synced = self.testbed.in_node(node, || match backend {
                Backend::Nft => sync_nft(&program),
                Backend::Iptables => sync_iptables(&program, variant),
            });
            synced.map_err(Failure::kernel)??;
        }
        Ok(())
    }

    /// The probe that tries a flow, or why there can be none.
    pub(crate) fn probe(&self, flow: &Flow) -> Result<Probe> {
        let source = address(&flow.source)?;
        let to = address(&flow.destination)?;
        for address in [source, to] {
            if let Some(pod) = self.unplaced.get(&address) {
                return Err(anyhow!("{pod} is on no node"));
            }
        }
        let place = |address| self.places.get(&address).cloned().unwrap_or(Place::Outside);
        let from = place(source);
        if from == Place::Outside && place(to) == Place::Outside {
            return Err(anyhow!("neither end is in the cluster"));
        }
        let traffic = match flow.traffic {
            Traffic::Port(Protocol::Tcp, port) => Sent::Tcp(port),
            Traffic::Port(Protocol::Udp, port) => Sent::Udp(port),
            Traffic::Port(Protocol::Sctp, port) => Sent::Sctp(port),
            Traffic::ICMP | Traffic::ICMPV6 => Sent::Icmp,
            Traffic::Other(number) => {
                return Err(anyhow!("no packets of protocol {number} are sent"));
            }
        };
        Ok(Probe { from, source, to, traffic })
    }

    /// Sends the probes side by side, and tells how far it is.
    pub(crate) fn run(&self, probes: &[Probe], timeout: Duration) -> Vec<Outcome> {
        let progress = Progress::new("probing");
        self.testbed.probe(probes, &ProbeOptions { timeout }, |done, of| progress.tell(done, of))
    }
}

fn places(topology: &Topology) -> BTreeMap<IpAddr, Place> {
    let nodes = topology.nodes.iter().flat_map(|node| {
        node.addresses.iter().map(|address| (*address, Place::Node(node.name.clone())))
    });
    let pods = topology.pods.iter().flat_map(|pod| {
        pod.addresses.iter().map(|address| (*address, Place::Pod(pod.name.clone())))
    });
    nodes.chain(pods).collect()
}

/// The address of an end.
pub(crate) fn address(end: &End) -> Result<IpAddr> {
    match end {
        End::Address(address) => Ok(*address),
        End::Endpoint { namespace, name } => Err(anyhow!("{namespace}/{name} has no address")),
    }
}

/// Runs in the namespace of a node.
fn sync_nft(program: &Program) -> Result<(), Failure> {
    let synced = Nft::open(NftOptions::default()).and_then(|mut nft| nft.sync(program));
    synced.map(drop).map_err(|error| match error {
        NftError::NotPermitted | NftError::Unsupported { .. } => Failure::unavailable(error),
        error => Failure::kernel(error),
    })
}

/// Runs in the namespace of a node.
fn sync_iptables(program: &Program, variant: Variant) -> Result<(), Failure> {
    let variant = match variant {
        Variant::Auto => iptables::Variant::Auto,
        Variant::Nft => iptables::Variant::Nft,
        Variant::Legacy => iptables::Variant::Legacy,
    };
    let options = iptables::Options { variant, ..iptables::Options::default() };
    let synced = Iptables::open(options).and_then(|mut it| it.sync(program));
    synced.map(drop).map_err(|error| {
        if error.is_unavailable() { Failure::unavailable(error) } else { Failure::kernel(error) }
    })
}
