//! The cluster-wide kinds of `policy.networking.k8s.io`: ClusterNetworkPolicy, and before it AdminNetworkPolicy and
//! BaselineAdminNetworkPolicy. They say the same in slightly different words.

mod peer;
mod port;

use super::Channel;
use super::error::{Concern, Reason};
use super::field::Field;
use super::metadata::{self, Expected, Scope};
use super::names;
use super::selector::{self, Checked};
use crate::model::{
    Action, Direction, Name, NamespaceScope, Peer, Peers, PodSelector, Policy, PolicyKey,
    PolicyKind, PortMatch, Ports, Rule, Selector, Subject, Tier, name,
};

/// The words and limits of one kind.
pub(super) struct Dialect {
    kind: PolicyKind,
    spec: &'static [&'static str],
    actions: &'static [(&'static str, Action)],
    ports: &'static str,
    egress_peers: &'static [&'static str],
    /// Entries in lists of rules, peers and ports (C-V-6, C-V-7, C-V-10, A-4).
    limit: usize,
    /// `pods` may leave out the namespace selector (C-SUBJ-3, A-7).
    any_namespace: bool,
}

/// `v1alpha2` (section 2.1 of the specification).
pub(super) const CLUSTER_NETWORK_POLICY: Dialect = Dialect {
    kind: PolicyKind::ClusterNetworkPolicy,
    spec: &["tier", "priority", "subject", "ingress", "egress"],
    actions: &[("Accept", Action::Accept), ("Deny", Action::Deny), ("Pass", Action::Pass)],
    ports: "protocols",
    egress_peers: &["namespaces", "pods", "networks", "nodes", "domainNames"],
    limit: 25,
    any_namespace: true,
};

/// `v1alpha1` (A-1…9).
pub(super) const ADMIN_NETWORK_POLICY: Dialect = Dialect {
    kind: PolicyKind::AdminNetworkPolicy,
    spec: &["priority", "subject", "ingress", "egress"],
    actions: &[("Allow", Action::Accept), ("Deny", Action::Deny), ("Pass", Action::Pass)],
    ports: "ports",
    egress_peers: &["namespaces", "pods", "networks", "nodes", "domainNames"],
    limit: 100,
    any_namespace: false,
};

/// `v1alpha1` (A-1…9).
pub(super) const BASELINE_ADMIN_NETWORK_POLICY: Dialect = Dialect {
    kind: PolicyKind::BaselineAdminNetworkPolicy,
    spec: &["subject", "ingress", "egress"],
    actions: &[("Allow", Action::Accept), ("Deny", Action::Deny)],
    egress_peers: &["namespaces", "pods", "networks", "nodes"],
    ..ADMIN_NETWORK_POLICY
};

/// Reads a policy; nothing with a fault if it says nothing at all.
pub(super) fn read(object: &Field<'_, '_>, dialect: &Dialect, channel: Channel) -> Option<Policy> {
    object.is_object(&["apiVersion", "kind", "metadata", "spec", "status"]);
    let expected = Expected { name: names::dns_subdomain, namespace: Scope::Cluster };
    let metadata = metadata::read(object, expected);
    let object = object.failing_closed(true);
    let baseline = dialect.kind == PolicyKind::BaselineAdminNetworkPolicy;
    if baseline && !metadata.name.is_empty() && &*metadata.name != "default" {
        object.blemish(
            Reason::Invalid,
            "there is one object of this kind, and its name is \"default\"",
        );
    }
    let Some(spec) = object.get("spec") else {
        object.child("spec").reject(Reason::Required, "the policy itself is needed");
        return None;
    };
    if !spec.is_object(dialect.spec) {
        return None;
    }
    let tier = tier(&spec, dialect);
    let priority = if baseline { Some(0) } else { priority(&spec) };
    let subject = match (subject(&spec, dialect), tier, priority) {
        (Ok(pods), Some(_), Some(_)) => Subject::Pods(pods),
        // With its place in the order unknown, nothing of it may allow anything (C-FAIL-3).
        (Ok(pods) | Err(pods), ..) => Subject::AtMost(pods),
    };
    let rules = |direction| rules(&spec, direction, dialect, channel);
    Some(Policy {
        key: PolicyKey { kind: dialect.kind, namespace: name(""), name: metadata.name },
        tier: tier.unwrap_or(Tier::Admin),
        priority: priority.unwrap_or(0),
        subject,
        ingress: rules(Direction::Ingress),
        egress: rules(Direction::Egress),
    })
}

