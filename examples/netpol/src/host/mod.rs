//! What one host enforces: manifests, endpoints that are no pods, and what the machine adds.

mod backend;
mod endpoints;
mod machine;
mod replace;
mod sources;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use clap::Args;
use netpol_core::model::{Labels, Name, Node, Objects, name};
use netpol_core::program::{Program, Scope};
use netpol_core::{Cluster, compile};

pub(crate) use self::backend::{BackendArgs, LogArgs, failure};
pub(crate) use self::replace::replace;
pub(crate) use self::sources::Sources;
use crate::exit::Failure;
use crate::input::{Input, InputArgs, Severity};
use crate::notes;
use crate::reading::ReadingArgs;

/// Where the objects come from, and which of them live here.
#[derive(Args, Clone, Debug)]
pub(crate) struct HostArgs {
    #[command(flatten)]
    pub(crate) input: InputArgs,
    /// Endpoints that are no pods, such as virtual machines: a file of `kind: HostEndpoints`; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) endpoints: Vec<PathBuf>,
    /// The node that this host is: pods of other nodes are peers only
    ///
    /// Without it, this is the node that has the host's name; if no object speaks of such a node, everything is taken
    /// to live here.
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    #[command(flatten)]
    pub(crate) readings: ReadingArgs,
}

/// What a host is to enforce.
#[derive(Clone, Debug)]
pub(crate) struct Desired {
    /// Everything there is to tell about the input; its objects are those to enforce.
    pub(crate) input: Input,
    /// Whose endpoints are policed here.
    pub(crate) node: Name,
}

/// Whether the machine adds to what the input says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surroundings {
    /// The addresses of its interfaces, and where they lead.
    Here,
    /// Nothing: the input is about some other place.
    Elsewhere,
}

impl HostArgs {
    /// Reads everything once, and tells what is wrong with it.
    pub(crate) fn read(&self, surroundings: Surroundings) -> Result<Desired, Failure> {
        let desired = Sources::new(self.clone(), surroundings).read().map_err(Failure::input)?;
        notes::tell(&desired.input);
        desired.tell_if_idle();
        Ok(desired)
    }

    /// [`read`](Self::read) for a command that would rather do nothing than half of it.
    pub(crate) fn read_all(&self, surroundings: Surroundings) -> Result<Desired, Failure> {
        let desired = self.read(surroundings)?;
        desired.refuse_errors()?;
        Ok(desired)
    }

    /// What the input says for this host.
    pub(crate) fn program(&self) -> Result<Program, Failure> {
        let desired = self.read_all(Surroundings::Here)?;
        let scope = desired.scope();
        let cluster = Cluster::from_objects(self.readings.options(), desired.input.objects);
        Ok(compile(&cluster, scope))
    }

    /// The node that this host is.
    pub(crate) fn node(&self) -> Name {
        self.node.as_deref().map_or_else(machine::host_name, name)
    }
}

impl Desired {
    /// Whose endpoints a program has to police.
    pub(crate) fn scope(&self) -> Scope {
        Scope::Node(self.node.clone())
    }

    /// Policies that cannot be read may be the ones that deny.
    pub(crate) fn refuse_errors(&self) -> Result<(), Failure> {
        let errors = self.input.findings.iter().filter(|it| it.severity == Severity::Error);
        match errors.count() {
            0 => Ok(()),
            count => {
                let errors = notes::count(count, "error", "errors");
                Err(Failure::input(anyhow::anyhow!("{errors} in the input, so nothing is changed")))
            }
        }
    }

    /// Says so if nothing would be policed: it is hardly what somebody wants who calls this.
    fn tell_if_idle(&self) {
        let Objects { endpoints, .. } = &self.input.objects;
        let here = endpoints.iter().filter(|it| it.node.as_ref() == Some(&self.node));
        if here.filter(|it| !it.addresses.is_empty()).count() == 0 {
            let total = notes::count(endpoints.len(), "endpoint", "endpoints");
            notes::note(format_args!(
                "warning: nothing is policed here: of {total} none with an address is on node {}",
                self.node
            ));
        }
    }
}

/// Decides what lives here, and completes this host's own node.
fn settle(objects: &mut Objects, args: &HostArgs, surroundings: Surroundings) -> io::Result<Name> {
    let host = args.node();
    let spoken_of = objects.nodes.iter().any(|node| node.name == host)
        || objects.endpoints.iter().any(|it| it.node.as_ref() == Some(&host));
    for endpoint in &mut objects.endpoints {
        let unplaced = endpoint.node.is_none();
        if unplaced || (args.node.is_none() && !spoken_of) {
            endpoint.node = Some(host.clone());
        }
    }
    // NP-NODE-1: what this host sends to its endpoints has the address of any of its interfaces.
    let own = match surroundings {
        Surroundings::Here => machine::own_addresses()?,
        Surroundings::Elsewhere => Vec::new(),
    };
    let at = objects.nodes.iter().position(|node| node.name == host).unwrap_or_else(|| {
        let node = Node { name: host.clone(), labels: Labels::default(), addresses: Vec::new() };
        objects.nodes.push(node);
        objects.nodes.len() - 1
    });
    let endpoints = objects.endpoints.iter().flat_map(|it| &it.addresses);
    let taken: BTreeSet<_> = endpoints.copied().collect();
    let addresses = &mut objects.nodes[at].addresses;
    for address in own {
        if !addresses.contains(&address) && !taken.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(host)
}
