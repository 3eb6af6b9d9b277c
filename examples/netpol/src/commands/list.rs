//! `netpol list`: who may talk to whom.

use std::io::Write;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::connectivity::{Connection, Connectivity, End, EndJson, Focus, Place, representatives};
use crate::exit::{Exit, Failure};
use crate::input::InputArgs;
use crate::matrix::Matrix;
use crate::notes;
use crate::output::{Document, Table};
use crate::peer::Port;
use crate::picture;
use crate::progress::Progress;
use crate::reading::ReadingArgs;
use crate::style;
use crate::traffic::{self, TrafficJson};
use crate::world::{Party, World};

/// How many ends a line of text names.
const NAMED: usize = 5;

/// List who may talk to whom
///
/// Each line tells that all of the sources may connect to all of the destinations by that traffic; what is in no line
/// is denied. `shop/*` stands for all pods of a namespace, `world` for all addresses that no pod has. A pod's
/// connections with itself and from its own node, which are always allowed, are left out. Input without any pod is
/// taken for the policies alone: pods in brackets stand for those that they select.
///
/// The exit code is 0, or 3 if a part of the input cannot be read.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Only connections from here: a pod or workload as for `check`, an address, a block or `world`
    #[arg(long, value_name = "PEER")]
    from: Option<Place>,
    /// Only connections to here
    #[arg(long, value_name = "PEER")]
    to: Option<Place>,
    /// What one side's policies allow, as if there were no rules for the other direction
    #[arg(long, value_enum)]
    direction: Option<DirectionName>,
    /// Only what leaves the input: connections with the world, and with pods that there could be
    #[arg(long)]
    exposure: bool,
    /// A truth table of the pods: `.` open, `X` closed, on this port or on any
    #[arg(long, value_name = "PORT[/PROTOCOL]", num_args = 0..=1, conflicts_with = "exposure")]
    matrix: Option<Option<Port>>,
    /// How to print the result
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    output: ListFormat,
    /// No line with the names of columns
    #[arg(long)]
    no_headers: bool,
    /// Take what the API server would not accept, or not understand, for an error
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    readings: ReadingArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DirectionName {
    Egress,
    Ingress,
}

/// How connections are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ListFormat {
    /// For people
    #[default]
    Text,
    /// One line for each pair of ends, in columns
    Wide,
    /// For programs
    Json,
    /// For programs
    Yaml,
    /// For spreadsheets
    Csv,
    /// A table for Markdown
    Md,
    /// A graph for Graphviz
    Dot,
    /// The graph, or the truth table, as a picture
    Svg,
    /// A page on which to pick a pod and see what reaches it, and why
    Html,
}

#[derive(Serialize)]
struct ListDocument {
    connections: Vec<ConnectionJson>,
}

/// From each of the sources to each of the destinations.
#[derive(Serialize)]
struct ConnectionJson {
    sources: Vec<EndJson>,
    destinations: Vec<EndJson>,
    traffic: Vec<TrafficJson>,
    /// Only in this address family; missing if it does not matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<&'static str>,
}

pub(crate) fn run(args: &ListArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let input = args.input.read().map_err(Failure::input)?;
    notes::tell(&input);
    let complete = input.is_complete(args.strict);
    let mut world = World::new(input, args.readings.options(), args.input.default_namespace());
    let from = args.from.as_ref().map(|it| Looked::up(it, &mut world)).transpose()?;
    let to = args.to.as_ref().map(|it| Looked::up(it, &mut world)).transpose()?;
    args.prepare(&mut world);

    let progress = Progress::new("working out who reaches whom");
    let program = world.program();
    let mut connectivity = Connectivity::new(&program, world.objects());
    if args.exposure {
        connectivity.keep_exposure();
    }
    drop(progress);
    let [from, to] = [from, to].map(|it| it.map(|it| it.focus(&connectivity)).transpose());
    let (from, to) = (from?, to?);
    connectivity.narrow(from.as_ref(), to.as_ref());
    match &args.matrix {
        Some(port) => {
            let matrix = Matrix::new(&connectivity, &world, port.as_ref(), [from, to])?;
            args.write_matrix(&matrix, out)?;
        }
        None if args.output == ListFormat::Html => {
            picture::page(&connectivity, &program, &world, out)?;
        }
        None => args.write(&connectivity, out)?,
    }
    Ok(if complete { Exit::Success } else { Exit::BadInput })
}

/// What `--from` or `--to` means, as far as the objects tell.
enum Looked {
    Found(Focus),
    Pod { namespace: String, name: String },
}

impl Looked {
    fn up(place: &Place, world: &mut World) -> Result<Self, Failure> {
        Ok(match place {
            Place::World => Self::Found(Focus::World),
            Place::Block(block) => Self::Found(Focus::Block(*block)),
            Place::Peer(peer) => match world.resolve(peer).map_err(Failure::input)? {
                Party::Address(address) => Self::Found(Focus::Block(address.into())),
                Party::Endpoint(it) => {
                    Self::Pod { namespace: it.namespace.to_string(), name: it.name.to_string() }
                }
            },
        })
    }

