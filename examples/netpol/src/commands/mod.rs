//! The subcommands.

pub(crate) mod apply;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod flush;
pub(crate) mod lint;
pub(crate) mod list;
pub(crate) mod man;
mod question;
pub(crate) mod render;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod test;
pub(crate) mod validate;
pub(crate) mod verify;
