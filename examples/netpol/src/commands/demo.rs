//! `netpol demo`: policies at work, seen with real packets.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use netpol_core::manifest::{ReadOptions, Strictness};
use netpol_core::model::{
    DeclaredPort, Direction, Family, Flow, Objects, Options, PortMatch, PortRange, Ports, Protocol,
    Traffic,
};
use netpol_core::program::{Explanation, Program};
use netpol_testbed::{Outcome, Place, Privilege, Probe};

use crate::exit::{Exit, Failure};
use crate::explanation;
use crate::input::{Input, InputArgs, Source};
use crate::live::{Backend, Live, Variant};
use crate::notes::{self, count, note};
use crate::peer::Port;
use crate::placement::place;
use crate::truth_table::{self, Cell, Column};
use crate::world::World;

/// The shop's objects, as in the directory `examples/manifests`.
const SHOP: [(&str, &str); 2] = [
    ("shop.yaml", include_str!("../../../manifests/shop.yaml")),
    ("shop-policies.yaml", include_str!("../../../manifests/shop-policies.yaml")),
];
/// The ports that the shop's policies are about.
const SHOP_PORTS: [(Protocol, u16); 4] =
    [(Protocol::Tcp, 8080), (Protocol::Tcp, 5432), (Protocol::Tcp, 9090), (Protocol::Udp, 53)];
/// Somebody outside of the cluster: addresses for documentation.
const INTERNET: (&str, [&str; 2]) = ("internet", ["203.0.113.7", "2001:db8::7"]);
/// The demo tries every pair of ends.
const MOST_PODS: usize = 50;
/// How many ports are tried if nobody says which.
const MOST_PORTS: usize = 4;

/// Build a small cluster out of network namespaces, and see what policies do to real packets
///
/// Shows who reaches whom before there is any policy, what the policies say, and what packets find once the policies
/// are in force: . open, X closed. The cluster is gone when the command ends. Root is not needed where ordinary users
/// may make user namespaces. The exit code is 0 if all packets went the way that the policies say, else 1.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Your own manifests instead of the shop's: a file, a directory, or - for standard input
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    filename: Vec<PathBuf>,
    /// Look into the directories within directories, too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// What puts the policies into force
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,
    /// Which iptables
    #[arg(long, value_enum, default_value_t)]
    variant: Variant,
    /// A port to try, such as 8080/tcp or icmp; may be repeated
    #[arg(long, value_name = "PORT")]
    port: Vec<Port>,
    /// How long silence must last to be a denial
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 500)]
    timeout: u64,
    /// Leave the cluster up until Enter is pressed, and tell how to get into it
    #[arg(long)]
    keep: bool,
}

/// An end of connections: a pod, or the internet.
struct Party {
    label: String,
    addresses: Vec<IpAddr>,
}

/// One connection of the demo.
struct Try {
    port: usize,
    row: usize,
    column: usize,
    family: Family,
    flow: Flow,
    probe: Probe,
}

pub(crate) fn run(args: &DemoArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    // Before there is a second thread.
    let privilege = netpol_testbed::enter().map_err(Failure::unavailable)?;
    let input = args.read()?;
    notes::tell(&input);
    if input.has_errors() {
        return Err(Failure::input(anyhow!("not all of the manifests can be read")));
    }
    let mut world = World::new(input, Options::default(), "default");
    place(&mut world.input.objects);
    let parties = parties(world.objects())?;
    let ports = args.ports(world.objects())?;

    note(format_args!("building {} ...", size(world.objects(), parties.len() - 1)));
    let begin = Instant::now();
    let live = Live::build(world.objects())?;
    note(format_args!("built in {} ms", begin.elapsed().as_millis()));
    let tries = tries(&live, &parties, &ports)?;
    let probes: Vec<Probe> = tries.iter().map(|it| it.probe.clone()).collect();
    let timeout = Duration::from_millis(args.timeout);

    note(format_args!("trying {} connections without any policy ...", probes.len()));
    let before = live.run(&probes, timeout);
    let begin = Instant::now();
    live.enforce(args.backend, args.variant, &world.cluster())?;
    let policies = count(world.objects().policies.len(), "policy", "policies");
    note(format_args!("{policies} in force after {} ms", begin.elapsed().as_millis()));
    note(format_args!("trying the same {} connections again ...\n", probes.len()));
    let after = live.run(&probes, timeout);

    let program = world.program();
    let expected: Vec<bool> =
        tries.iter().map(|it| program.decide(&it.flow).is_allowed()).collect();
    let tables = [
        ("before", before.iter().map(is_open).collect()),
        ("expected", expected.clone()),
        ("observed", after.iter().map(is_open).collect()),
    ];
    let labels: Vec<String> = parties.iter().map(|party| party.label.clone()).collect();
    for (at, port) in ports.iter().enumerate() {
        let columns = tables
            .each_ref()
            .map(|(title, open)| Column { title, cells: cells(&tries, open, at, parties.len()) });
        truth_table::write(&title(*port), &labels, &columns, out)?;
    }
    writeln!(out, ". open   X closed   rows connect to columns, over IPv4 and IPv6\n")?;
    if let Some((it, explanation)) = telling(&tries, &program) {
        writeln!(out, "one of the closed ones, in words:")?;
        let (from, to) = (&labels[it.row], &labels[it.column]);
        explanation::write_headed(&explanation, from, to, "", out)?;
        writeln!(out)?;
    }
    let wrong = report(&tries, &expected, &after, &labels, out)?;
    out.flush()?;
    if args.keep {
        keep(&live, privilege)?;
    }
    Ok(if wrong == 0 { Exit::Success } else { Exit::Negative })
}

