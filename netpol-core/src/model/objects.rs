use std::net::IpAddr;

use super::{Endpoint, Name, Namespace, Node, Policy};

/// A plain collection of objects in any order: what a set of manifests says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Namespaces; one that endpoints live in but that is not listed has its name label only.
    pub namespaces: Vec<Namespace>,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Nodes.
    pub nodes: Vec<Node>,
    /// Policies.
    pub policies: Vec<Policy>,
    /// What domain names were seen to stand for.
    pub domains: Vec<DomainName>,
}

/// One observation: a name was answered with this address (C-PEER-5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DomainName {
    name: Name,
    /// The address.
    pub address: IpAddr,
}

impl DomainName {
    /// `name` was seen to stand for `address`; case and a final dot do not matter.
    pub fn new(name: &str, address: IpAddr) -> Self {
        let name = name.strip_suffix('.').unwrap_or(name);
        Self { name: name.to_ascii_lowercase().into(), address }
    }

    /// The name in lower case, without the final dot.
    pub fn name(&self) -> &str {
        &self.name
    }
}
