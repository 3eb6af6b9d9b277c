//! The nf_tables netlink protocol: bytes only, no socket and no opinion about rules.

pub(crate) mod batch;
pub(crate) mod expression;
pub(crate) mod reader;
pub(crate) mod uapi;
pub(crate) mod writer;
