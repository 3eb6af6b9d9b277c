//! Containers whose clones share almost everything: how a program is cheap to clone, and the next one is made from it
//! by changing only what an event touches.
//!
//! All are two levels deep: an array of chunks, both behind an [`Arc`]. A look-up costs one more step than in a plain
//! array, which matters little; a change copies one chunk and the array of chunks, some hundred words each, if
//! somebody else still holds the former version, and nothing if nobody does. Trees that share more exist as crates,
//! but their look-ups are several times deeper, and look-ups are what happens for every packet.

mod bit_set;
mod shards;
mod sorted_set;
mod table;

pub(crate) use bit_set::BitSet;
pub(crate) use shards::Shards;
pub(crate) use sorted_set::{Chunks, SortedSet};
pub(crate) use table::{Pages, Table};
