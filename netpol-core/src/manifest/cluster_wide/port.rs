use super::{Dialect, at_most, matches_nothing, not_empty, required};
use crate::manifest::error::Reason;
use crate::manifest::field::Field;
use crate::model::{PolicyKind, PortMatch, PortRange, Protocol};

/// Reads `protocols` of v1alpha2 (C-PROTO-1…7, C-V-10…15) or `ports` of v1alpha1; nothing with a fault if
/// there is not even one entry.
pub(super) fn read(list: &Field<'_, '_>, dialect: &Dialect) -> Option<Vec<PortMatch>> {
    let items = list.items()?;
    not_empty(list, items.len(), "entry")?;
    at_most(list, items.len(), dialect.limit, "entries");
    let mut ports = Vec::new();
    for item in items {
        let understood = match dialect.kind {
            PolicyKind::ClusterNetworkPolicy => protocol(&item, &mut ports),
            _ => port(&item, &mut ports),
        };
        if understood.is_none() {
            ports.push(PortMatch::Unknown(item.described()));
        }
    }
    Some(ports)
}

/// An entry of `protocols`.
fn protocol(entry: &Field<'_, '_>, into: &mut Vec<PortMatch>) -> Option<()> {
    let (key, field) = entry.exactly_one(&["tcp", "udp", "sctp", "destinationNamedPort"])?;
    let protocol = match key {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        // Any text will do; what no pod declares matches nothing (C-PROTO-7).
        _ => {
            into.push(PortMatch::Named(None, field.text()?.into()));
            return Some(());
        }
    };
    let known = ["destinationPort"];
    if !field.is_object(&known) {
        return None;
    }
    let Some(port) = field.get("destinationPort") else {
        if field.unknown(&known).next().is_some() {
            field.fault(Reason::Invalid, "destinationPort is needed");
            return None;
        }
        let message = "destinationPort is needed; all ports are the range from 1 to 65535";
        field.blemish(Reason::Invalid, message);
        into.push(PortMatch::Range(protocol, PortRange::ALL));
        return Some(());
    };
    if field.is_extended(&known) {
        return None;
    }
    let (key, field) = port.exactly_one(&["number", "range"])?;
    let range = match key {
        "number" => PortRange::single(field.port_number()?),
        _ => range(&field)?,
    };
    into.push(PortMatch::Range(protocol, range));
    Some(())
}

fn range(field: &Field<'_, '_>) -> Option<PortRange> {
    if !field.is_object(&["start", "end"]) {
        return None;
    }
    let (start, end) = bounds(field)?;
    let range = PortRange::new(start, end);
    match range {
        Some(_) if start < end => {}
        Some(_) => {
            field.blemish(Reason::Invalid, "start must be below end; use number for one port")
        }
        None => field.fault(Reason::Invalid, "start must be below end"),
    }
    range
}

/// An entry of the older `ports`.
fn port(entry: &Field<'_, '_>, into: &mut Vec<PortMatch>) -> Option<()> {
    let (key, field) = entry.exactly_one(&["portNumber", "portRange", "namedPort"])?;
    let (known, number): (&[&str], bool) = match key {
        "portNumber" => (&["protocol", "port"], true),
        "portRange" => (&["protocol", "start", "end"], false),
        _ => {
            into.push(PortMatch::Named(None, field.text()?.into()));
            return Some(());
        }
    };
    if !field.is_object(known) || field.is_extended(known) {
        return None;
    }
    let word = match field.child("protocol") {
        // The default of the schema takes the place of null, too.
        absent if absent.is_null() => "TCP",
        given => given.text()?,
    };
    let (start, end) = if number {
        let port = required(&field, "port")?.port_number()?;
        (port, port)
    } else {
        bounds(&field)?
    };
    match (Protocol::from_api(word), PortRange::new(start, end)) {
        (Some(protocol), Some(range)) => into.push(PortMatch::Range(protocol, range)),
        (None, _) => {
            matches_nothing(&field, format!("TCP, UDP and SCTP have ports, not \"{word}\""))
        }
        (_, None) => matches_nothing(&field, "the range ends before it starts".to_owned()),
    }
    Some(())
}

fn bounds(field: &Field<'_, '_>) -> Option<(u16, u16)> {
    let start = required(field, "start").and_then(|start| start.port_number());
    let end = required(field, "end").and_then(|end| end.port_number());
    Some((start?, end?))
}
