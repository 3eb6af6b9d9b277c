//! `netpol apply`: puts policies into force once.

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use netpol_core::Cluster;
use netpol_core::compile;
use netpol_enforce::backend::preview;
use netpol_enforce::metrics::Metrics;
use netpol_enforce::{Enforcer, Settings};

use crate::exit::{Exit, Failure};
use crate::host::{BackendArgs, HostArgs, LogArgs, Surroundings, failure};
use crate::notes;

/// Put the policies into force on this host, once
///
/// They stay in force until the next change, `netpol flush`, or a reboot. If a part of the input cannot be read,
/// nothing is changed, and the exit code is 3; 4 if the kernel refuses, 5 if a privilege or a part of the kernel is
/// missing.
#[derive(Args, Debug)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    host: HostArgs,
    #[command(flatten)]
    backend: BackendArgs,
    #[command(flatten)]
    log: LogArgs,
    /// Print what would be changed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave connections alone that are not allowed any more
    #[arg(long)]
    keep_connections: bool,
}

pub(crate) fn run(args: &ApplyArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let seen = Instant::now();
    let desired = args.host.read_all(Surroundings::Here)?;
    let mut options = args.backend.options()?;
    args.log.add_to(&mut options, None);
    let readings = args.host.readings.options();
    let scope = desired.scope();
    let cluster = Cluster::from_objects(readings, desired.input.objects);
    if args.dry_run {
        let program = compile(&cluster, scope);
        let preview = preview(args.backend.backend, &options, &program).map_err(failure)?;
        match preview.commits.len() {
            0 => writeln!(out, "nothing to change")?,
            commits => {
                let commits = notes::count(commits, "commit", "commits");
                writeln!(out, "{preview}{commits}; nothing is changed")?;
            }
        }
        return Ok(Exit::Success);
    }
    let opened = args.backend.open(&options)?;
    let settings =
        Settings { scope, readings, revoke: !args.keep_connections, ..Settings::default() };
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
    let mut enforcer = Enforcer::new(opened.backend, settings, metrics).map_err(failure)?;
    enforcer.change(seen, |held| *held = cluster);
    let applied = enforcer.enforce().map_err(|failed| failure(failed.error))?;
    let endpoints = enforcer.program().endpoints().count();
    let policies = notes::count(enforcer.cluster().policies().count(), "policy", "policies");
    let endpoints = notes::count(endpoints, "endpoint", "endpoints");
    writeln!(out, "{}: {policies}, {endpoints}: {applied}", enforcer.backend_name())?;
    applied.too_large.iter().for_each(|it| notes::note(format_args!("warning: {it}")));
    Ok(match applied.revoked {
        Some(Err(_)) => Exit::Kernel,
        _ => Exit::Success,
    })
}