    fn focus(self, connectivity: &Connectivity) -> Result<Focus, Failure> {
        match self {
            Self::Found(focus) => Ok(focus),
            Self::Pod { namespace, name } => {
                connectivity.place(&namespace, &name).map(Focus::Pod).ok_or_else(|| {
                    Failure::input(anyhow::anyhow!(
                        "{namespace}/{name} has no place of its own in the network: it is finished, or on the host \
                         network"
                    ))
                })
            }
        }
    }
}

impl ListArgs {
    /// Makes of the objects what is to be listed.
    fn prepare(&self, world: &mut World) {
        let objects = &mut world.input.objects;
        match self.direction {
            Some(DirectionName::Egress) => {
                objects.policies.iter_mut().for_each(|it| it.ingress = None)
            }
            Some(DirectionName::Ingress) => {
                objects.policies.iter_mut().for_each(|it| it.egress = None)
            }
            None => {}
        }
        let without_pods = !objects.endpoints.iter().any(|it| it.is_ordinary());
        if without_pods && !objects.policies.is_empty() {
            notes::note(
                "there are no pods in the input; pods in brackets stand for those that policies select",
            );
        }
        if self.exposure || without_pods {
            representatives(objects, without_pods);
        }
        // What is always allowed from a pod's node would be in every line (NP-NODE-1).
        for endpoint in objects.endpoints.iter_mut().filter(|it| it.is_ordinary()) {
            endpoint.node = None;
        }
    }

    fn write(&self, connectivity: &Connectivity, out: &mut impl Write) -> Result<(), Failure> {
        match self.output {
            ListFormat::Text => {
                for connection in &connectivity.connections {
                    writeln!(out, "{}", line(connectivity, connection))?;
                }
                if connectivity.connections.is_empty() {
                    notes::note("nothing is allowed");
                }
            }
            ListFormat::Wide => table(connectivity).write_aligned(!self.no_headers, out)?,
            ListFormat::Csv => table(connectivity).write_csv(!self.no_headers, out)?,
            ListFormat::Md => table(connectivity).write_markdown(out)?,
            ListFormat::Json => document(connectivity).write(out)?,
            ListFormat::Yaml => document(connectivity).write_yaml(out)?,
            ListFormat::Dot => picture::dot(connectivity, out)?,
            ListFormat::Svg => picture::graph(connectivity, out)?,
            // Needs more than the connections.
            ListFormat::Html => {}
        }
        Ok(())
    }

    fn write_matrix(&self, matrix: &Matrix, out: &mut impl Write) -> Result<(), Failure> {
        match self.output {
            ListFormat::Text => matrix.write(out)?,
            ListFormat::Json => Document::new("TruthTable", matrix.json()).write(out)?,
            ListFormat::Yaml => Document::new("TruthTable", matrix.json()).write_yaml(out)?,
            ListFormat::Csv => matrix.write_csv(out)?,
            ListFormat::Md => matrix.write_markdown(out)?,
            ListFormat::Svg => picture::table(matrix, out)?,
            ListFormat::Wide | ListFormat::Dot | ListFormat::Html => {
                return Err(Failure::usage(anyhow::anyhow!(
                    "a truth table is printed as text, json, yaml, csv, md or svg"
                )));
            }
        }
        Ok(())
    }
}

fn line(connectivity: &Connectivity, connection: &Connection) -> String {
    let ends = |ends: Vec<End>| {
        let more = ends.len().saturating_sub(NAMED);
        let named: Vec<String> = ends.iter().take(NAMED).map(style::bold).collect();
        match more {
            0 => named.join(", "),
            more => format!("{} and {more} more", named.join(", ")),
        }
    };
    let family = connection.family_name().map(|it| format!(" ({it} only)"));
    let [sources, destinations] = connectivity.names(connection.sides());
    format!(
        "{} => {} : {}{}",
        ends(sources),
        ends(destinations),
        traffic::words(&connection.traffic),
        family.unwrap_or_default(),
    )
}

/// A row for each pair of ends.
fn table(connectivity: &Connectivity) -> Table<4> {
    let rows = connectivity.connections.iter().flat_map(|connection| {
        let traffic = traffic::words(&connection.traffic);
        let family = connection.family_name().unwrap_or("any");
        let [sources, destinations] = connectivity.names(connection.sides());
        sources.into_iter().flat_map(move |source| {
            let row = |destination: &End| {
                [source.to_string(), destination.to_string(), traffic.clone(), family.to_owned()]
            };
            let others = destinations.iter().filter(|it| !it.is_same_pod(&source));
            others.map(row).collect::<Vec<_>>()
        })
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort();
    Table { columns: ["source", "destination", "traffic", "family"], rows }
}

fn document(connectivity: &Connectivity) -> Document<impl Serialize> {
    let connections = connectivity.connections.iter().map(|it| {
        let [sources, destinations] =
            connectivity.names(it.sides()).map(|ends| ends.iter().map(End::json).collect());
        ConnectionJson {
            sources,
            destinations,
            traffic: traffic::json(&it.traffic),
            family: it.family_name(),
        }
    });
    Document::new("ConnectionList", ListDocument { connections: connections.collect() })
}