impl DemoArgs {
    fn read(&self) -> Result<Input, Failure> {
        if self.filename.is_empty() {
            let sources =
                SHOP.map(|(name, text)| Source { name: name.to_owned(), text: text.to_owned() });
            let options = ReadOptions { strictness: Strictness::Strict, ..ReadOptions::default() };
            return Ok(Input::new(&sources, &options));
        }
        let input = InputArgs {
            filename: self.filename.clone(),
            recursive: self.recursive,
            namespace: None,
        };
        input.read().map_err(Failure::input)
    }

    /// The ports to try: those given, or the first that the policies speak of.
    fn ports(&self, objects: &Objects) -> Result<Vec<Option<(Protocol, u16)>>, Failure> {
        match (self.port.is_empty(), self.filename.is_empty()) {
            (true, true) => return Ok(SHOP_PORTS.map(Some).to_vec()),
            (true, false) => return Ok(spoken_of(objects)),
            (false, _) => {}
        }
        let ports = self.port.iter().map(|port| match port {
            Port::Number(protocol, number) => Ok(Some((*protocol, *number))),
            Port::Icmp => Ok(None),
            Port::Named(_, name) => {
                Err(Failure::usage(anyhow!("{name}: a port to try needs a number")))
            }
        });
        ports.collect()
    }
}

/// The ports that most rules name, and if there are none port 80; `None` would be ICMP.
fn spoken_of(objects: &Objects) -> Vec<Option<(Protocol, u16)>> {
    let mut counts: BTreeMap<(Protocol, u16), usize> = BTreeMap::new();
    let declared: Vec<&DeclaredPort> = objects.endpoints.iter().flat_map(|it| &it.ports).collect();
    let rules = objects.policies.iter().flat_map(|policy| {
        Direction::ALL.into_iter().filter_map(|direction| policy.rules(direction)).flatten()
    });
    for rule in rules {
        let Ports::AnyOf(ports) = &rule.ports else { continue };
        for port in ports {
            match port {
                PortMatch::Range(protocol, range) if *range != PortRange::ALL => {
                    *counts.entry((*protocol, range.first())).or_default() += 1;
                }
                PortMatch::Named(protocol, name) => {
                    let matching = declared.iter().filter(|it| {
                        it.name == *name && protocol.is_none_or(|wanted| wanted == it.protocol)
                    });
                    for port in matching {
                        *counts.entry((port.protocol, port.number)).or_default() += 1;
                    }
                }
                PortMatch::Range(..) | PortMatch::Unknown(_) => {}
            }
        }
    }
    let mut ports: Vec<_> = counts.into_iter().collect();
    ports.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut ports: Vec<_> =
        ports.into_iter().take(MOST_PORTS).map(|(port, _)| Some(port)).collect();
    ports.sort();
    if ports.is_empty() {
        ports.push(Some((Protocol::Tcp, 80)));
    }
    ports
}

/// All pods that have a place of their own, and the internet.
fn parties(objects: &Objects) -> Result<Vec<Party>, Failure> {
    let pods = objects.endpoints.iter().filter(|endpoint| endpoint.is_ordinary());
    let mut parties: Vec<Party> = pods
        .map(|endpoint| Party {
            label: format!("{}/{}", endpoint.namespace, endpoint.name),
            addresses: endpoint.addresses.to_vec(),
        })
        .collect();
    match parties.len() {
        0 => return Err(Failure::input(anyhow!("there is no pod in the manifests"))),
        pods if pods > MOST_PODS => {
            return Err(Failure::input(anyhow!(
                "the demo tries every pair of pods: {pods} are too many, {MOST_PODS} are the most"
            )));
        }
        _ => {}
    }
    let (label, addresses) = INTERNET;
    let addresses = addresses.iter().filter_map(|address| address.parse().ok()).collect();
    parties.push(Party { label: label.to_owned(), addresses });
    Ok(parties)
}

