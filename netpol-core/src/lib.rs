//! In preparation.
#![forbid(unsafe_code)]
pub mod model;
pub mod reference;
#[cfg(feature = "testing")]
pub mod testing;
