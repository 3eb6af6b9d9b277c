//! `netpol status`: what is in force.

use std::io::Write;

use clap::Args;
use netpol_core::backend::{Count, Mismatch};
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::host::{BackendArgs, HostArgs, failure};
use crate::notes::count;
use crate::output::{Document, Format};
use crate::progress::Progress;

/// So many examples are enough.
const SHOWN: usize = 3;

/// Tell what is in force on this host, and whether it is what the input says
///
/// Counts what is written to the kernel, and what was denied. With -f, compares it with the input. The exit code is 0 if
/// policies are in force and, with -f, those of the input; else 1.
#[derive(Args, Debug)]
#[command(mut_arg("filename", |it| it.required(false)))]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    host: HostArgs,
    #[command(flatten)]
    backend: BackendArgs,
    /// How to print the result
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    output: Format,
}

/// The result as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    backend: &'a str,
    instance: &'a str,
    /// Something of ours is there.
    present: bool,
    /// Whether it is what the input says; null if there was no input.
    in_sync: Option<bool>,
    drift: Vec<String>,
    chains: usize,
    rules: usize,
    sets: usize,
    elements: usize,
    /// Since the rules were written.
    denied: Denied,
}

#[derive(Serialize)]
struct Denied {
    egress: Packets,
    ingress: Packets,
}

#[derive(Serialize)]
struct Packets {
    packets: u64,
    bytes: u64,
}

pub(crate) fn run(args: &StatusArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let has_input = !args.host.input.filename.is_empty();
    let program = has_input.then(|| args.host.program()).transpose()?;
    let mut backend = args.backend.open(&args.backend.options()?)?.backend;
    let progress = Progress::new("looking at the kernel");
    let found = backend.status().map_err(failure)?;
    let drift: Option<Vec<Mismatch>> = match &program {
        Some(program) => Some(backend.verify(program).map_err(failure)?),
        None => None,
    };
    drop(progress);
    let status = Status {
        backend: backend.name(),
        instance: &args.backend.instance,
        present: found.present,
        in_sync: drift.as_ref().map(Vec::is_empty),
        drift: drift.iter().flatten().map(ToString::to_string).collect(),
        chains: found.chains,
        rules: found.rules,
        sets: found.sets,
        elements: found.elements,
        denied: Denied { egress: found.denied_egress.into(), ingress: found.denied_ingress.into() },
    };
    let good = status.present && status.rules > 0 && status.in_sync != Some(false);
    match args.output {
        Format::Text => status.write(out)?,
        Format::Json => Document::new("Status", status).write(out)?,
    }
    Ok(if good { Exit::Success } else { Exit::Negative })
}

impl Status<'_> {
    fn write(&self, out: &mut impl Write) -> Result<(), Failure> {
        let Self { backend, instance, chains, rules, sets, elements, .. } = self;
        if !self.present {
            writeln!(out, "{backend}: nothing of {instance} is in force")?;
            return Ok(());
        }
        if *rules == 0 {
            let sets = count(*sets, "set", "sets");
            writeln!(
                out,
                "{backend}: nothing of {instance} is in force, but there is a leftover of {sets}"
            )?;
            return Ok(());
        }
        let state = match self.in_sync {
            Some(true) => ", as the input says",
            Some(false) => ", but not what the input says",
            None => "",
        };
        writeln!(out, "{backend}: {instance} is in force{state}")?;
        writeln!(out, "  {chains} chains, {rules} rules, {sets} sets with {elements} elements")?;
        let Denied { egress, ingress } = &self.denied;
        writeln!(
            out,
            "  denied since the rules were written: egress {} packets, ingress {} packets",
            egress.packets, ingress.packets
        )?;
        self.drift.iter().take(SHOWN).try_for_each(|mismatch| writeln!(out, "  {mismatch}"))?;
        if let Some(more) = self.drift.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            writeln!(out, "  and {more} more, see netpol verify")?;
        }
        Ok(())
    }
}

impl From<Count> for Packets {
    fn from(count: Count) -> Self {
        Self { packets: count.packets, bytes: count.bytes }
    }
}
