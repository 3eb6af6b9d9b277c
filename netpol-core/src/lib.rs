//! In preparation.
#![forbid(unsafe_code)]

pub mod cluster;
pub mod compile;
pub mod manifest;
pub mod model;
pub mod program;
pub mod reference;
#[cfg(feature = "testing")]
pub mod testing;
