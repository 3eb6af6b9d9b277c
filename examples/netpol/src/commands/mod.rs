//! The subcommands.

pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod lint;
pub(crate) mod list;
mod question;
pub(crate) mod test;
pub(crate) mod validate;
