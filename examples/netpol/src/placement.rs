//! What a scheduler and an address manager would do, for manifests that nobody has deployed yet.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netpol_core::model::{Labels, Name, Node, Objects, name};

/// Gives every pod a node and addresses, and every node addresses, unless they have some. Without any node there will
/// be two.
pub(crate) fn place(objects: &mut Objects) {
    let Objects { nodes, endpoints, .. } = objects;
    for endpoint in &*endpoints {
        if let Some(wanted) = &endpoint.node
            && nodes.iter().all(|node| node.name != *wanted)
        {
            nodes.push(empty_node(wanted.clone()));
        }
    }
    if nodes.is_empty() {
        nodes.extend(["node-1", "node-2"].map(|it| empty_node(name(it))));
    }
    let taken = nodes.iter().flat_map(|node| &node.addresses);
    let taken = taken.chain(endpoints.iter().flat_map(|endpoint| &endpoint.addresses));
    let mut free = Free { taken: taken.copied().collect() };
    for node in nodes.iter_mut().filter(|node| node.addresses.is_empty()) {
        node.addresses.extend(free.pair([172, 18, 0], 10));
    }
    let names: Vec<Name> = nodes.iter().map(|node| node.name.clone()).collect();
    let mut next = names.iter().cycle();
    for endpoint in endpoints.iter_mut().filter(|endpoint| endpoint.is_ordinary()) {
        if endpoint.node.is_none() {
            endpoint.node = next.next().cloned();
        }
        if endpoint.addresses.is_empty() {
            let node = names.iter().position(|it| Some(it) == endpoint.node.as_ref());
            let third = node.and_then(|at| u8::try_from(at + 1).ok()).unwrap_or_default();
            endpoint.addresses.extend(free.pair([10, 244, third], 10));
        }
    }
}

fn empty_node(name: Name) -> Node {
    Node { name, labels: Labels::default(), addresses: Vec::new() }
}

/// Addresses that nobody has yet.
struct Free {
    taken: BTreeSet<IpAddr>,
}

impl Free {
    /// An address of either family, those that begin with `prefix` and end with `first` or something higher.
    fn pair(&mut self, prefix: [u8; 3], first: u16) -> [IpAddr; 2] {
        let [a, b, c] = prefix.map(u16::from);
        let pairs = (first..u16::MAX).map(|last| {
            let v4 = Ipv4Addr::from(
                u32::from_be_bytes([prefix[0], prefix[1], prefix[2], 0]) + u32::from(last),
            );
            [IpAddr::V4(v4), IpAddr::V6(Ipv6Addr::new(0xfd00, a, b, c, 0, 0, 0, last))]
        });
        let mut free =
            pairs.filter(|pair| pair.iter().all(|address| !self.taken.contains(address)));
        let pair =
            free.next().unwrap_or([Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]);
        self.taken.extend(pair);
        pair
    }
}
