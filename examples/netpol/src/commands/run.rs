//! `netpol run`: keeps policies in force.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::daemon::Daemon;
use crate::exit::{Exit, Failure};
use crate::host::{BackendArgs, HostArgs, LogArgs};

/// Keep the policies in force on this host, as the files say at any time
///
/// A change of a file is enforced within milliseconds. If a part of the input cannot be read, nothing is changed, and
/// the file, line and reason are told. What others change of ours is put right at once, and told with the culprit.
/// SIGHUP reads everything again; SIGTERM ends the program, and leaves the policies in force. Exit codes: 5 if a
/// privilege or a part of the kernel is missing.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) host: HostArgs,
    #[command(flatten)]
    pub(crate) backend: BackendArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
    /// Serve /metrics, /healthz and /readyz at this address, such as 127.0.0.1:9433
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Append a line of JSON for every denied packet that is reported, with the reason; - for standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) records: Option<PathBuf>,
    /// What to do with endpoints as long as nothing is in force and the input cannot be read
    #[arg(long, value_enum, value_name = "VERDICT", default_value_t)]
    pub(crate) when_unknown: WhenUnknown,
    /// Let nobody else change our rules while this runs, root included (nft, Linux 6.9)
    #[arg(long)]
    pub(crate) exclusive: bool,
    /// Leave connections alone that are not allowed any more
    #[arg(long)]
    pub(crate) keep_connections: bool,
}

/// What is enforced while it is not known what to enforce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum WhenUnknown {
    /// Isolate the endpoints that are known
    #[default]
    Deny,
    /// Nothing
    Allow,
}

pub(crate) fn run(args: &RunArgs, _out: &mut impl Write) -> Result<Exit, Failure> {
    Daemon::start(args)?.run()?;
    Ok(Exit::Success)
}
