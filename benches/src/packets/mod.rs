//! What rules cost packets that a node forwards.
//!
//! ```text
//! sender --veth-- node, whose rules are measured --veth-- receiver
//! ```
//!
//! - [`road`]: three network namespaces, frames from the one to the other, and the time that they take;
//! - [`scene`]: policies about the receiver;
//! - [`rivals`]: the same policies as others write them down;
//! - [`rules`]: all of them loaded.

pub mod rivals;
pub mod road;
pub mod rules;
pub mod scene;
