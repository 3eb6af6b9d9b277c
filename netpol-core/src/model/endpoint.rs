use std::net::IpAddr;

use smallvec::SmallVec;

use super::{Labels, Name, Protocol, name};

/// A namespace: a name and the labels that namespace selectors look at (SEL-10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// The name.
    pub name: Name,
    /// The labels, `kubernetes.io/metadata.name` included (SEL-9).
    pub labels: Labels,
}

impl Namespace {
    /// A namespace with the label that the API server adds to every namespace (SEL-9).
    pub fn new(name_: &str, labels: Labels) -> Self {
        Self { name: name(name_), labels: labels.with("kubernetes.io/metadata.name", name_) }
    }
}

/// A node: its labels and every address in its status (C-PEER-4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The name.
    pub name: Name,
    /// The labels, which `nodes` peers look at.
    pub labels: Labels,
    /// All addresses, whatever their type; host names are left out.
    pub addresses: Vec<IpAddr>,
}

/// Something that policies are about: a pod, a virtual machine, a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The namespace it lives in.
    pub namespace: Name,
    /// The name, unique in the namespace among the endpoints that exist at one time.
    pub name: Name,
    /// Tells two endpoints of one name apart, such as a pod and the one that replaced it; empty if unknown.
    pub uid: Name,
    /// The labels, which pod selectors look at.
    pub labels: Labels,
    /// Its addresses, usually one per family. Without any it takes part in questions by name only.
    pub addresses: SmallVec<[IpAddr; 2]>,
    /// The node it runs on, once it is known.
    pub node: Option<Name>,
    /// Whether it still counts.
    pub phase: Phase,
    /// It shares its node's network and has no address of its own (M4).
    pub host_network: bool,
    /// The ports it declares by name (NP-PORT-10), in the order of declaration.
    pub ports: Vec<DeclaredPort>,
}

/// Where an endpoint is in its life, as far as policies care (M2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Pending, running, unknown or being deleted: it counts (NP-LIFE-3, NP-LIFE-4).
    Live,
    /// Succeeded or failed: it does not exist for policies (NP-LIFE-1).
    Finished,
}

/// A port that an endpoint declares under a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeclaredPort {
    /// The name that rules refer to.
    pub name: Name,
    /// The protocol of the declaration; a rule must name the same one (NP-PORT-9).
    pub protocol: Protocol,
    /// The port number.
    pub number: u16,
}

impl Endpoint {
    /// A live endpoint without labels, addresses, node or declared ports.
    pub fn new(namespace: &str, name_: &str) -> Self {
        Self {
            namespace: name(namespace),
            name: name(name_),
            uid: name(""),
            labels: Labels::default(),
            addresses: SmallVec::new(),
            node: None,
            phase: Phase::Live,
            host_network: false,
            ports: Vec::new(),
        }
    }

    /// Whether policies select it and selectors match it: it is live and has its own place in the network (M2).
    ///
    /// An endpoint without an address is ordinary, too: it can be asked about by name before it runs, while no
    /// packet comes from it or goes to it (NP-LIFE-2).
    pub fn is_ordinary(&self) -> bool {
        self.phase == Phase::Live && !self.host_network
    }
}
