//! The values that policies and workloads are made of.
//!
//! Everything here is plain data that can only be built valid: what may be wrong in a manifest is found in
//! [`manifest`](crate::manifest), before a value of this module exists.

mod endpoint;
mod flow;
mod labels;
mod net;
mod objects;
mod options;
mod policy;
mod selector;

pub use endpoint::{DeclaredPort, Endpoint, Namespace, Node, Phase};
pub use flow::{Direction, End, Flow, Traffic};
pub use labels::{Labels, Name, name};
pub use net::{Family, PortRange, Protocol};
pub use objects::{DomainName, Objects};
pub use options::{
    BaselineSkip, DuplicatePortNames, HostNetworkPeers, HostNetworkPortNames, HostNetworkSubjects,
    NodeEgress, Options, OtherProtocols, SelfTraffic, Tie, UnknownProtocol,
};
pub use policy::{
    Action, Block, DomainPattern, NamespaceScope, Peer, Peers, PodSelector, Policy, PolicyKey,
    PolicyKind, PortMatch, Ports, Rule, Subject, Tier,
};
pub use selector::{Operator, Requirement, Selector};
