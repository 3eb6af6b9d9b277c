//! What a cluster consists of, as far as packets can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use anyhow::{Result, bail, ensure};

use crate::wiring::RESERVED;

/// The nodes, pods and outside addresses of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// The nodes; any number of addresses each, IPv4 and IPv6.
    pub nodes: Vec<Node>,
    /// The pods that have a network of their own. A pod on the host network is its node (M4).
    pub pods: Vec<Pod>,
    /// Addresses of the world outside. An address that is probed and that nobody else has is added
    /// when it is needed.
    pub outside: Vec<IpAddr>,
}

/// A node of a [`Topology`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name, unique among the nodes.
    pub name: String,
    /// Its addresses. The first of each family is the source of traffic that does not choose
    /// another.
    pub addresses: Vec<IpAddr>,
}

/// A pod of a [`Topology`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name, unique among the pods: `namespace/pod`.
    pub name: String,
    /// The name of the node that it runs on.
    pub node: String,
    /// Its addresses; they need not come from one range per node.
    pub addresses: Vec<IpAddr>,
}

/// A place that packets come from or go to, each with a network namespace of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The world outside the cluster.
    Outside,
    /// The node of this name.
    Node(String),
    /// The pod of this name.
    Pod(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Outside => f.write_str("the outside"),
            Place::Node(name) => write!(f, "node {name}"),
            Place::Pod(name) => write!(f, "pod {name}"),
        }
    }
}

/// Which address belongs where; every address belongs to one place at most (M3).
#[derive(Debug, Default)]
pub(crate) struct Owners(BTreeMap<IpAddr, Place>);

impl Owners {
    /// Enters all `addresses` as those of `place`, or none of them.
    pub(crate) fn claim(&mut self, place: &Place, addresses: &[IpAddr]) -> Result<()> {
        let mut own = BTreeSet::new();
        for address in addresses {
            check_usable(*address)?;
            if let Some(owner) = self.0.get(address) {
                bail!("{place} cannot have the address {address}: {owner} has it");
            }
            ensure!(own.insert(address), "{place} has the address {address} twice");
        }
        self.0.extend(addresses.iter().map(|address| (*address, place.clone())));
        Ok(())
    }

    /// Forgets the addresses of `place`.
    pub(crate) fn release(&mut self, place: &Place) {
        self.0.retain(|_, owner| owner != place);
    }

    /// Where `address` belongs, if it has been claimed.
    pub(crate) fn of(&self, address: IpAddr) -> Option<&Place> {
        self.0.get(&address)
    }
}

/// Whether an interface can have this address and the testbed does not need it for itself.
pub(crate) fn check_usable(address: IpAddr) -> Result<()> {
    let usable = match address {
        IpAddr::V4(v4) => {
            !v4.is_unspecified() && !v4.is_loopback() && !v4.is_multicast() && !v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            !v6.is_unspecified()
                && !v6.is_loopback()
                && !v6.is_multicast()
                && !v6.is_unicast_link_local()
                && v6.to_ipv4_mapped().is_none()
        }
    };
    ensure!(usable, "{address} is not an address that a host can have in a network");
    ensure!(
        !RESERVED.map(IpAddr::V4).contains(&address),
        "the testbed itself uses the address {address} as a gateway"
    );
    Ok(())
}
