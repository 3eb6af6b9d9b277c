//! `netpol verify`: the proof that the kernel says what the policies say.

use std::io::Write;

use clap::Args;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::host::{BackendArgs, HostArgs, failure};
use crate::notes;
use crate::output::{Document, Format};
use crate::progress::Progress;

/// One mistake of the kernel's is usually many mismatches.
const SHOWN: usize = 20;

/// Prove that the kernel says what the policies say
///
/// Reads back what is in force, and compares it with the input for every kind of packet that either can tell apart.
/// The exit code is 0 if they agree, else 1.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    host: HostArgs,
    #[command(flatten)]
    backend: BackendArgs,
    /// How to print the result
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    output: Format,
}

/// The result of a verification as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Verification<'a> {
    backend: &'a str,
    verified: bool,
    endpoints: usize,
    mismatches: Vec<Item>,
}

#[derive(Serialize)]
struct Item {
    /// An example.
    flow: Option<String>,
    message: String,
}

pub(crate) fn run(args: &VerifyArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let program = args.host.program()?;
    let mut backend = args.backend.open(&args.backend.options()?)?.backend;
    let progress = Progress::new("verifying");
    let mismatches = backend.verify(&program).map_err(failure)?;
    drop(progress);
    let verified = mismatches.is_empty();
    let endpoints = program.endpoints().count();
    match args.output {
        Format::Text if verified => {
            let endpoints = notes::count(endpoints, "endpoint", "endpoints");
            writeln!(out, "{}: verified for {endpoints}", backend.name())?;
        }
        Format::Text => {
            mismatches.iter().take(SHOWN).try_for_each(|it| writeln!(out, "{it}"))?;
            if let Some(more) = mismatches.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                writeln!(out, "and {more} more; -o json has them all")?;
            }
        }
        Format::Json => {
            let items = mismatches.iter().map(|mismatch| Item {
                flow: mismatch.flow.as_ref().map(ToString::to_string),
                message: mismatch.to_string(),
            });
            let mismatches = items.collect();
            let result = Verification { backend: backend.name(), verified, endpoints, mismatches };
            Document::new("Verification", result).write(out)?;
        }
    }
    Ok(if verified { Exit::Success } else { Exit::Negative })
}