/// Every pair, every port, both families.
fn tries(
    live: &Live,
    parties: &[Party],
    ports: &[Option<(Protocol, u16)>],
) -> Result<Vec<Try>, Failure> {
    let internet = parties.len() - 1;
    let mut tries = Vec::new();
    for (port, traffic) in ports.iter().enumerate() {
        for (row, from) in parties.iter().enumerate() {
            for (column, to) in parties.iter().enumerate() {
                for family in Family::ALL {
                    let of = |party: &Party| {
                        party.addresses.iter().copied().find(|it| Family::of(*it) == family)
                    };
                    let (Some(source), Some(destination)) = (of(from), of(to)) else { continue };
                    if (row, column) == (internet, internet) {
                        continue;
                    }
                    let traffic = match (traffic, family) {
                        (Some((protocol, number)), _) => Traffic::Port(*protocol, *number),
                        (None, Family::V4) => Traffic::ICMP,
                        (None, Family::V6) => Traffic::ICMPV6,
                    };
                    let flow = Flow::new(source, destination, traffic);
                    let probe = live.probe(&flow).map_err(Failure::input)?;
                    tries.push(Try { port, row, column, family, flow, probe });
                }
            }
        }
    }
    Ok(tries)
}

/// The table of one port.
fn cells(tries: &[Try], open: &[bool], port: usize, ends: usize) -> Vec<Vec<Cell>> {
    let mut cells = vec![vec![Cell::default(); ends]; ends];
    for (it, open) in tries.iter().zip(open).filter(|(it, _)| it.port == port) {
        if let Some(cell) = cells.get_mut(it.row).and_then(|row| row.get_mut(it.column)) {
            cell.open[usize::from(it.family == Family::V6)] = Some(*open);
        }
    }
    cells
}

fn title(port: Option<(Protocol, u16)>) -> String {
    match port {
        Some((protocol, number)) => format!("{protocol} {number}"),
        None => "ICMP".to_owned(),
    }
}

fn is_open(outcome: &Outcome) -> bool {
    *outcome == Outcome::Allowed
}

/// A denied connection of which there is most to tell: one that a rule nearly allows.
fn telling<'t>(tries: &'t [Try], program: &Program) -> Option<(&'t Try, Explanation)> {
    let denied = tries.iter().filter_map(|it| {
        let explanation = program.explain(&it.flow);
        (!explanation.is_allowed()).then_some((it, explanation))
    });
    denied.max_by_key(|(it, explanation)| {
        (
            explanation::near_misses(explanation),
            std::cmp::Reverse((it.port, it.row, it.column, it.family)),
        )
    })
}

/// Tells the differences between what the policies say and what packets found. How many there are.
fn report(
    tries: &[Try],
    expected: &[bool],
    after: &[Outcome],
    labels: &[String],
    out: &mut impl Write,
) -> io::Result<usize> {
    let mut wrong = 0;
    for ((it, expected), outcome) in tries.iter().zip(expected).zip(after) {
        let as_expected = match outcome {
            Outcome::Allowed => *expected,
            Outcome::Denied => !expected,
            Outcome::Refused(_) | Outcome::Failed(_) => false,
        };
        if !as_expected {
            wrong += 1;
            let word = if *expected { "allowed" } else { "denied" };
            let (from, to) = (&labels[it.row], &labels[it.column]);
            writeln!(out, "differs: {from} -> {to} ({}) should be {word}, was {outcome}", it.flow)?;
        }
    }
    let tried = count(tries.len(), "connection", "connections");
    match wrong {
        0 => writeln!(out, "{tried} tried, all as the policies say")?,
        wrong => writeln!(out, "{tried} tried, {wrong} not as the policies say")?,
    }
    Ok(wrong)
}

/// `2 nodes and 8 pods`
fn size(objects: &Objects, pods: usize) -> String {
    format!("{} and {}", count(objects.nodes.len(), "node", "nodes"), count(pods, "pod", "pods"))
}

/// Tells how to get into the cluster, and waits.
fn keep(live: &Live, privilege: Privilege) -> Result<(), Failure> {
    note("\nthe cluster stays up; to run a command inside of it, put it behind one of these:");
    let nodes = live.nodes.iter().cloned().map(Place::Node);
    let pods = live.pods.iter().cloned().map(Place::Pod);
    for place in nodes.chain(pods).chain([Place::Outside]) {
        let command = live.testbed.shell_command(&place, privilege).map_err(Failure::kernel)?;
        note(format_args!("  {place:<30}  {command}", place = place.to_string()));
    }
    note("such as `nft list ruleset` in a node; press Enter to end it");
    io::stdin().read_line(&mut String::new())?;
    Ok(())
}
