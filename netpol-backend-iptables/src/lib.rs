//! Puts a [`Program`](netpol_core::program::Program) into force with iptables, ip6tables and ipset:
//! for hosts that the nft backend does not reach. Both variants of iptables, the one that writes
//! nf_tables rules and the legacy one.
//!
//! ```text
//! Program --render--> Ruleset --Plan--> calls of ipset restore and iptables-restore
//!                        |                                 |
//!                        +--- passes?                      +--- save --> Ruleset
//! ```
//!
//! - [`render`] is a pure function: the [`Ruleset`](ruleset::Ruleset) prints as the tools read it and
//!   can be asked about packets, both without privileges.
//! - [`plan`] finds the way from what is in force to what is wanted: one line for ipset where a pod
//!   comes or goes, and never a moment in which a packet is judged by anything but the old program
//!   or the new one.
//! - [`Iptables`] makes the kernel agree, by one call of a tool per step of the plan.
//! - [`verify()`] proves that a ruleset says what a program says, and [`Iptables::verify`] that what is
//!   in force now does.
//! - [`conntrack`] cuts the connections that a new program forbids, and [`nflog`] hears of packets
//!   that are denied.
//! - Only chains and sets whose names begin with our own are changed, and the rules that jump to
//!   them from the first place of `INPUT`, `FORWARD` and `OUTPUT`. No packet mark and no conntrack
//!   mark is touched, and nothing is accepted on behalf of others: what the policies allow goes on to
//!   the rules behind ours.
//!
//! A program is for one network namespace, so it should be compiled for one node
//! ([`Scope::Node`](netpol_core::program::Scope::Node)): only then are the addresses of the
//! endpoints' own node known (NP-NODE-1).
//!
//! ```no_run
//! use netpol_backend_iptables::{Error, Iptables, Options};
//! # fn example(program: &netpol_core::program::Program) -> Result<(), Error> {
//! let mut kernel = Iptables::open(Options::default())?;
//! let report = kernel.sync(program)?;
//! assert!(!report.interfered);
//! # Ok(())
//! # }
//! ```
//!
//! # What it needs
//!
//! The tools `ipset` and `iptables`, and `ip6tables` if there are IPv6 addresses: without it, or
//! without its part of the kernel, IPv4 is policed and [`Error::NoIpv6`] names the endpoints for which
//! IPv6 is not. The kernel's conntrack and the set types `hash:ip` and `hash:net`; `CAP_NET_ADMIN` in
//! the user namespace that owns the network namespace. The legacy variant's lock file, `/run/xtables.lock`, has to be the
//! host's, also in a container; the variable `XTABLES_LOCKFILE` names another, as for the tools
//! themselves.
//!
//! # Limits
//!
//! - Services must be translated before the forward hook, as kube-proxy does it: what is judged is
//!   the address behind them (M5).
//! - A denied packet is dropped, never rejected.
//! - There is one place that is the first: two instances on one host take it from each other.
#![forbid(unsafe_code)]

mod backend;
mod error;
mod iptables;
mod name;
pub mod plan;
mod render;
pub mod ruleset;
mod tool;
mod variant;
mod verify;

pub use error::Error;
pub use iptables::{Iptables, Status};
pub use name::{Comment, Instance, InstanceError, Name};
pub use netpol_backend_nft::{conntrack, nflog};
pub use netpol_core::backend::{Change, Report, TableStatus};
pub use render::{Log, Options, render};
pub use variant::Variant;
pub use verify::{Mismatch, verify};
