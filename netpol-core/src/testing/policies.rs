use ipnet::IpNet;

use super::workloads::{
    key, namespace_name, node_address, outside_address, pod_address, port_name, protocol, value,
};
use super::{Choices, pick};
use crate::model::PolicyKind::{
    AdminNetworkPolicy, BaselineAdminNetworkPolicy, ClusterNetworkPolicy, NetworkPolicy,
};
use crate::model::{
    Action, Block, Direction, DomainPattern, Name, NamespaceScope, Peer, Peers, PodSelector,
    Policy, PolicyKey, PolicyKind, PortMatch, PortRange, Ports, Requirement, Rule, Selector,
    Subject, Tier, name,
};

/// Where a rule stands, which says what it may contain.
#[derive(Clone)]
struct Place {
    kind: PolicyKind,
    direction: Direction,
    /// The namespace of a NetworkPolicy.
    namespace: Name,
}

pub(super) fn policies(choices: &mut Choices<'_>, namespaces: usize) -> Vec<Policy> {
    let kinds = choices.of([
        &[NetworkPolicy, ClusterNetworkPolicy, AdminNetworkPolicy, BaselineAdminNetworkPolicy][..],
        &[NetworkPolicy, NetworkPolicy, ClusterNetworkPolicy],
        &[NetworkPolicy],
        &[ClusterNetworkPolicy, ClusterNetworkPolicy, AdminNetworkPolicy],
    ]);
    let mut policies: Vec<Policy> = Vec::new();
    for policy in
        choices.some([0, 3, 5, 6, 1, 2, 4, 5], |choices| policy(choices, kinds, namespaces))
    {
        if policies.iter().all(|other| other.key != policy.key) {
            policies.push(policy);
        }
    }
    // A tie matters only between policies that contradict each other.
    let contradicted = policies.iter().find(|it| it.tier != Tier::NetworkPolicy);
    if let Some(policy) = contradicted.filter(|_| choices.one_in(4)) {
        policies.push(contradiction(policy.clone()));
    }
    let carved = policies.iter().find_map(|it| Some((it, carved_block(it)?)));
    if let Some((policy, cidr)) = carved.filter(|_| choices.one_in(2)) {
        policies.push(carver(policy.clone(), cidr));
    }
    policies
}

/// The CIDR of a block that the policy leaves out parts of, if there are many to leave out.
fn carved_block(policy: &Policy) -> Option<IpNet> {
    let rules = policy.ingress.iter().chain(&policy.egress).flatten();
    let peers = rules.filter_map(|rule| match &rule.peers {
        Peers::AnyOf(peers) => Some(peers),
        Peers::Everyone => None,
    });
    peers.flatten().find_map(|peer| match peer {
        Peer::Block(block) if !block.except().is_empty() => {
            Some(block.cidr()).filter(|it| it.max_prefix_len() - it.prefix_len() > 6)
        }
        _ => None,
    })
}

/// The same policy under another name, about so many different parts of a block that the engine tells parts apart.
fn carver(mut policy: Policy, cidr: IpNet) -> Policy {
    policy.key.name = name("carver");
    for rule in policy.ingress.iter_mut().chain(&mut policy.egress).flatten() {
        let parts = cidr.hosts().take(34).map(IpNet::from);
        rule.peers = Peers::AnyOf(parts.map(|it| Peer::Block(Block::new(cidr, [it]))).collect());
    }
    policy
}

/// The same policy under another name, with Accept for Deny and the other way round.
fn contradiction(mut policy: Policy) -> Policy {
    policy.key.name = name("opposite");
    for rule in policy.ingress.iter_mut().chain(&mut policy.egress).flatten() {
        rule.action = match rule.action {
            Action::Accept => Action::Deny,
            Action::Deny => Action::Accept,
            Action::Pass => Action::Pass,
        };
    }
    policy
}

fn policy(choices: &mut Choices<'_>, kinds: &[PolicyKind], namespaces: usize) -> Policy {
    let kind = pick(choices, kinds).unwrap_or(NetworkPolicy);
    let namespace = match kind {
        NetworkPolicy => namespace_name(choices.pick(namespaces)),
        _ => name(""),
    };
    let tier = match kind {
        NetworkPolicy => Tier::NetworkPolicy,
        ClusterNetworkPolicy => choices.of([Tier::Admin, Tier::Baseline]),
        AdminNetworkPolicy => Tier::Admin,
        BaselineAdminNetworkPolicy => Tier::Baseline,
    };
    let priority = match kind {
        NetworkPolicy | BaselineAdminNetworkPolicy => 0,
        ClusterNetworkPolicy | AdminNetworkPolicy => choices.of([0, 0, 0, 1, 1000]),
    };
    let own_name = match kind {
        BaselineAdminNetworkPolicy => "default",
        _ => choices.of(["p", "q", "r", "default"]),
    };
    let selector = pod_selector(choices, kind, &namespace);
    let subject =
        if choices.one_in(12) { Subject::AtMost(selector) } else { Subject::Pods(selector) };
    let mut rules = |direction| {
        let place = Place { kind, direction, namespace: namespace.clone() };
        choices
            .of([true, true, false])
            .then(|| choices.some([0, 1, 1, 2, 3], |choices| rule(choices, &place)))
    };
    let (ingress, egress) = (rules(Direction::Ingress), rules(Direction::Egress));
    let key = PolicyKey { kind, namespace: namespace.clone(), name: name(own_name) };
    Policy { key, tier, priority, subject, ingress, egress }
}

