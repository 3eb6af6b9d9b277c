//! `netpol render`: what would be written to the kernel.

use std::io::Write;

use anyhow::anyhow;
use clap::Args;
use netpol_core::Cluster;
use netpol_core::compile;
use netpol_core::model::Objects;
use netpol_enforce::backend;

use crate::exit::{Exit, Failure};
use crate::host::{BackendArgs, Desired, HostArgs, LogArgs, Surroundings};
use crate::notes;
use crate::peer::Peer;
use crate::world::{Party, World};

/// How many policies are named that make the program large.
const HEAVIEST: usize = 5;

/// Print what would be written to the kernel
///
/// In the syntax of the backend's own tool, such as `netpol render -f k8s/ | nft -c -f -`; needs no privileges. The
/// addresses of this machine's interfaces are left out, which `netpol apply` counts as its node's. The exit code is 3
/// if a part of the input cannot be read.
#[derive(Args, Debug)]
pub(crate) struct RenderArgs {
    #[command(flatten)]
    host: HostArgs,
    #[command(flatten)]
    backend: BackendArgs,
    #[command(flatten)]
    log: LogArgs,
    /// Only what is there for one pod: namespace/pod or namespace/deploy/name
    #[arg(long, value_name = "POD")]
    endpoint: Option<Peer>,
    /// Print what it costs packets and memory instead, set by set, why it is rendered so, and which policies make it
    /// large (nft)
    #[arg(long)]
    explain_cost: bool,
}

pub(crate) fn run(args: &RenderArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let mut desired = args.host.read(Surroundings::Elsewhere)?;
    let complete = !desired.input.has_errors();
    if let Some(peer) = &args.endpoint {
        desired = only(desired, args, peer)?;
    }
    let mut options = args.backend.options()?;
    args.log.add_to(&mut options, None);
    let scope = desired.scope();
    let cluster = Cluster::from_objects(args.host.readings.options(), desired.input.objects);
    let program = compile(&cluster, scope);
    program.too_large().for_each(|it| notes::note(format_args!("warning: {it}")));
    if args.explain_cost {
        let cost = backend::explain_cost(args.backend.backend, &options, &program);
        let unknown = || Failure::usage(anyhow!("--explain-cost: that is known of nft only"));
        write!(out, "{}", cost.ok_or_else(unknown)?)?;
        writeln!(out, "\n{}; most of it is about", program.capacity())?;
        for weight in program.heaviest(HEAVIEST) {
            writeln!(out, "  {weight}")?;
        }
        return Ok(if complete { Exit::Success } else { Exit::BadInput });
    }
    let text = backend::render(args.backend.backend, &options, &program);
    write!(out, "{}", text.map_err(Failure::usage)?)?;
    Ok(if complete { Exit::Success } else { Exit::BadInput })
}

/// Leaves one endpoint where it is, and takes all others somewhere else.
fn only(desired: Desired, args: &RenderArgs, peer: &Peer) -> Result<Desired, Failure> {
    let Desired { input, node } = desired;
    let namespace = args.host.input.default_namespace();
    let mut world = World::new(input, args.host.readings.options(), namespace);
    let Party::Endpoint(wanted) = world.resolve(peer).map_err(Failure::input)? else {
        return Err(Failure::usage(anyhow!("--endpoint: an address is not an endpoint")));
    };
    let Objects { endpoints, .. } = &mut world.input.objects;
    for endpoint in endpoints {
        let is_wanted = *endpoint == wanted;
        endpoint.node = is_wanted.then(|| node.clone());
    }
    Ok(Desired { input: world.input, node })
}
