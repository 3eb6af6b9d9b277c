//! Which backend is to be used, and what goes with it.

use std::fmt;

use clap::ValueEnum;
use netpol_backend_nft::conntrack::Conntrack;
use netpol_backend_nft::nflog::Listener;
use netpol_backend_nft::{Log, Monitor, Name, Nft};
use netpol_core::backend::{Backend, Error, ErrorKind};

/// What puts programs into force: the value of `--backend`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// The first that this kernel has
    #[default]
    Auto,
    /// nf_tables, over netlink
    Nft,
}

/// How a backend is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name of everything that is written to the kernel; two instances on one host need two names.
    pub instance: Name,
    /// Reports denied packets to this NFLOG group, see [`records`](crate::records).
    pub log: Option<Log>,
    /// Keeps other processes from changing what is ours as long as the backend is open (nft, Linux 6.9).
    pub owned: bool,
    /// Denies nothing: what would be denied is counted and reported, and goes on.
    pub audit: bool,
}

impl Default for Options {
    /// As the backends' own defaults.
    fn default() -> Self {
        let netpol_backend_nft::Options { table, log, owned, audit, .. } = Default::default();
        Self { instance: table, log, owned, audit }
    }
}

/// A backend with its companions, all in the network namespace that the calling thread was in when it was opened.
#[derive(Debug)]
pub struct Opened {
    /// Puts programs into force.
    pub backend: Box<dyn Backend>,
    /// Hears when others change what is ours; `None` where only looking again tells. It hears from the moment of its
    /// making, so nothing is missed. For [`Enforcer::repair`](crate::Enforcer::repair).
    pub monitor: Option<Monitor>,
}

/// Opens a backend in the network namespace of the calling thread. Changes nothing.
///
/// # Errors
///
/// If the kernel does not have it, or the caller may not use it.
pub fn open(choice: Choice, options: &Options) -> Result<Opened, Error> {
    match choice {
        Choice::Auto | Choice::Nft => open_nft(options),
    }
}

/// Opens the connection tracking of the calling thread's network namespace, from which connections are cut.
///
/// # Errors
///
/// If there is no netlink for netfilter.
pub fn open_conntrack() -> Result<Conntrack, Error> {
    Ok(Conntrack::open()?)
}

/// Listens to the reports of denied packets that [`Options::log`] asks for, in the calling thread's network namespace.
///
/// # Errors
///
/// If the kernel has no NFLOG, or somebody else listens to the group.
pub fn open_listener(options: &Options, log: Log) -> Result<Listener, Error> {
    Ok(Listener::open(log.group, &options.instance)?)
}

fn open_nft(options: &Options) -> Result<Opened, Error> {
    let mut nft = Nft::open(netpol_backend_nft::Options {
        table: options.instance.clone(),
        log: options.log,
        owned: options.owned,
        audit: options.audit,
        ..Default::default()
    })?;
    // Opening a socket says little about what the kernel has, and what the caller may do.
    nft.status()?;
    let monitor = nft.monitor()?;
    Ok(Opened { backend: Box::new(nft), monitor: Some(monitor) })
}

/// Whether a privilege or a part of the kernel is missing, so that trying again is in vain.
pub fn is_unavailable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotPermitted | ErrorKind::Unsupported)
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Nft => "nft",
        })
    }
}
