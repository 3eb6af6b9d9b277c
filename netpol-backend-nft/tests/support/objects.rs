//! Pods of the namespace `x`, labelled by their names, and policies about them.
#![allow(dead_code, reason = "every test binary uses its own part")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::net::IpAddr;

use netpol_core::model::{
    Action, Block, Endpoint, Labels, NamespaceScope, Peer, Peers, PodSelector, Policy, PolicyKey,
    PolicyKind, PortMatch, PortRange, Ports, Protocol, Requirement, Rule, Selector, Subject, Tier,
    name,
};

/// A pod, labelled by its name.
pub(crate) fn pod(called: &str, node: &str, addresses: &[IpAddr]) -> Endpoint {
    let mut endpoint = Endpoint::new("x", called);
    endpoint.labels = Labels::default().with("app", called);
    endpoint.node = Some(name(node));
    endpoint.addresses = addresses.iter().copied().collect();
    endpoint
}

/// The pods of this label, or all.
pub(crate) fn pods(app: &str) -> PodSelector {
    match app {
        "" => in_x(Selector::everything()),
        app => in_x(Selector::new([Requirement::is_in("app", [app])])),
    }
}

/// The pods with this role.
pub(crate) fn playing(role: &str) -> PodSelector {
    in_x(Selector::new([Requirement::is_in("role", [role])]))
}

fn in_x(pods: Selector) -> PodSelector {
    PodSelector { namespaces: NamespaceScope::Named(name("x")), pods }
}

/// From or to the pods of this label.
pub(crate) fn with_pods(app: &str) -> Rule {
    accept(Peers::AnyOf(vec![Peer::Pods(pods(app))]), Ports::All)
}

/// From or to the addresses of this block.
pub(crate) fn with_block(cidr: &str) -> Rule {
    let block = Block::new(cidr.parse().expect("a block"), []);
    accept(Peers::AnyOf(vec![Peer::Block(block)]), Ports::All)
}

/// The same for one TCP port only.
pub(crate) fn on_tcp(port: u16, rule: Rule) -> Rule {
    let port = PortMatch::Range(Protocol::Tcp, PortRange::single(port));
    Rule { ports: Ports::AnyOf(vec![port]), ..rule }
}

pub(crate) fn accept(peers: Peers, ports: Ports) -> Rule {
    Rule { name: None, action: Action::Accept, peers, ports }
}

/// The NetworkPolicy of this name for the pods of this label.
pub(crate) fn policy(app: &str, ingress: Option<Vec<Rule>>, egress: Option<Vec<Rule>>) -> Policy {
    let kind = PolicyKind::NetworkPolicy;
    Policy {
        key: PolicyKey { kind, namespace: name("x"), name: name(app) },
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: Subject::Pods(pods(app)),
        ingress,
        egress,
    }
}
