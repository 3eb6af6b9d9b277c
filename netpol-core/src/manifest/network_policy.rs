//! NetworkPolicy, `networking.k8s.io/v1`.

use super::address;
use super::error::{Concern, Reason};
use super::field::Field;
use super::metadata::{self, Expected, Scope};
use super::names;
use super::selector::{self, Checked};
use super::value::Value;
use crate::model::{
    Action, Block, Direction, Name, NamespaceScope, Peer, Peers, PodSelector, Policy, PolicyKey,
    PolicyKind, PortMatch, PortRange, Ports, Protocol, Rule, Selector, Subject, Tier,
};

/// Reads a NetworkPolicy with the defaults that the API server fills in (NP-TYPE-5).
pub(super) fn read(object: &Field<'_, '_>, default_namespace: Option<&str>) -> Policy {
    object.is_object(&["apiVersion", "kind", "metadata", "spec", "status"]);
    let scope = Scope::Namespaced(default_namespace);
    let expected = Expected { name: names::dns_subdomain, namespace: scope };
    let metadata = metadata::read(object, expected);
    let object = object.failing_closed(false);
    let spec = object.child("spec");
    let readable = spec.is_object(&["podSelector", "policyTypes", "ingress", "egress"]);
    if spec.is_null() {
        spec.note(Concern::Notice, "without it all pods of the namespace are closed to ingress");
    }

    let selector = selector::read(&spec.child("podSelector"), Checked::Fully);
    let subject =
        |pods| PodSelector { namespaces: NamespaceScope::Named(metadata.namespace.clone()), pods };
    let ingress = rules(&spec.child("ingress"), "from", &metadata.namespace);
    let egress = rules(&spec.child("egress"), "to", &metadata.namespace);
    let types = match readable {
        true => policy_types(&spec, !egress.is_empty()),
        false => Direction::ALL.to_vec(),
    };
    Policy {
        key: PolicyKey {
            kind: PolicyKind::NetworkPolicy,
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
        },
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: match selector {
            Ok(selector) => Subject::Pods(subject(selector)),
            Err(widest) => Subject::AtMost(subject(widest)),
        },
        ingress: types.contains(&Direction::Ingress).then_some(ingress),
        egress: types.contains(&Direction::Egress).then_some(egress),
    }
}

/// The directions that the policy isolates (NP-TYPE-1…4). What is not understood may mean either.
fn policy_types(spec: &Field<'_, '_>, has_egress: bool) -> Vec<Direction> {
    let field = spec.child("policyTypes");
    let Some(items) = field.items() else { return Direction::ALL.to_vec() };
    let count = items.len();
    let mut types = Vec::new();
    for item in items {
        match item.value {
            Value::String(word) if word == "Ingress" => types.push(Direction::Ingress),
            Value::String(word) if word == "Egress" => types.push(Direction::Egress),
            // Too many entries: the server does not look at them.
            _ if count > 2 => types.extend(Direction::ALL),
            _ => {
                if let Some(word) = item.text() {
                    let message = format!("Ingress or Egress is needed, not \"{word}\"");
                    item.fault(Reason::NotSupported, message);
                }
                types.extend(Direction::ALL);
            }
        }
    }
    match count {
        0 if has_egress => Direction::ALL.to_vec(),
        0 => vec![Direction::Ingress],
        1 | 2 => types,
        _ => {
            field.blemish(Reason::Invalid, "at most two entries are allowed");
            types
        }
    }
}

/// Reads the rules of one direction; what is no list becomes a rule that matches nothing.
fn rules(list: &Field<'_, '_>, peers: &str, namespace: &Name) -> Vec<Rule> {
    match list.items() {
        Some(items) => items.map(|item| rule(&item, peers, namespace)).collect(),
        None => vec![Rule {
            name: None,
            action: Action::Accept,
            peers: Peers::AnyOf(vec![Peer::Unknown(list.described())]),
            ports: Ports::All,
        }],
    }
}

/// Reads a rule; absent, null and empty lists are everyone and everything (NP-PEER-1, NP-PORT-1).
fn rule(rule: &Field<'_, '_>, peers: &str, namespace: &Name) -> Rule {
    let readable = rule.is_object(&[peers, "ports"]);
    let unreadable = || Peers::AnyOf(vec![Peer::Unknown(rule.described())]);
    let ports = rule.child("ports");
    let ports = match ports.items() {
        None => Ports::AnyOf(vec![PortMatch::Unknown(ports.described())]),
        Some(items) if items.len() == 0 => Ports::All,
        Some(items) => Ports::AnyOf(items.map(|item| port(&item)).collect()),
    };
    let list = rule.child(peers);
    let peers = match list.items() {
        Some(items) if items.len() == 0 && readable => {
            if list.is_null() && rule.unknown(&["from", "to", "ports"]).next().is_some() {
                let message = "without peers the rule is for everyone, which the unknown field may not have meant";
                rule.note(Concern::Notice, message);
            }
            Peers::Everyone
        }
        Some(items) if readable => Peers::AnyOf(items.map(|item| peer(&item, namespace)).collect()),
        _ => unreadable(),
    };
    Rule { name: None, action: Action::Accept, peers, ports }
}

