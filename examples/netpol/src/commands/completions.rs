//! `netpol completions`: what shells need to complete command lines.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Cli;
use crate::exit::{Exit, Failure};

/// Print a script that makes a shell complete netpol's command lines
///
/// For bash: netpol completions bash > /etc/bash_completion.d/netpol
#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    // The generator panics where its writer fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "netpol", &mut script);
    out.write_all(&script)?;
    Ok(Exit::Success)
}