fn tier(spec: &Field<'_, '_>, dialect: &Dialect) -> Option<Tier> {
    match dialect.kind {
        PolicyKind::AdminNetworkPolicy => return Some(Tier::Admin),
        PolicyKind::BaselineAdminNetworkPolicy => return Some(Tier::Baseline),
        _ => {}
    }
    let field = required(spec, "tier")?;
    match field.text()? {
        "Admin" => Some(Tier::Admin),
        "Baseline" => Some(Tier::Baseline),
        word => {
            let message = format!("Admin or Baseline is needed, not \"{word}\"");
            field.fault(Reason::NotSupported, message);
            None
        }
    }
}

fn priority(spec: &Field<'_, '_>) -> Option<u16> {
    let field = required(spec, "priority")?;
    let number = field.int()?;
    match u16::try_from(number) {
        Ok(priority @ ..=1000) => Some(priority),
        _ => {
            let message = format!("a priority is a number from 0 to 1000, not {number}");
            field.fault(Reason::Invalid, message);
            None
        }
    }
}

/// The subject (C-SUBJ-1…3). If it is not understood, the error is all that it could be.
fn subject(spec: &Field<'_, '_>, dialect: &Dialect) -> Result<PodSelector, PodSelector> {
    let Some(field) = required(spec, "subject") else { return Err(every_pod()) };
    match field.exactly_one(&["namespaces", "pods"]) {
        Some(("pods", field)) => pods(&field, dialect),
        Some((_, field)) => namespaces(&field),
        None => Err(every_pod()),
    }
}

fn every_pod() -> PodSelector {
    let namespaces = NamespaceScope::Matching(Selector::everything());
    PodSelector { namespaces, pods: Selector::everything() }
}

/// All pods of matching namespaces.
fn namespaces(field: &Field<'_, '_>) -> Result<PodSelector, PodSelector> {
    let make = |selector| PodSelector {
        namespaces: NamespaceScope::Matching(selector),
        pods: Selector::everything(),
    };
    selector::read(field, Checked::Barely).map(make).map_err(make)
}

/// Matching pods of matching namespaces.
fn pods(field: &Field<'_, '_>, dialect: &Dialect) -> Result<PodSelector, PodSelector> {
    const KNOWN: [&str; 2] = ["namespaceSelector", "podSelector"];
    if !field.is_object(&KNOWN) {
        return Err(every_pod());
    }
    let extended = field.is_extended(&KNOWN);
    let read = |field: Field<'_, '_>| selector::read(&field, Checked::Barely);
    let namespaces = match field.get("namespaceSelector") {
        None if dialect.any_namespace => Ok(Selector::everything()),
        _ => required(field, "namespaceSelector").map_or(Err(Selector::everything()), read),
    };
    let pods = required(field, "podSelector").map_or(Err(Selector::everything()), read);
    let understood = namespaces.is_ok() && pods.is_ok() && !extended;
    let (Ok(namespaces) | Err(namespaces)) = namespaces;
    let (Ok(pods) | Err(pods)) = pods;
    let selector = PodSelector { namespaces: NamespaceScope::Matching(namespaces), pods };
    if understood { Ok(selector) } else { Err(selector) }
}

/// The rules for one direction; `None` if there are none, which leaves the direction alone (C-ACT-5).
fn rules(
    spec: &Field<'_, '_>,
    direction: Direction,
    dialect: &Dialect,
    channel: Channel,
) -> Option<Vec<Rule>> {
    let list = spec.get(match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    })?;
    let Some(items) = list.items() else { return Some(vec![deny_everything(&list)]) };
    at_most(&list, items.len(), dialect.limit, "rules");
    let rules: Vec<Rule> = items.map(|item| rule(&item, direction, dialect, channel)).collect();
    (!rules.is_empty()).then_some(rules)
}

