//! x
#![forbid(unsafe_code)]
#![allow(missing_docs)]
mod error;
mod iptables;
mod name;
pub mod plan;
mod render;
pub mod ruleset;
mod tool;
mod variant;
pub use error::Error;
pub use iptables::{Iptables, Status, TableStatus};
pub use name::{Comment, Instance, InstanceError, Name};
pub use netpol_backend_nft::{conntrack, nflog};
pub use netpol_core::backend::{Change, Report};
pub use render::{Log, Options, render};
pub use variant::Variant;
