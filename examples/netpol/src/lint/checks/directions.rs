use std::collections::BTreeMap;

use netpol_core::manifest::Value;
use netpol_core::model::{
    Action, Direction, Peers, Policy, PolicyKey, PolicyKind, PortMatch, Ports, Protocol, Rule, Tier,
};

use super::super::facts::{Alike, Facts, label};
use super::super::{Finding, Lint, Report};
use crate::input::Written;

/// Looks at the directions that a NetworkPolicy was written for.
pub(super) fn check(written: Option<&Written>, report: &mut Report<'_>) {
    let Some(spec) = written.and_then(|it| it.value.get("spec")) else { return };
    if report.policy.key.kind != PolicyKind::NetworkPolicy {
        return;
    }
    let rules = |field: &str| match spec.get(field) {
        Some(Value::List(rules)) => rules.len(),
        _ => 0,
    };
    let types = match spec.get("policyTypes") {
        Some(Value::List(types)) if !types.is_empty() => Some(types),
        _ => None,
    };
    let Some(types) = types else {
        if rules("ingress") == 0 && rules("egress") == 0 && spec.get("egress").is_none() {
            let message =
                "without policyTypes and egress this closes ingress only; egress stays open";
            report.add(Lint::IngressOnly, "spec.policyTypes", message);
        }
        return;
    };
    for (direction, field) in [("Ingress", "ingress"), ("Egress", "egress")] {
        let named = types.iter().any(|it| it.as_str() == Some(direction));
        if !named && rules(field) > 0 {
            let message = format!(
                "these rules have no effect and {field} stays open, since policyTypes does not list {direction}"
            );
            report.add(Lint::NotIsolated, format!("spec.{field}"), message);
        }
    }
}

/// Looks at all policies of a pod together.
pub(in super::super) fn profiles(facts: &Facts<'_>) -> Vec<Finding> {
    let mut found = BTreeMap::new();
    for alike in facts.profiles() {
        for finding in names_forgotten(&alike).into_iter().chain(overlaps(&alike)) {
            found
                .entry((finding.object.clone(), finding.lint, finding.path.clone()))
                .or_insert(finding);
        }
    }
    found.into_values().collect()
}

/// The policies of the additive tier that isolate in a direction.
fn isolating<'a>(alike: &Alike<'a>, direction: Direction) -> Vec<(&'a Policy, &'a [Rule])> {
    let additive = alike.profile.policies().filter(|it| it.tier == Tier::NetworkPolicy);
    additive.filter_map(|policy| Some((policy, policy.rules(direction)?))).collect()
}

/// Egress is isolated and something is allowed, but not to ask for names.
fn names_forgotten(alike: &Alike<'_>) -> Option<Finding> {
    let isolating = isolating(alike, Direction::Egress);
    let (policy, _) = isolating.iter().find(|(_, rules)| !rules.is_empty())?;
    let asks = |rule: &Rule| rule.action == Action::Accept && admits_names(&rule.ports);
    let rules = alike.profile.policies().flat_map(|it| it.rules(Direction::Egress)).flatten();
    let mut rules = rules.filter(|rule| asks(rule));
    rules.next().is_none().then(|| Finding {
        object: policy.key.clone(),
        lint: Lint::NamesForgotten,
        path: "spec.egress".to_owned(),
        message: format!(
            "{} cannot resolve names: no rule of any of its policies allows egress to port 53/udp",
            label(alike.pod)
        ),
    })
}

fn admits_names(ports: &Ports) -> bool {
    match ports {
        Ports::All => true,
        Ports::AnyOf(ports) => ports.iter().any(|port| match port {
            PortMatch::Range(Protocol::Udp, range) => range.contains(53),
            PortMatch::Named(protocol, name) => {
                protocol.is_none_or(|it| it == Protocol::Udp) && name.contains("dns")
            }
            PortMatch::Range(..) | PortMatch::Unknown(_) => false,
        }),
    }
}

/// Several policies allow together what none of them shows.
fn overlaps(alike: &Alike<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for direction in Direction::ALL {
        let some: Vec<_> = isolating(alike, direction)
            .into_iter()
            .filter(|(_, rules)| !rules.is_empty())
            .collect();
        let says_all = |rules: &[Rule]| {
            some.iter()
                .flat_map(|(_, rules)| *rules)
                .all(|it| rules.iter().any(|by| covers(by, it)))
        };
        if some.len() < 2 || some.iter().any(|(_, rules)| says_all(rules)) {
            continue;
        }
        let names: Vec<&PolicyKey> = some.iter().map(|(policy, _)| &policy.key).collect();
        if let Some((first, others)) = names.split_first() {
            let others: Vec<String> = others.iter().map(|it| it.name.to_string()).collect();
            found.push(Finding {
                object: (*first).clone(),
                lint: Lint::Overlap,
                path: format!("spec.{direction}"),
                message: format!(
                    "for {} this counts together with {}, and allows more {direction} than any of them shows",
                    label(alike.pod),
                    others.join(", ")
                ),
            });
        }
    }
    found
}

/// Whether it is plain to see that one rule allows all that another one does.
fn covers(by: &Rule, rule: &Rule) -> bool {
    let peers = match (&by.peers, &rule.peers) {
        (Peers::Everyone, _) => true,
        (Peers::AnyOf(_), Peers::Everyone) => false,
        (Peers::AnyOf(by), Peers::AnyOf(peers)) => peers.iter().all(|it| by.contains(it)),
    };
    let ports = match (&by.ports, &rule.ports) {
        (Ports::All, _) => true,
        (Ports::AnyOf(_), Ports::All) => false,
        (Ports::AnyOf(by), Ports::AnyOf(ports)) => ports.iter().all(|it| by.contains(it)),
    };
    peers && ports
}
