//! `netpol flush`: ends enforcement.

use std::io::Write;

use clap::Args;

use crate::exit::{Exit, Failure};
use crate::host::{BackendArgs, failure};

/// Remove everything of ours from the kernel
///
/// Nothing is policed afterwards. Whatever others have written stays as it is. The exit code is 0 also if there was
/// nothing; 4 if the kernel refuses, 5 if a privilege or a part of the kernel is missing.
#[derive(Args, Debug)]
pub(crate) struct FlushArgs {
    #[command(flatten)]
    backend: BackendArgs,
}

pub(crate) fn run(args: &FlushArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let mut backend = args.backend.open(&args.backend.options()?)?.backend;
    let present = backend.status().map_err(failure)?.present;
    backend.remove().map_err(failure)?;
    let done = if present { "removed" } else { "nothing to remove" };
    writeln!(out, "{}: {done}", backend.name())?;
    Ok(Exit::Success)
}
