//! Namespaces and nodes.

use super::address;
use super::field::Field;
use super::metadata::{self, Expected, Scope};
use super::names;
use crate::model::{Namespace, Node};

/// Reads a Namespace (SEL-9, SEL-10).
pub(super) fn namespace(object: &Field<'_, '_>) -> Namespace {
    let expected = Expected { name: names::dns_label, namespace: Scope::Cluster };
    let metadata = metadata::read(object, expected);
    Namespace::new(&metadata.name, metadata.labels)
}

/// Reads a Node: its labels and all its addresses, whatever their type; host names are none (C-PEER-4).
pub(super) fn node(object: &Field<'_, '_>) -> Node {
    let expected = Expected { name: names::dns_subdomain, namespace: Scope::Cluster };
    let metadata = metadata::read(object, expected);
    let status = object.child("status");
    status.entries();
    let mut addresses = Vec::new();
    for entry in status.child("addresses").items().into_iter().flatten() {
        entry.entries();
        let text = entry.child("address").text().unwrap_or_default();
        if let Some(address) = address::address(text)
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    Node { name: metadata.name, labels: metadata.labels, addresses }
}
