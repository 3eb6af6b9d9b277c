//! `netpol doctor`: whether policies are truly enforced here.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde::Serialize;

use crate::doctor::{Finding, State, examine, self_probe};
use crate::exit::{Exit, Failure};
use crate::host::{BackendArgs, HostArgs};
use crate::output::{Document, Format};
use crate::style::paint;

/// Tell whether policies are truly enforced on this host, and what to do if not
///
/// Looks at the backend, our rules and their hooks, the kernel's settings, and the rules of others; with -f, compares
/// what is in force with the input. At last sends packets through network namespaces of its own. Nothing of the host is
/// changed. The exit code is 0 if policies are enforced, else 1; warnings do not count.
#[derive(Args, Debug)]
#[command(mut_arg("filename", |it| it.required(false)))]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    host: HostArgs,
    #[command(flatten)]
    backend: BackendArgs,
    /// Do not send packets through network namespaces
    #[arg(long)]
    no_probe: bool,
    /// How to print the result
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    output: Format,
}

/// The result as JSON.
#[derive(Serialize)]
struct Diagnosis {
    /// Nothing was found that is bad.
    enforced: bool,
    findings: Vec<Finding>,
}

pub(crate) fn run(args: &DoctorArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let has_input = !args.host.input.filename.is_empty();
    let program = has_input.then(|| args.host.program()).transpose()?;
    let mut findings = examine(&args.backend, program.as_ref())?;
    if !args.no_probe {
        findings.push(self_probe(args.backend.backend));
    }
    let enforced = findings.iter().all(|finding| finding.state != State::Bad);
    match args.output {
        Format::Text => {
            findings.iter().try_for_each(|finding| write(finding, out))?;
            let warnings = findings.iter().filter(|it| it.state == State::Warning).count();
            let verdict = match (enforced, warnings) {
                (false, _) => "policies are NOT enforced here",
                (true, 0) => "policies are enforced here",
                (true, _) => "policies are enforced here, with the exceptions above",
            };
            writeln!(out, "\n{verdict}")?;
        }
        Format::Json => Document::new("Diagnosis", Diagnosis { enforced, findings }).write(out)?,
    }
    Ok(if enforced { Exit::Success } else { Exit::Negative })
}

fn write(finding: &Finding, out: &mut impl Write) -> Result<(), Failure> {
    let Finding { check, state, message, advice } = finding;
    let colour = match state {
        State::Good => AnsiColor::Green.on_default(),
        State::Unknown => Style::new().dimmed(),
        State::Warning => AnsiColor::Yellow.on_default(),
        State::Bad => AnsiColor::Red.on_default(),
    };
    let word = paint(colour, format_args!("{state:<7}"));
    writeln!(out, "{word}  {check:<19}  {message}")?;
    if let Some(advice) = advice {
        writeln!(out, "{:28}  -> {advice}", "")?;
    }
    Ok(())
}
