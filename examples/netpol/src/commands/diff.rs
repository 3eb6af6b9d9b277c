//! `netpol diff`: what a change of the manifests changes.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use netpol_backend_nft::Error as NftError;
use netpol_backend_nft::conntrack::Conntrack;
use netpol_core::model::{Flow, Objects};
use netpol_core::program::Program;
use serde::Serialize;

use crate::connectivity::{Change, Connectivity, Difference, End, EndJson, Pod, representatives};
use crate::exit::{Exit, Failure};
use crate::input::{Input, InputArgs};
use crate::notes;
use crate::output::{Document, Table};
use crate::progress::Progress;
use crate::reading::ReadingArgs;
use crate::style;
use crate::traffic::{self, TrafficJson};
use crate::world::World;

/// Tell which connections a change allows or cuts
///
/// Compares what the manifests of the first -f and those of the second one mean, however they are written: policies
/// that are split, renamed or reordered make no difference. A pod's connections with itself and with its own node are
/// left out. Input without any pod is taken for the policies alone, as by `list`.
///
/// The exit code is 0 if both mean the same, 1 if not, and higher if that cannot be told.
#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// Manifests before and after: two files, directories, or - for standard input
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    filename: Vec<PathBuf>,
    /// Manifests that are there before and after, such as the workloads; may be repeated
    #[arg(long, value_name = "PATH")]
    common: Vec<PathBuf>,
    /// Look into the directories within directories, too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// The namespace of what does not say its own
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// List the connections of this host, as its connection tracking knows them, that the change forbids
    #[arg(long)]
    live_flows: bool,
    /// How to print the result
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    output: DiffFormat,
    /// Print nothing, the exit code tells
    #[arg(short, long)]
    quiet: bool,
    /// No line with the names of columns
    #[arg(long)]
    no_headers: bool,
    /// Take what the API server would not accept, or not understand, for an error
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    readings: ReadingArgs,
}

/// How a difference is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum DiffFormat {
    /// For people: `+` added, `-` removed, `~` changed
    #[default]
    Text,
    /// For programs
    Json,
    /// For programs
    Yaml,
    /// For spreadsheets
    Csv,
    /// A table for Markdown, such as comments on pull requests
    Md,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DiffDocument {
    same: bool,
    changes: Vec<ChangeJson>,
    /// The pods that only the second input has.
    added_pods: Vec<PodJson>,
    /// The pods that only the first input has.
    removed_pods: Vec<PodJson>,
    /// With `--live-flows`: the connections that the change forbids.
    #[serde(skip_serializing_if = "Option::is_none")]
    live_flows: Option<Vec<LiveFlow>>,
}

#[derive(Serialize)]
struct ChangeJson {
    /// `added`, `removed` or `changed`.
    change: &'static str,
    sources: Vec<EndJson>,
    destinations: Vec<EndJson>,
    before: Vec<TrafficJson>,
    after: Vec<TrafficJson>,
    /// Only in this address family; missing if it does not matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<&'static str>,
}

#[derive(Serialize)]
struct PodJson {
    namespace: String,
    name: String,
}

/// A connection of this host.
#[derive(Serialize)]
struct LiveFlow {
    source: String,
    destination: String,
    traffic: String,
}

pub(crate) fn run(args: &DiffArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let [first, second] = &args.filename[..] else {
        return Err(Failure::usage(anyhow!("there must be two -f: before and after")));
    };
    let standard_input = |it: &&PathBuf| it.as_os_str() == "-";
    if args.filename.iter().chain(&args.common).filter(standard_input).count() > 1 {
        return Err(Failure::usage(anyhow!("standard input can be read only once")));
    }
    let [mut first, mut second] = [args.read(first)?, args.read(second)?];
    let complete = [&first, &second].iter().all(|it| it.is_complete(args.strict));
    let live_flows = match args.live_flows {
        true => Some(args.live_flows(&first.objects, &second.objects)?),
        false => None,
    };
    prepare([&mut first.objects, &mut second.objects]);
    let progress = Progress::new("working out who reaches whom");
    let lists = [first, second].map(|input| {
        let world = World::new(input, args.readings.options(), args.default_namespace());
        Connectivity::new(&world.program(), world.objects())
    });
    let difference = Difference::new(lists);
    drop(progress);
    if !args.quiet {
        args.write(&difference, live_flows, out)?;
    }
    Ok(match (complete, difference.changes.is_empty()) {
        (false, _) => Exit::BadInput,
        (true, true) => Exit::Success,
        (true, false) => Exit::Negative,
    })
}

/// What is compared, of both inputs.
fn prepare(both: [&mut Objects; 2]) {
    let [first, second] = both;
    let pods = |it: &Objects| it.endpoints.iter().any(|it| it.is_ordinary());
    if !pods(first) && !pods(second) {
        // The same ones in both: those that either's policies speak of.
        let mut made_up = Objects { policies: first.policies.clone(), ..Objects::default() };
        made_up.policies.extend(second.policies.iter().cloned());
        representatives(&mut made_up, true);
        for objects in [&mut *first, &mut *second] {
            objects.endpoints.extend(made_up.endpoints.iter().cloned());
            objects.namespaces.extend(made_up.namespaces.iter().cloned());
        }
    }
    for objects in [first, second] {
        objects.endpoints.iter_mut().filter(|it| it.is_ordinary()).for_each(|it| it.node = None);
    }
}

impl DiffArgs {
    fn read(&self, path: &Path) -> Result<Input, Failure> {
        let mut filename = self.common.clone();
        filename.push(path.to_owned());
        let (recursive, namespace) = (self.recursive, self.namespace.clone());
        let input = InputArgs { filename, recursive, namespace }.read().map_err(Failure::input)?;
        notes::tell(&input);
        Ok(input)
    }