fn rule(rule: &Field<'_, '_>, direction: Direction, dialect: &Dialect, channel: Channel) -> Rule {
    let list = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    if !rule.is_object(&["name", "action", list, dialect.ports]) {
        return deny_everything(rule);
    }
    let action = action(rule, dialect);
    let ports = match rule.get(dialect.ports) {
        None => Ports::All,
        Some(list) => Ports::AnyOf(
            port::read(&list, dialect)
                .unwrap_or_else(|| vec![PortMatch::Unknown(list.described())]),
        ),
    };
    let names_refused = has_names(&ports) && refuses_named_ports(dialect, channel);
    // One reason is enough: the channel that refuses names knows all peers.
    let channel = if names_refused { Channel::Experimental } else { channel };
    let peers = required(rule, list)
        .and_then(|list| peer::read(&list, direction, dialect, channel))
        .unwrap_or_else(|| vec![Peer::Unknown(rule.child(list).described())]);
    if names_refused && has_unnamed_peers(&peers) {
        let message = "networks, nodes and domain names have no named ports; use port numbers, or a rule of its own for pods";
        rule.blemish(Reason::Invalid, message);
    }
    if action != Action::Accept && peers.iter().any(|peer| matches!(peer, Peer::Domain(_))) {
        rule.note(Concern::Notice, "domain names are defined for rules that accept only");
    }
    let name = rule_name(rule);
    Rule { name, action, peers: Peers::AnyOf(peers), ports }
}

/// Something instead of a rule: it denies, whatever it was (C-FAIL-3).
fn deny_everything(field: &Field<'_, '_>) -> Rule {
    let peers = Peers::AnyOf(vec![Peer::Unknown(field.described())]);
    Rule { name: None, action: Action::Deny, peers, ports: Ports::All }
}

/// The action; an unknown one denies (C-FAIL-3).
fn action(rule: &Field<'_, '_>, dialect: &Dialect) -> Action {
    let Some(field) = required(rule, "action") else { return Action::Deny };
    let Some(word) = field.text() else { return Action::Deny };
    let known = dialect.actions.iter().find(|(known, _)| *known == word);
    known.map_or_else(
        || {
            let words: Vec<_> = dialect.actions.iter().map(|(word, _)| *word).collect();
            let message = format!("one of {} is needed, not \"{word}\"", words.join(", "));
            field.fault(Reason::NotSupported, message);
            Action::Deny
        },
        |(_, action)| *action,
    )
}

fn rule_name(rule: &Field<'_, '_>) -> Option<Name> {
    let field = rule.get("name")?;
    let text = field.text()?;
    if text.chars().count() > 100 {
        field.blemish(Reason::TooLong, "the name of a rule has at most 100 characters");
    }
    (!text.is_empty()).then(|| name(text))
}

/// Whether the CRD has the rule of C-V-18 and A-8.
fn refuses_named_ports(dialect: &Dialect, channel: Channel) -> bool {
    dialect.kind != PolicyKind::ClusterNetworkPolicy || channel != Channel::Standard
}

fn has_unnamed_peers(peers: &[Peer]) -> bool {
    peers.iter().any(|peer| matches!(peer, Peer::Block(_) | Peer::Nodes(_) | Peer::Domain(_)))
}

fn has_names(ports: &Ports) -> bool {
    let Ports::AnyOf(entries) = ports else { return false };
    entries.iter().any(|entry| matches!(entry, PortMatch::Named(..)))
}

/// A field that the schema asks for, or nothing with a fault.
fn required<'v, 'b>(field: &'b Field<'v, '_>, key: &'b str) -> Option<Field<'v, 'b>> {
    let found = field.get(key);
    if found.is_none() {
        field.child(key).fault(Reason::Required, format!("{key} is needed"));
    }
    found
}

fn at_most(list: &Field<'_, '_>, count: usize, limit: usize, what: &str) {
    if count > limit {
        list.blemish(Reason::TooMany, format!("at most {limit} {what} are allowed, not {count}"));
    }
}

/// Refuses an empty list; the caller takes it for one that is not understood.
fn not_empty(list: &Field<'_, '_>, count: usize, what: &str) -> Option<()> {
    if count == 0 {
        list.fault(Reason::Invalid, format!("at least one {what} is needed"));
        return None;
    }
    Some(())
}

/// Refuses an entry that stands in its list already.
fn unique<'v>(entry: &Field<'v, '_>, text: &'v str, seen: &mut Vec<&'v str>) {
    if seen.contains(&text) {
        entry.blemish(Reason::Duplicate, format!("\"{text}\" is listed already"));
    }
    seen.push(text);
}

/// Tells of something that is legal and means nothing.
fn matches_nothing(field: &Field<'_, '_>, why: String) {
    field.note(Concern::Notice, format!("{why}, so this matches nothing"));
}
