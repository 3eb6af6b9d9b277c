//! Large generated clusters, and the figures of the project measured on them.
//!
//! `cargo run --release -p netpol-benches` prints every figure beside its target and what it is compared with, all
//! from one run; `RESULTS.md` keeps the last one that was looked at.
//!
//! - [`world`]: the clusters;
//! - [`linear`]: the straightforward way to judge a packet, as baseline;
//! - [`packets`]: packets through a node, and the rules of others beside ours;
//! - [`figures`]: what is measured;
//! - [`timing`], [`allocation`], [`figure`]: how, and how it is told.

pub mod allocation;
pub mod figure;
pub mod figures;
pub mod linear;
pub mod packets;
pub mod random;
pub mod timing;
pub mod world;