    fn default_namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }

    /// The connections of this host that the first input allows and the second one does not.
    fn live_flows(&self, before: &Objects, after: &Objects) -> Result<Vec<LiveFlow>, Failure> {
        let [before, after] = [before, after].map(|objects| {
            let input = Input { objects: objects.clone(), ..Input::default() };
            World::new(input, self.readings.options(), self.default_namespace()).program()
        });
        let flows =
            Conntrack::open().and_then(|mut it| it.flows()).map_err(|error| match error {
                NftError::NotPermitted | NftError::Unsupported { .. } => {
                    Failure::unavailable(error)
                }
                error => Failure::kernel(error),
            })?;
        let allowed = |program: &Program, flow: &Flow| program.decide(flow).is_allowed();
        let mut cut: Vec<Flow> =
            flows.into_iter().filter(|it| allowed(&before, it) && !allowed(&after, it)).collect();
        cut.sort_by(|a, b| {
            (&a.source, &a.destination, a.traffic).cmp(&(&b.source, &b.destination, b.traffic))
        });
        let told = cut.iter().map(|flow| {
            let explanation = after.explain(flow);
            let name = |judged: &Option<netpol_core::program::Judgement>, end: String| match judged
            {
                Some(it) => format!("{}/{} ({end})", it.subject.0, it.subject.1),
                None => end,
            };
            LiveFlow {
                source: name(&explanation.egress, flow.source.to_string()),
                destination: name(&explanation.ingress, flow.destination.to_string()),
                traffic: flow.traffic.to_string(),
            }
        });
        Ok(told.collect())
    }

    fn write(
        &self,
        difference: &Difference,
        live_flows: Option<Vec<LiveFlow>>,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        match self.output {
            DiffFormat::Text => write_text(difference, live_flows.as_deref(), out)?,
            DiffFormat::Csv => table(difference).write_csv(!self.no_headers, out)?,
            DiffFormat::Md => table(difference).write_markdown(out)?,
            DiffFormat::Json => document(difference, live_flows).write(out)?,
            DiffFormat::Yaml => document(difference, live_flows).write_yaml(out)?,
        }
        Ok(())
    }
}

fn write_text(
    difference: &Difference,
    live_flows: Option<&[LiveFlow]>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    for change in &difference.changes {
        let [sources, destinations] = sides(difference, change);
        let (sign, traffic) = match (&change.before[..], &change.after[..]) {
            ([], after) => ('+', traffic::words(after)),
            (before, []) => ('-', traffic::words(before)),
            (before, after) => {
                ('~', format!("{} -> {}", traffic::words(before), traffic::words(after)))
            }
        };
        let names =
            |ends: Vec<End>| ends.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let family = change.family_name().map(|it| format!(" ({it} only)")).unwrap_or_default();
        let line =
            format!("{sign} {} => {} : {traffic}{family}", names(sources), names(destinations));
        writeln!(out, "{}", style::change(sign, line))?;
    }
    for flow in live_flows.unwrap_or_default() {
        let LiveFlow { source, destination, traffic } = flow;
        writeln!(
            out,
            "{}",
            style::change('-', format!("cut {source} -> {destination} {traffic}"))
        )?;
    }
    let count = |wanted: &str| difference.changes.iter().filter(|it| it.word() == wanted).count();
    if !difference.changes.is_empty() {
        notes::note(format_args!(
            "{} added, {} removed, {} changed",
            count("added"),
            count("removed"),
            count("changed")
        ));
    }
    Ok(())
}

fn sides(difference: &Difference, change: &Change) -> [Vec<End>; 2] {
    difference.both.names([&change.sources, &change.destinations])
}

/// A row for each pair of ends.
fn table(difference: &Difference) -> Table<6> {
    let mut rows = Vec::new();
    for change in &difference.changes {
        let [sources, destinations] = sides(difference, change);
        for source in &sources {
            for destination in destinations.iter().filter(|it| !it.is_same_pod(source)) {
                rows.push([
                    change.word().to_owned(),
                    source.to_string(),
                    destination.to_string(),
                    words_or_dash(&change.before),
                    words_or_dash(&change.after),
                    change.family_name().unwrap_or("any").to_owned(),
                ]);
            }
        }
    }
    rows.sort();
    Table { columns: ["change", "source", "destination", "before", "after", "family"], rows }
}

fn words_or_dash(traffic: &[netpol_core::program::TrafficRange]) -> String {
    if traffic.is_empty() { "-".to_owned() } else { traffic::words(traffic) }
}

fn document(
    difference: &Difference,
    live_flows: Option<Vec<LiveFlow>>,
) -> Document<impl Serialize + use<>> {
    let changes = difference.changes.iter().map(|change| {
        let [sources, destinations] =
            sides(difference, change).map(|ends| ends.iter().map(End::json).collect());
        ChangeJson {
            change: change.word(),
            sources,
            destinations,
            before: traffic::json(&change.before),
            after: traffic::json(&change.after),
            family: change.family_name(),
        }
    });
    let pods = |pods: &[Pod]| {
        let json = |pod: &Pod| PodJson {
            namespace: pod.namespace.to_string(),
            name: pod.name.to_string(),
        };
        pods.iter().map(json).collect()
    };
    let [removed, added] = &difference.pods;
    let document = DiffDocument {
        same: difference.changes.is_empty(),
        changes: changes.collect(),
        added_pods: pods(added),
        removed_pods: pods(removed),
        live_flows,
    };
    Document::new("ConnectionDifference", document)
}
