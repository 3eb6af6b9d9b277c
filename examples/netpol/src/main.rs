//! `netpol`: check, explain, test and enforce Kubernetes network policies on one host.

#![forbid(unsafe_code)]

mod commands;
mod connectivity;
mod daemon;
mod doctor;
mod exit;
mod expectation;
mod explanation;
mod host;
mod input;
mod lint;
mod live;
mod matrix;
mod notes;
mod output;
mod peer;
mod picture;
mod placement;
mod progress;
mod reach;
mod reading;
mod rules;
mod style;
mod traffic;
mod truth_table;
mod world;

use std::process::ExitCode;

use anstream::ColorChoice;
use clap::{Parser, Subcommand, ValueEnum};

use crate::exit::{Exit, Failure};

/// Check, explain, test and enforce Kubernetes network policies
///
/// There is no access to a cluster: `kubectl get ns,nodes,pods,netpol -A -o yaml | netpol ... -f -`.
#[derive(Parser, Debug)]
#[command(version, about)]
pub(crate) struct Cli {
    /// When to use colours; auto is where the output is a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    color: Color,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Subcommand, Debug)]
enum Command {
    Apply(commands::apply::ApplyArgs),
    Check(commands::check::CheckArgs),
    Completions(commands::completions::CompletionsArgs),
    Demo(commands::demo::DemoArgs),
    Diff(commands::diff::DiffArgs),
    Doctor(commands::doctor::DoctorArgs),
    Explain(commands::explain::ExplainArgs),
    Flush(commands::flush::FlushArgs),
    Lint(commands::lint::LintArgs),
    List(commands::list::ListArgs),
    Man(commands::man::ManArgs),
    Render(commands::render::RenderArgs),
    Run(commands::run::RunArgs),
    Status(commands::status::StatusArgs),
    Test(commands::test::TestArgs),
    Validate(commands::validate::ValidateArgs),
    Verify(commands::verify::VerifyArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let colours = match cli.color {
        Color::Auto => ColorChoice::Auto,
        Color::Always => ColorChoice::Always,
        Color::Never => ColorChoice::Never,
    };
    colours.write_global();
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
        Command::Apply(args) => commands::apply::run(args, &mut out),
        Command::Check(args) => commands::check::run(args, &mut out),
        Command::Completions(args) => commands::completions::run(args, &mut out),
        Command::Demo(args) => commands::demo::run(args, &mut out),
        Command::Diff(args) => commands::diff::run(args, &mut out),
        Command::Doctor(args) => commands::doctor::run(args, &mut out),
        Command::Explain(args) => commands::explain::run(args, &mut out),
        Command::Flush(args) => commands::flush::run(args, &mut out),
        Command::Lint(args) => commands::lint::run(args, &mut out),
        Command::List(args) => commands::list::run(args, &mut out),
        Command::Man(args) => commands::man::run(args),
        Command::Render(args) => commands::render::run(args, &mut out),
        Command::Run(args) => commands::run::run(args, &mut out),
        Command::Status(args) => commands::status::run(args, &mut out),
        Command::Test(args) => commands::test::run(args, &mut out),
        Command::Validate(args) => commands::validate::run(args, &mut out),
        Command::Verify(args) => commands::verify::run(args, &mut out),
    }
}