fn pod_selector(choices: &mut Choices<'_>, kind: PolicyKind, namespace: &Name) -> PodSelector {
    let namespaces = match kind {
        NetworkPolicy => NamespaceScope::Named(namespace.clone()),
        _ => NamespaceScope::Matching(namespace_selector(choices)),
    };
    PodSelector { namespaces, pods: selector(choices) }
}

fn namespace_selector(choices: &mut Choices<'_>) -> Selector {
    if choices.one_in(5) {
        let by_name = choices.of(["n0", "n1", "n2", "n3", "no-such-namespace"]);
        Selector::new([Requirement::is_in("kubernetes.io/metadata.name", [by_name])])
    } else {
        selector(choices)
    }
}

fn selector(choices: &mut Choices<'_>) -> Selector {
    let requirements = choices.some([0, 0, 0, 1, 1, 2], |choices| {
        let key = key(choices);
        match choices.pick(6) {
            1 => Requirement::is_in(key, choices.some([1, 2, 2, 1, 0], value)),
            2 => Requirement::is_not_in(key, choices.some([1, 2, 2, 1, 0], value)),
            3 => Requirement::exists(key),
            4 => Requirement::does_not_exist(key),
            _ => Requirement::is_in(key, [value(choices)]),
        }
    });
    Selector::new(requirements)
}

fn rule(choices: &mut Choices<'_>, place: &Place) -> Rule {
    let action = match place.kind {
        NetworkPolicy => Action::Accept,
        BaselineAdminNetworkPolicy => choices.of([Action::Accept, Action::Deny]),
        _ => choices.of([Action::Accept, Action::Deny, Action::Pass]),
    };
    // Manifests of the cluster-wide kinds have no "everyone" by omission, but the model has.
    let often = if place.kind == NetworkPolicy { 3 } else { 16 };
    let peers = if choices.one_in(often) {
        Peers::Everyone
    } else {
        Peers::AnyOf(choices.some([1, 2, 3, 1, 0], |choices| peer(choices, place)))
    };
    let ports = if choices.one_in(2) {
        Ports::AnyOf(choices.some([1, 2, 3, 1, 0], |choices| port(choices, place)))
    } else {
        Ports::All
    };
    Rule { name: None, action, peers, ports }
}

fn peer(choices: &mut Choices<'_>, place: &Place) -> Peer {
    if choices.one_in(16) {
        return Peer::Unknown(name("galaxies"));
    }
    match (place.kind, place.direction) {
        (NetworkPolicy, _) => match choices.pick(3) {
            1 => Peer::Pods(PodSelector {
                namespaces: NamespaceScope::Matching(namespace_selector(choices)),
                pods: selector(choices),
            }),
            2 => Peer::Block(Block::new(block(choices), choices.some([0, 1, 2], block))),
            _ => Peer::Pods(pod_selector(choices, place.kind, &place.namespace)),
        },
        (kind, Direction::Ingress) => Peer::Pods(pod_selector(choices, kind, &place.namespace)),
        (kind, Direction::Egress) => match choices.pick(5) {
            1 | 2 => Peer::Block(Block::new(block(choices), [])),
            3 => Peer::Nodes(selector(choices)),
            4 => Peer::Domain(DomainPattern::new(choices.of([
                "example.org",
                "*.example.org",
                "a.example.org.",
                "*.A.example.org",
            ]))),
            _ => Peer::Pods(pod_selector(choices, kind, &place.namespace)),
        },
    }
}

/// A block around one of the addresses in use, host bits and all.
fn block(choices: &mut Choices<'_>) -> IpNet {
    let address = match choices.pick(4) {
        1 => node_address(choices),
        2 => outside_address(choices),
        _ => pod_address(choices),
    };
    let length = if address.is_ipv4() {
        choices.of([32, 31, 30, 29, 24, 16, 0])
    } else {
        choices.of([128, 127, 126, 125, 64, 48, 0])
    };
    IpNet::new(address, length).unwrap_or_else(|_| address.into())
}

fn port(choices: &mut Choices<'_>, place: &Place) -> PortMatch {
    let number = |choices: &mut Choices<'_>| choices.of([80, 81, 1, 65535]);
    match choices.pick(7) {
        1 => {
            let (a, b) = (number(choices), number(choices));
            let range = PortRange::new(a.min(b), a.max(b)).unwrap_or(PortRange::single(a));
            PortMatch::Range(protocol(choices), range)
        }
        2 => PortMatch::Range(protocol(choices), PortRange::ALL),
        3..=5 => {
            // Only NetworkPolicy asks for the protocol of a name (C-PROTO-5).
            let named = place.kind == NetworkPolicy;
            PortMatch::Named(named.then(|| protocol(choices)), port_name(choices))
        }
        6 if choices.one_in(2) => PortMatch::Unknown(name("quic")),
        _ => PortMatch::Range(protocol(choices), PortRange::single(number(choices))),
    }
}
