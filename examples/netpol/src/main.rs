//! `netpol`: check, explain, test and enforce Kubernetes network policies on one host.

#![forbid(unsafe_code)]

mod commands;
mod connectivity;
mod exit;
mod expectation;
mod explanation;
mod input;
mod lint;
mod live;
mod matrix;
mod notes;
mod output;
mod peer;
mod picture;
mod placement;
mod reach;
mod reading;
mod style;
mod traffic;
mod truth_table;
mod world;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::exit::{Exit, Failure};

/// Check, explain, test and enforce Kubernetes network policies
///
/// There is no access to a cluster: `kubectl get ns,nodes,pods,netpol -A -o yaml | netpol ... -f -`.
#[derive(Parser, Debug)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Check(commands::check::CheckArgs),
    Demo(commands::demo::DemoArgs),
    Diff(commands::diff::DiffArgs),
    Explain(commands::explain::ExplainArgs),
    Lint(commands::lint::LintArgs),
    List(commands::list::ListArgs),
    Test(commands::test::TestArgs),
    Validate(commands::validate::ValidateArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(exit) => exit.into(),
        Err(failure) if failure.is_broken_pipe() => Exit::Success.into(),
        Err(failure) => {
            notes::error(&failure);
            failure.exit.into()
        }
    }
}

fn run(cli: &Cli) -> Result<Exit, Failure> {
    let mut out = anstream::stdout().lock();
    match &cli.command {
        Command::Check(args) => commands::check::run(args, &mut out),
        Command::Demo(args) => commands::demo::run(args, &mut out),
        Command::Diff(args) => commands::diff::run(args, &mut out),
        Command::Explain(args) => commands::explain::run(args, &mut out),
        Command::Lint(args) => commands::lint::run(args, &mut out),
        Command::List(args) => commands::list::run(args, &mut out),
        Command::Test(args) => commands::test::run(args, &mut out),
        Command::Validate(args) => commands::validate::run(args, &mut out),
    }
}
