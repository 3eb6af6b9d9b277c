//! Large generated clusters, and the figures of the project measured on them.
//!
//! `cargo run --release -p netpol-benches` prints every figure beside its target and what it is compared with, all
//! from one run; `RESULTS.md` keeps the last one that was looked at.
//!
//! - [`world`]: the clusters;
//! - [`per_packet`]: packets judged one by one, as kube-network-policies does it, as baseline;
//! - [`linear`]: the same with everything prepared that can be;
//! - [`packets`]: packets through a node, and the rules of others beside ours;
//! - [`figures`]: what is measured;
//! - [`timing`], [`allocation`], [`figure`]: how, and how it is told.

pub mod allocation;
pub mod figure;
pub mod figures;
pub mod linear;
pub mod packets;
pub mod per_packet;
pub mod random;
pub mod timing;
pub mod world;
