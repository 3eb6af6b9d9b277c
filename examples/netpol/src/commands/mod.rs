//! The subcommands.

pub(crate) mod test;
pub(crate) mod validate;