/// Reads an entry of `ports` (NP-PORT-3…6, NP-V-17…21).
fn port(entry: &Field<'_, '_>) -> PortMatch {
    let unknown = || PortMatch::Unknown(entry.described());
    let before = entry.log().faults();
    if !entry.is_object(&PORT) || entry.is_extended(&PORT) {
        return unknown();
    }
    let protocol = match entry.get("protocol") {
        None => Some(Protocol::Tcp),
        Some(field) => field.text().and_then(|word| {
            let known = Protocol::from_api(word);
            if known.is_none() {
                let message = format!("TCP, UDP or SCTP is needed, not \"{word}\"");
                field.fault(Reason::NotSupported, message);
            }
            known
        }),
    };
    let end = entry.get("endPort");
    let misplaced = |message: &str| {
        if let Some(end) = end
            && end.int().is_some()
        {
            end.fault(Reason::Invalid, message);
        }
    };
    let port = entry.get("port");
    let range = match port.map(|field| (field, field.value)) {
        None => {
            misplaced("a range begins with a port, which is missing");
            Some(PortRange::ALL)
        }
        Some((field, Value::String(name))) => {
            misplaced("a range begins with a port number, not with a name");
            if let Err(wanted) = names::port_name(name) {
                field.fault(Reason::Invalid, format!("\"{name}\" is not a port name: {wanted}"));
            }
            let faultless = entry.log().faults() == before;
            return match protocol {
                Some(_) if faultless => PortMatch::Named(protocol, name.as_str().into()),
                _ => unknown(),
            };
        }
        Some((field, Value::Int(_))) => port_range(&field, end),
        Some((field, _)) => field.wrong_type("a port number or the name of a port"),
    };
    match (protocol, range) {
        (Some(protocol), Some(range)) if entry.log().faults() == before => {
            PortMatch::Range(protocol, range)
        }
        _ => unknown(),
    }
}

const PORT: [&str; 3] = ["protocol", "port", "endPort"];

fn port_range(port: &Field<'_, '_>, end: Option<Field<'_, '_>>) -> Option<PortRange> {
    let first = port.port_number();
    let Some(end) = end else { return first.map(PortRange::single) };
    let last = end.port_number();
    let range = PortRange::new(first?, last?);
    if range.is_none() {
        end.fault(Reason::Invalid, "a range must not end below its port");
    }
    range
}

const PEER: [&str; 3] = ["podSelector", "namespaceSelector", "ipBlock"];

/// Reads an entry of `from` or `to` (NP-PEER-3…8, NP-V-10…16).
fn peer(peer: &Field<'_, '_>, namespace: &Name) -> Peer {
    let unknown = || Peer::Unknown(peer.described());
    if !peer.is_object(&PEER) {
        return unknown();
    }
    let selector = |key| peer.get(key).map(|field| selector::read(&field, Checked::Fully));
    let pods = selector("podSelector");
    let namespaces = selector("namespaceSelector");
    let block = peer.get("ipBlock").map(|field| ip_block(&field));
    if peer.is_extended(&PEER) {
        return unknown();
    }
    match (pods, namespaces, block) {
        (None, None, None) => {
            let message = "one of podSelector, namespaceSelector and ipBlock is needed; to mean everyone, leave out the whole list";
            peer.fault(Reason::Required, message);
            unknown()
        }
        (None, None, Some(block)) => block.map_or_else(unknown, Peer::Block),
        (_, _, Some(_)) => {
            let message = "an ipBlock stands alone; put the selectors into an entry of their own";
            peer.fault(Reason::Forbidden, message);
            unknown()
        }
        (pods, None, None) => match pods {
            Some(Ok(pods)) => {
                let namespaces = NamespaceScope::Named(namespace.clone());
                Peer::Pods(PodSelector { namespaces, pods })
            }
            _ => unknown(),
        },
        (pods, Some(namespaces), None) => {
            match (pods.unwrap_or(Ok(Selector::everything())), namespaces) {
                (Ok(pods), Ok(namespaces)) => {
                    let namespaces = NamespaceScope::Matching(namespaces);
                    Peer::Pods(PodSelector { namespaces, pods })
                }
                _ => unknown(),
            }
        }
    }
}

/// Reads an `ipBlock` (NP-IPB-1…7, NP-V-13…16, NP-V-24).
fn ip_block(field: &Field<'_, '_>) -> Option<Block> {
    const KNOWN: [&str; 2] = ["cidr", "except"];
    if !field.is_object(&KNOWN) || field.is_extended(&KNOWN) {
        return None;
    }
    let cidr_field = field.child("cidr");
    let text = cidr_field.text()?;
    if text.is_empty() {
        cidr_field.fault(Reason::Required, "a block such as 10.0.0.0/8 is needed");
        return None;
    }
    let cidr = block(&cidr_field, text)?;
    let except_field = field.child("except");
    let mut excepts = Vec::new();
    let mut understood = true;
    for item in except_field.items()? {
        let Some(except) = item.text().and_then(|text| block(&item, text)) else {
            understood = false;
            continue;
        };
        if !cidr.contains(&except) || cidr == except {
            item.blemish(Reason::Invalid, format!("{except} is not strictly inside of {cidr}"));
        }
        excepts.push(except);
    }
    understood.then(|| Block::new(cidr, excepts))
}

fn block(field: &Field<'_, '_>, text: &str) -> Option<ipnet::IpNet> {
    let Some(cidr) = address::cidr(text) else {
        field.fault(
            Reason::Invalid,
            format!("a block such as 10.0.0.0/8 or fd00::/8 is needed, not \"{text}\""),
        );
        return None;
    };
    match cidr.flaw {
        Some(flaw) => {
            let message = format!("\"{text}\": {flaw}; write {}", cidr.block);
            field.blemish(Reason::Invalid, message);
        }
        None if !cidr.canonical => {
            field.note(Concern::Notice, format!("IPv6 is better written as {}", cidr.block));
        }
        None => {}
    }
    Some(cidr.block)
}
