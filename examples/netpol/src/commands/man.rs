//! `netpol man`: the manual.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, CommandFactory};

use crate::Cli;
use crate::exit::{Exit, Failure};

/// Write the manual pages into a directory
///
/// One for netpol and one for each of its commands: netpol man /usr/local/share/man/man1
#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Is made if it is not there
    directory: PathBuf,
}

pub(crate) fn run(args: &ManArgs) -> Result<Exit, Failure> {
    let directory = &args.directory;
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .with_context(|| format!("{} cannot be written", directory.display()))
        .map_err(Failure::input)?;
    Ok(Exit::Success)
}
