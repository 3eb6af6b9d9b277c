//! Short forms for the values that all generators are made of.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use netpol_core::model::{
    Action, Block, Labels, Name, NamespaceScope, Node, Peer, Peers, PodSelector, Policy, PolicyKey,
    PolicyKind, PortMatch, PortRange, Ports, Protocol, Requirement, Rule, Selector, Subject, Tier,
    name,
};

/// A NetworkPolicy without any rule.
pub(super) fn policy(namespace: &Name, name: &str, subject: Selector) -> Policy {
    let kind = PolicyKind::NetworkPolicy;
    Policy {
        key: PolicyKey { kind, namespace: namespace.clone(), name: name.into() },
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: Subject::Pods(pods_of(namespace, subject)),
        ingress: None,
        egress: None,
    }
}

pub(super) fn allow(peers: Vec<Peer>, ports: &[PortMatch]) -> Rule {
    let ports = match ports {
        [] => Ports::All,
        ports => Ports::AnyOf(ports.to_vec()),
    };
    Rule { name: None, action: Action::Accept, peers: Peers::AnyOf(peers), ports }
}

/// `podSelector: {matchLabels: {key: value}}`
pub(super) fn label(key: &str, value: &str) -> Selector {
    Selector::new([Requirement::is_in(key, [value])])
}

/// A pod selector that looks into one namespace.
pub(super) fn pods_of(namespace: &Name, pods: Selector) -> PodSelector {
    PodSelector { namespaces: NamespaceScope::Named(namespace.clone()), pods }
}

/// A peer with `podSelector` only.
pub(super) fn here(namespace: &Name, pods: Selector) -> Peer {
    Peer::Pods(pods_of(namespace, pods))
}

/// A peer with `namespaceSelector` and `podSelector`.
pub(super) fn there(namespaces: Selector, pods: Selector) -> Peer {
    Peer::Pods(PodSelector { namespaces: NamespaceScope::Matching(namespaces), pods })
}

pub(super) fn block(cidr: Ipv4Net, except: &[Ipv4Net]) -> Peer {
    Peer::Block(Block::new(cidr.into(), except.iter().copied().map(IpNet::from)))
}

/// The block of this length around an address.
pub(super) fn cidr(address: impl Into<Ipv4Addr>, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(address.into(), length).trunc()
}

pub(super) fn tcp(port: u16) -> PortMatch {
    PortMatch::Range(Protocol::Tcp, PortRange::single(port))
}

pub(super) fn udp(port: u16) -> PortMatch {
    PortMatch::Range(Protocol::Udp, PortRange::single(port))
}

pub(super) fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.into_iter().collect()
}

/// Where the pods of a cluster run, and the addresses they get: every node has a /22 of 10.0.0.0/8.
pub(super) struct Nodes {
    used: Vec<u32>,
}

impl Nodes {
    pub(super) fn new(count: usize) -> Self {
        Self { used: vec![0; count] }
    }

    /// Addresses on as many nodes that no generator hands out: those after the first 512 of each.
    pub(super) fn beside(count: usize) -> Self {
        Self { used: vec![512; count] }
    }

    /// The next free address of a node and the node's name.
    pub(super) fn place(&mut self, node: usize) -> (IpAddr, Name) {
        self.used[node] += 1;
        let number = u32::try_from(node).unwrap_or(u32::MAX) * 1024 + self.used[node];
        let address = u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number;
        (IpAddr::V4(address.into()), node_name(node))
    }

    /// The node objects; their addresses are in 172.16.0.0/12.
    pub(super) fn objects(&self) -> Vec<Node> {
        let node = |at| {
            let zone = format!("zone-{}", at % 3);
            let labels =
                labels([("kubernetes.io/os", "linux"), ("topology.kubernetes.io/zone", &zone)]);
            let base = u32::from(Ipv4Addr::new(172, 16, 0, 0));
            let address = base + 1 + u32::try_from(at).unwrap_or(u32::MAX);
            Node { name: node_name(at), labels, addresses: vec![IpAddr::V4(address.into())] }
        };
        (0..self.used.len()).map(node).collect()
    }
}

pub(super) fn node_name(at: usize) -> Name {
    name(&format!("node-{at}"))
}
