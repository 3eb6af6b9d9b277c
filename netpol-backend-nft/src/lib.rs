//! Puts a [`Program`](netpol_core::program::Program) into force with nf_tables, over netlink: no
//! nft tool, no C library, no unsafe code.
//!
//! ```text
//! Program --render--> Ruleset --Plan--> transactions --> kernel
//!                        |                                 |
//!                        +--- passes?                      +--- read --> Ruleset
//! ```
//!
//! - [`render`] is a pure function: the [`Ruleset`](ruleset::Ruleset) prints in the syntax of the
//!   nft tool and can be asked about packets, both without privileges.
//! - [`plan`] finds the way from what is in force to what is wanted: an element or two where a pod
//!   comes or goes, and never a moment in which a packet is judged by anything but the old program
//!   or the new one.
//! - [`Nft`] makes the kernel agree, by one transaction per step of the plan for both address
//!   families. The steady state lists nothing: the kernel's generation tells whether anybody else
//!   has committed anything.
//! - [`verify`] proves that a ruleset says what a program says, and [`Nft::verify`] that what is in
//!   the kernel now does.
//! - [`Monitor`] hears when somebody else changes our tables, and who; the next
//!   [`sync`](Nft::sync) repairs what was changed.
//! - [`conntrack`] cuts the connections that a new program forbids, and [`nflog`] hears of packets
//!   that are denied.
//! - [`Options`] deny what no endpoint is known to have of the [addresses](Options::deny_unknown) of a host,
//!   and know endpoints by their [interfaces](Options::interfaces), where those cannot be trusted to
//!   send by their own addresses.
//! - Only the tables of our own name are read or changed. No packet mark, no conntrack mark and no
//!   other user's chain is touched.
//!
//! A program is for one network namespace, so it should be compiled for one node
//! ([`Scope::Node`](netpol_core::program::Scope::Node)): only then are the addresses of the
//! endpoints' own node known (NP-NODE-1).
//!
//! ```no_run
//! use netpol_backend_nft::{Error, Nft, Options};
//! # fn example(program: &netpol_core::program::Program) -> Result<(), Error> {
//! let mut kernel = Nft::open(Options::default())?;
//! let report = kernel.sync(program)?;
//! assert!(!report.interfered);
//! # Ok(())
//! # }
//! ```
//!
//! # What it costs
//!
//! The first packet of a connection costs one look-up by address, one by port and one by the other
//! end, whatever the number of policies: 8-9 % more than under rules that accept established
//! connections and nothing else, the same for 10 policies as for 10,000
//! (`cargo run --release -p netpol-benches -- --only packets`). A packet of a known connection costs one comparison.
//!
//! Following a cluster costs what an event touches, not what there is: of a program only what it does
//! not share with the one before is rendered, planned and sent. On a node with 110 of 100,000 pods an
//! address that joins or leaves a selector takes some 50 microseconds from the event to the kernel's
//! acknowledgement, whether there are 1,000 policies or 10,000, and 0.2 milliseconds in a set of
//! 1,000 beside 700,000 other elements (`cargo bench --bench delta`, which also says what it
//! takes to begin, and how much kernel memory). [`explain_cost`] tells what the sets of a program
//! cost, and why they are what they are.
//!
//! # What it needs
//!
//! Linux with nf_tables and conntrack, and `CAP_NET_ADMIN` in the user namespace that owns the
//! network namespace; root is not needed. Kernel memory is charged to the caller's control group.
//!
//! # Limits
//!
//! - Services must be translated before the forward hook, as kube-proxy does it: what is judged is
//!   the address behind them (M5).
//! - A denied packet is dropped, never rejected.
//! - Reports name the profile by content, and the generation since which it has been in force
//!   ([`nflog::Prefix`]); [`resolve`](resolve()) and [`nflog::Packet::explain`] tell whose it is and why.
//! - Connections that a change forbids go on until [`conntrack`] cuts them; see there for a setting
//!   of the kernel that matters.
#![forbid(unsafe_code)]

mod backend;
pub mod conntrack;
mod cost;
mod error;
mod location;
mod monitor;
mod name;
pub mod nflog;
mod nft;
mod others;
pub mod plan;
mod price;
mod render;
mod resolve;
pub mod ruleset;
mod socket;
mod verify;
mod wire;

pub use cost::{Cost, CostExplanation, explain_cost};
pub use error::{Error, Object, Refusal};
pub use monitor::{Interference, Monitor, Process};
pub use name::{Comment, Interface, InterfaceError, Name, NameError};
pub use netpol_core::backend::{Change, Report, TableStatus};
pub use nft::{ClassCount, Nft, Status};
pub use price::{LookUp, Price};
pub use render::{Log, Options, render};
pub use resolve::{Resolved, Told, resolve};
pub use verify::{Mismatch, verify};
