use super::{Dialect, at_most, namespaces, not_empty, pods, unique};
use crate::manifest::error::Reason;
use crate::manifest::field::Field;
use crate::manifest::selector::{self, Checked};
use crate::manifest::{Channel, address, names};
use crate::model::{Block, Direction, DomainPattern, Peer, PolicyKind};

/// The fields of ingress peers; there are no others (C-V-19).
const INGRESS: [&str; 2] = ["namespaces", "pods"];

/// Reads `from` or `to` (C-PEER-1…6, C-V-7, C-V-8); nothing with a fault if there is not even one peer.
pub(super) fn read(
    list: &Field<'_, '_>,
    direction: Direction,
    dialect: &Dialect,
    channel: Channel,
) -> Option<Vec<Peer>> {
    let items = list.items()?;
    not_empty(list, items.len(), "peer")?;
    at_most(list, items.len(), dialect.limit, "peers");
    let known = match direction {
        Direction::Ingress => &INGRESS,
        Direction::Egress => dialect.egress_peers,
    };
    let mut peers = Vec::new();
    for item in items {
        let before = item.log().faults();
        if peer(&item, known, dialect, &mut peers).is_none() {
            // It spoils its rule (C-FAIL-1).
            peers.push(Peer::Unknown(item.described()));
        }
        let experimental = ["nodes", "domainNames"].into_iter().find(|key| item.get(key).is_some());
        if let Some(key) = experimental
            && direction == Direction::Egress
            && dialect.kind == PolicyKind::ClusterNetworkPolicy
            && channel != Channel::Experimental
            // One reason is enough.
            && item.log().faults() == before
        {
            let message = format!("{key} is known to the experimental channel of the API only");
            item.blemish(Reason::Invalid, message);
        }
    }
    Some(peers)
}

/// Reads one entry, which may stand for several peers; nothing with a fault or note if it is not understood.
fn peer(
    item: &Field<'_, '_>,
    known: &[&'static str],
    dialect: &Dialect,
    into: &mut Vec<Peer>,
) -> Option<()> {
    let (key, field) = item.exactly_one(known)?;
    match key {
        "namespaces" => into.push(Peer::Pods(namespaces(&field).ok()?)),
        "pods" => into.push(Peer::Pods(pods(&field, dialect).ok()?)),
        "nodes" => into.push(Peer::Nodes(selector::read(&field, Checked::Barely).ok()?)),
        "networks" => listed(&field, into, network)?,
        _ => listed(&field, into, domain)?,
    }
    Some(())
}

/// Reads a list of 1 to 25 different texts (C-V-16, C-V-17, C-V-21).
fn listed(
    list: &Field<'_, '_>,
    into: &mut Vec<Peer>,
    read: impl Fn(&Field<'_, '_>, &str) -> Option<Peer>,
) -> Option<()> {
    let items = list.items()?;
    not_empty(list, items.len(), "entry")?;
    at_most(list, items.len(), 25, "entries");
    let mut seen = Vec::new();
    for item in items {
        let peer = item.text().and_then(|text| {
            unique(&item, text, &mut seen);
            read(&item, text)
        });
        into.push(peer.unwrap_or_else(|| Peer::Unknown(item.described())));
    }
    Some(())
}

/// A block. Host bits are fine with the schema and masked off (C-PEER-3).
fn network(entry: &Field<'_, '_>, text: &str) -> Option<Peer> {
    if text.chars().count() > 43 {
        entry.fault(Reason::TooLong, "a block has at most 43 characters");
        return None;
    }
    let Some(cidr) = address::cidr(text) else {
        let message = format!("a block such as 10.0.0.0/8 or fd00::/8 is needed, not \"{text}\"");
        entry.fault(Reason::Invalid, message);
        return None;
    };
    if let Some(flaw) = cidr.flaw
        && flaw != address::Flaw::HostBits
    {
        let message = format!("\"{text}\": {flaw}; write {}", cidr.block);
        entry.blemish(Reason::Invalid, message);
    }
    Some(Peer::Block(Block::new(cidr.block, [])))
}

fn domain(entry: &Field<'_, '_>, text: &str) -> Option<Peer> {
    if let Err(wanted) = names::domain_name(text) {
        entry.fault(Reason::Invalid, format!("{wanted}, not \"{text}\""));
        return None;
    }
    Some(Peer::Domain(DomainPattern::new(text)))
}
