//! Which backend is to be used, and what goes with it.

use std::fmt;

use clap::ValueEnum;
use netpol_backend_iptables::{Instance, Iptables, Variant};
use netpol_backend_nft::conntrack::Conntrack;
use netpol_backend_nft::nflog::Listener;
use netpol_backend_nft::ruleset::Hook;
use netpol_backend_nft::{CostExplanation, Log, Monitor, Name, Nft};
use netpol_core::backend::{Backend, Error, ErrorKind, Report};
use netpol_core::model::Family;
use netpol_core::program::Program;

use crate::closed;
use crate::preview::{self, Preview};

/// What puts programs into force: the value of `--backend`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// The first that this kernel has
    #[default]
    Auto,
    /// nf_tables, over netlink
    Nft,
    /// iptables, ip6tables and ipset, of the variant that the host uses already
    Iptables,
    /// iptables of the variant that writes nf_tables rules
    IptablesNft,
    /// iptables of the older variant
    IptablesLegacy,
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
    choice.first(|| open_nft(options), |variant| open_iptables(options, variant))
}

/// Denies every new connection that this host forwards, in both families, in place of what was in force. Connections
/// that are known go on, and so does what the host itself sends and receives. The next
/// [`sync`](Backend::sync) of a backend of the same instance ends it, in one step with what the program denies.
///
/// For a host that is to police endpoints and does not know yet where they are.
///
/// # Errors
///
/// If the kernel refuses.
pub fn close(choice: Choice, options: &Options) -> Result<Report, Error> {
    choice.first(
        || Ok(Nft::open(nft_options(options))?.apply(closed::nft(&nft_options(options))?)?),
        |variant| {
            let options = iptables_options(options, variant)?;
            Ok(Iptables::open(options.clone())?.apply(closed::iptables(&options))?)
        },
    )
}

/// What would be written to a kernel that has nothing yet, in the syntax of the backend's own tool. Needs no privileges.
///
/// # Errors
///
/// If the instance's name is none for this backend.
pub fn render(choice: Choice, options: &Options, program: &Program) -> Result<String, Error> {
    Ok(match choice.variant() {
        Some(variant) => {
            let options = iptables_options(options, variant)?;
            netpol_backend_iptables::render(program, &options).to_string()
        }
        None => netpol_backend_nft::render(program, &nft_options(options)).to_string(),
    })
}

/// What the rendering of a program costs packets and memory, and why it is rendered so; `None` for backends of which
/// that is not known.
pub fn explain_cost(
    choice: Choice,
    options: &Options,
    program: &Program,
) -> Option<CostExplanation> {
    let is_nft = choice.variant().is_none();
    is_nft.then(|| netpol_backend_nft::explain_cost(program, &nft_options(options)))
}

/// What a synchronisation would do now, a line for each change of the kernel's state. Nothing is changed.
///
/// # Errors
///
/// If what is in force cannot be read.
pub fn preview(choice: Choice, options: &Options, program: &Program) -> Result<Preview, Error> {
    match choice.variant() {
        Some(variant) => {
            let options = iptables_options(options, variant)?;
            let present = Iptables::open(options.clone())?.read()?;
            let wanted = netpol_backend_iptables::render(program, &options);
            Ok(preview::of_calls(present, wanted))
        }
        None => {
            let options = nft_options(options);
            let present = Nft::open(options.clone())?.read()?;
            let wanted = netpol_backend_nft::render(program, &options);
            Ok(preview::of_transactions(present.as_ref(), wanted))
        }
    }
}

/// The hooks of either family at which packets do not come to our rules first of all that their backend has there;
/// nothing if there are no rules of ours.
///
/// # Errors
///
/// If what is in force cannot be read.
pub fn missing_hooks(choice: Choice, options: &Options) -> Result<Vec<(Family, Hook)>, Error> {
    let all = || Family::ALL.into_iter().flat_map(|family| Hook::ALL.map(|hook| (family, hook)));
    choice.first(
        || {
            let Some(ruleset) = Nft::open(nft_options(options))?.read()? else {
                return Ok(Vec::new());
            };
            let is_there = |(family, hook): &(Family, Hook)| {
                let mut chains =
                    ruleset.tables.get(family).into_iter().flat_map(|it| it.chains.values());
                chains.any(|chain| chain.base.is_some_and(|base| base.hook == *hook))
            };
            Ok(all().filter(|it| !is_there(it)).collect())
        },
        |variant| {
            let Some(ruleset) = Iptables::open(iptables_options(options, variant)?)?.read()? else {
                return Ok(Vec::new());
            };
            let is_first = |(family, hook): &(Family, Hook)| {
                let places = ruleset.tables.get(family).and_then(|it| it.jumps.get(hook));
                places.is_some_and(|places| places.first() == Some(&0))
            };
            Ok(all().filter(|it| !is_first(it)).collect())
        },
    )
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
    let mut nft = Nft::open(nft_options(options))?;
    // Opening a socket says little about what the kernel has, and what the caller may do.
    nft.status()?;
    let monitor = nft.monitor()?;
    Ok(Opened { backend: Box::new(nft), monitor: Some(monitor) })
}

fn nft_options(options: &Options) -> netpol_backend_nft::Options {
    let Options { instance, log, owned, audit } = options.clone();
    netpol_backend_nft::Options { table: instance, log, owned, audit, ..Default::default() }
}

fn open_iptables(options: &Options, variant: Variant) -> Result<Opened, Error> {
    let mut iptables = Iptables::open(iptables_options(options, variant)?)?;
    // The tools being there says nothing about what the caller may do.
    iptables.status()?;
    Ok(Opened { backend: Box::new(iptables), monitor: None })
}

fn iptables_options(
    options: &Options,
    variant: Variant,
) -> Result<netpol_backend_iptables::Options, Error> {
    let Options { instance, log, audit, .. } = options;
    let name = Instance::new(instance.as_str()).map_err(|it| Error::new(ErrorKind::Refused, it))?;
    Ok(netpol_backend_iptables::Options { name, variant, log: *log, audit: *audit })
}

impl Choice {
    /// Does something with the chosen backend, or, where that is left open, with the first that this kernel has.
    fn first<T>(
        self,
        nft: impl FnOnce() -> Result<T, Error>,
        iptables: impl FnOnce(Variant) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match self.variant() {
            Some(variant) => iptables(variant),
            None => match nft() {
                Err(error) if self == Self::Auto && error.kind() == ErrorKind::Unsupported => {
                    // What is told is what the first choice lacks, unless there is a second.
                    iptables(Variant::Auto).map_err(|_| error)
                }
                done => done,
            },
        }
    }

    /// Which iptables, unless it is nft.
    fn variant(self) -> Option<Variant> {
        match self {
            Self::Auto | Self::Nft => None,
            Self::Iptables => Some(Variant::Auto),
            Self::IptablesNft => Some(Variant::Nft),
            Self::IptablesLegacy => Some(Variant::Legacy),
        }
    }
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
            Self::Iptables => "iptables",
            Self::IptablesNft => "iptables-nft",
            Self::IptablesLegacy => "iptables-legacy",
        })
    }
}
