//! In preparation.
#![forbid(unsafe_code)]

mod error;
mod location;
mod name;
mod nft;
pub mod ruleset;
mod socket;
mod wire;

pub use error::{Error, Object, Refusal};
pub use name::{Comment, Name, NameError};
pub use nft::Nft;
