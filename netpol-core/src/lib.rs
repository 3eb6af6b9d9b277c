//! A Kubernetes network policy engine that does no input or output: no sockets, no clock, no threads, no kernel, no
//! cluster client. Policies and workloads go in, one immutable [`Program`] comes out that answers any question about
//! them and that backends make the kernel agree with.
//!
//! Data flows one way, and the modules are its stations:
//!
//! | module | from | to |
//! |---|---|---|
//! | [`manifest`] | Kubernetes objects in any serde format | valid values, or errors with object, field path and reason |
//! | [`model`] | | policies, endpoints, namespaces, nodes, flows; the [`Options`](model::Options) of the APIs' open points |
//! | [`cluster`] | objects as they come and go | the state of now; the only thing that changes |
//! | [`compile`](mod@compile) | the state of now | the program |
//! | [`program`] | a flow | [`decide`](Program::decide), many at once, and [`explain`](Program::explain); members of sets for backends |
//! | | a program | who [reaches](Program::reach) whom, what [differs](Program::diff) from another, its [capacity](Program::capacity) |
//! | [`backend`] | the program | the kernel, by crates that implement it |
//!
//! [`reference`](mod@reference) is the specification as code: slow, short, and sharing nothing with `compile` and `program`. It is
//! what they are tested against.
//!
//! # Example
//!
//! ```
//! use netpol_core::{Cluster, Scope, compile, manifest};
//! use netpol_core::model::{Flow, Options, Traffic};
//!
//! let objects: Vec<manifest::Value> = serde_json::from_str(r#"[
//!   {"apiVersion": "v1", "kind": "Pod",
//!    "metadata": {"name": "db", "namespace": "shop", "labels": {"app": "db"}},
//!    "spec": {"containers": []}, "status": {"podIP": "10.0.0.1"}},
//!   {"apiVersion": "v1", "kind": "Pod",
//!    "metadata": {"name": "api", "namespace": "shop", "labels": {"app": "api"}},
//!    "spec": {"containers": []}, "status": {"podIP": "10.0.0.2"}},
//!   {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
//!    "metadata": {"name": "db", "namespace": "shop"},
//!    "spec": {"podSelector": {"matchLabels": {"app": "db"}},
//!             "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "api"}}}],
//!                          "ports": [{"port": 5432}]}]}}
//! ]"#)?;
//! let loaded = manifest::load(&objects, &manifest::ReadOptions::default());
//! assert!(loaded.rejected.is_empty());
//!
//! let cluster = Cluster::from_objects(Options::default(), loaded.objects);
//! let program = compile(&cluster, Scope::Cluster);
//!
//! let (api, db) = ("10.0.0.2".parse()?, "10.0.0.1".parse()?);
//! assert!(program.decide(&Flow::new(api, db, Traffic::tcp(5432))).is_allowed());
//!
//! let denied = program.explain(&Flow::new(api, db, Traffic::tcp(22)));
//! let ingress = denied.ingress.expect("the database is policed");
//! assert_eq!(ingress.reason.to_string(), "NetworkPolicy shop/db isolates the pod; no rule matches");
//! let (_, miss) = ingress.nearest_miss().expect("a rule for another port");
//! assert_eq!(format!("{} {miss}", miss.rule), "rule #1 matches the peer, but not the port (5432/TCP)");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod backend;
pub mod cluster;
pub mod compile;
mod hash;
pub mod manifest;
pub mod model;
pub mod program;
pub mod reference;
#[cfg(feature = "testing")]
pub mod testing;

pub use cluster::Cluster;
pub use compile::{compile, effect_of};
pub use program::{Program, Scope};
