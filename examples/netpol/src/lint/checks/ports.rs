use netpol_core::manifest::Value;
use netpol_core::model::{
    Direction, Endpoint, Name, Peer, Peers, PolicyKind, PortMatch, Ports, Protocol, Rule,
};

use super::super::facts::{Facts, subject};
use super::super::{Lint, Report};
use super::{rule_path, rules};
use crate::input::Written;

pub(super) fn check(facts: &Facts<'_>, written: Option<&Written>, report: &mut Report<'_>) {
    let policy = report.policy;
    for (direction, index, rule) in rules(policy) {
        let Ports::AnyOf(ports) = &rule.ports else { continue };
        for (at, port) in ports.iter().enumerate() {
            let path = || match policy.key.kind {
                PolicyKind::NetworkPolicy => format!("{}.ports[{at}]", rule_path(direction, index)),
                _ => rule_path(direction, index),
            };
            match port {
                PortMatch::Unknown(what) => {
                    report.add(Lint::Unsupported, path(), format!("is not understood ({what})"));
                }
                PortMatch::Named(protocol, name) => {
                    if nobody_declares(facts, report, direction, rule, (*protocol, name)) {
                        let whom = match direction {
                            Direction::Ingress => "no pod that the policy selects",
                            Direction::Egress => "no pod that the rule is about",
                        };
                        let message =
                            format!("{whom} declares a port {port}, so that this matches nothing");
                        report.add(Lint::UndeclaredPort, path(), message);
                    }
                }
                PortMatch::Range(..) => {}
            }
        }
    }
    if policy.key.kind == PolicyKind::NetworkPolicy
        && let Some(written) = written
    {
        protocols(written, report);
    }
}

/// Whether there are pods that could declare the port, and none of them does.
fn nobody_declares(
    facts: &Facts<'_>,
    report: &Report<'_>,
    direction: Direction,
    rule: &Rule,
    (protocol, name): (Option<Protocol>, &Name),
) -> bool {
    let mut asked: Vec<&Endpoint> = Vec::new();
    let mut add = |places: &[usize]| asked.extend(places.iter().filter_map(|at| facts.pod(*at)));
    match (direction, &rule.peers) {
        (Direction::Ingress, _) => add(&facts.matching(subject(report.policy))),
        (Direction::Egress, Peers::Everyone) => asked.extend(&facts.pods),
        (Direction::Egress, Peers::AnyOf(peers)) => {
            for peer in peers {
                match peer {
                    Peer::Pods(selector) => add(&facts.matching(selector)),
                    Peer::Block(block) => {
                        let within = facts
                            .addresses
                            .range(block.cidr().network()..=block.cidr().broadcast());
                        let places: Vec<usize> = within.map(|(_, at)| *at).collect();
                        add(&places);
                    }
                    Peer::Nodes(_) | Peer::Domain(_) | Peer::Unknown(_) => {}
                }
            }
        }
    }
    let declares = |pod: &&Endpoint| {
        pod.ports.iter().any(|it| it.name == *name && protocol.is_none_or(|of| of == it.protocol))
    };
    !asked.is_empty() && !asked.iter().any(declares)
}

/// Entries with a port and without a protocol, which is TCP then.
fn protocols(written: &Written, report: &mut Report<'_>) {
    let items = |value: Option<&Value>| match value {
        Some(Value::List(items)) => items.clone(),
        _ => Vec::new(),
    };
    let Some(spec) = written.value.get("spec") else { return };
    for direction in Direction::ALL {
        for (rule, value) in items(spec.get(&direction.to_string())).iter().enumerate() {
            for (at, entry) in items(value.get("ports")).iter().enumerate() {
                let given = |field: &str| entry.get(field).is_some_and(|it| *it != Value::Null);
                if given("port") && !given("protocol") {
                    let message = match entry.get("port") {
                        Some(Value::Int(53)) => {
                            "without a protocol this is TCP, while names are resolved by UDP first"
                        }
                        _ => "without a protocol this is TCP",
                    };
                    let path = format!("{}.ports[{at}]", rule_path(direction, rule));
                    report.add(Lint::ProtocolDefaulted, path, message);
                }
            }
        }
    }
}
