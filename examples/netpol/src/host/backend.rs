//! Which backend, and how denied packets are reported.

use anyhow::anyhow;
use clap::Args;
use netpol_backend_nft::{Log, Name};
use netpol_core::backend::Error;
use netpol_enforce::backend::Opened;
use netpol_enforce::backend::{Choice, Options, is_unavailable, open};

use crate::exit::Failure;

/// What puts policies into force.
#[derive(Args, Clone, Debug)]
pub(crate) struct BackendArgs {
    /// What puts the policies into force
    #[arg(long, value_enum, value_name = "BACKEND", default_value_t)]
    pub(crate) backend: Choice,
    /// The name of all that is written to the kernel; several instances on one host need several names
    #[arg(long, value_name = "NAME", default_value = "netpol")]
    pub(crate) instance: String,
}

/// What becomes of denied packets.
#[derive(Args, Clone, Debug)]
pub(crate) struct LogArgs {
    /// Deny nothing; what would be denied is counted and reported
    #[arg(long)]
    pub(crate) audit: bool,
    /// Report denied packets to this NFLOG group, for any tool that listens
    #[arg(long, value_name = "GROUP")]
    pub(crate) nflog_group: Option<u16>,
    /// How many packets are reported per second and direction, at most
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    pub(crate) nflog_rate: u32,
}

impl BackendArgs {
    /// For reading what is in force, or removing it.
    pub(crate) fn options(&self) -> Result<Options, Failure> {
        let instance = Name::new(&self.instance)
            .map_err(|error| Failure::usage(anyhow!("--instance: {error}")))?;
        Ok(Options { instance, ..Options::default() })
    }

    /// Opens the backend in this network namespace.
    pub(crate) fn open(&self, options: &Options) -> Result<Opened, Failure> {
        open(self.backend, options).map_err(failure)
    }
}

impl LogArgs {
    /// Adds what these arguments say; `group` is the one to report to if none is given.
    pub(crate) fn add_to(&self, options: &mut Options, group: Option<u16>) {
        let group = self.nflog_group.or(group);
        options.audit = self.audit;
        options.log =
            group.map(|group| Log { group, per_second: Some(self.nflog_rate), accepted: false });
    }
}

/// An error of the backend, with the exit code that it deserves.
pub(crate) fn failure(error: Error) -> Failure {
    // What it says holds what its causes say.
    let cause = anyhow!("{error}");
    if is_unavailable(&error) { Failure::unavailable(cause) } else { Failure::kernel(cause) }
}
