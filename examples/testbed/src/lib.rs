//! Builds a small cluster out of network namespaces on this machine, probes it with real packets,
//! and tears it down.
//!
//! The testbed knows nodes, pods and addresses, and nothing of policies: a backend that enforces
//! policies runs inside the node namespaces ([`Testbed::in_node`]) exactly as it would on a host,
//! and [`Testbed::probe`] finds out what the kernel does with packets.
//!
//! ```text
//!                           outside            every address that no node and no pod has;
//!                          /       \           routes between the nodes
//!                     node n1     node n2      forward IPv4 and IPv6
//!                     /    \          \
//!                pod x/a  pod x/b    pod y/a   default route to the node
//! ```
//!
//! Every box is a network namespace and every line a veth pair. So a packet
//!
//! - from pod to pod passes the forward hook of the node, or of both nodes,
//! - from a node to its own pod passes the node's output hook, and carries a node address as its
//!   source,
//! - from a pod to its own node passes the node's input hook,
//! - from a pod to itself does not leave the pod.
//!
//! A pod on the host network is its node: use [`Place::Node`].
//!
//! # What is left behind
//!
//! Nothing, however the process ends. The namespaces have no name: they live as file descriptors of
//! this process, and the kernel destroys them with everything inside when the last one is closed,
//! be it by [`Testbed::tear_down`], Ctrl-C or `kill -9`. Nothing is written below `/run` or `/var`,
//! and no setting of the host's own namespace is changed. Only programs that were started inside a
//! namespace and are still running keep it alive.
//!
//! # Privileges
//!
//! Root, or any user where user namespaces are allowed. Call [`enter`] first thing in `main`.
//!
//! ```no_run
//! use netpol_testbed::{
//!     Node, Outcome, Place, Pod, Probe, ProbeOptions, Testbed, Topology, Traffic,
//! };
//!
//! # fn main() -> anyhow::Result<()> {
//! netpol_testbed::enter()?;
//! let topology = Topology {
//!     nodes: vec![Node { name: "n1".into(), addresses: vec!["192.168.0.1".parse()?] }],
//!     pods: vec![Pod {
//!         name: "shop/api".into(),
//!         node: "n1".into(),
//!         addresses: vec!["10.0.0.1".parse()?],
//!     }],
//!     outside: vec!["203.0.113.7".parse()?],
//! };
//! let testbed = Testbed::build(&topology, |_| ())?;
//! let probe = Probe {
//!     from: Place::Outside,
//!     source: "203.0.113.7".parse()?,
//!     to: "10.0.0.1".parse()?,
//!     traffic: Traffic::Tcp(80),
//! };
//! assert_eq!(testbed.probe(&[probe], &ProbeOptions::default(), |_, _| ()), [Outcome::Allowed]);
//! testbed.tear_down();
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod link;
mod namespace;
mod privilege;
mod probe;
mod testbed;
mod topology;
mod wiring;

// The public interface is:
pub use crate::privilege::{Privilege, enter};
pub use crate::probe::{Outcome, Probe, ProbeOptions, Refusal, Traffic};
pub use crate::testbed::Testbed;
pub use crate::topology::{Node, Place, Pod, Topology};
