//! `netpol test`: unit tests for policies.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use netpol_core::model::Flow;
use netpol_core::program::Explanation;
use netpol_core::reference;
use netpol_testbed::Outcome;

use crate::exit::{Exit, Failure};
use crate::expectation::{self, Row};
use crate::explanation;
use crate::input::InputArgs;
use crate::live::{Backend, Live, Variant};
use crate::notes;
use crate::peer::Port;
use crate::reading::ReadingArgs;
use crate::rules::Rules;
use crate::world::World;

/// Compare what the policies say with what is expected of them
///
/// A file of expectations is a table of tab-separated values with the columns from, to, protocol, port and expected
/// in its first line. An end is namespace/pod, namespace/deploy/name, namespace/[key=value,...] or an address; the
/// verdict is allow or deny. The exit code is 0 if all is as expected, 1 if not, 3 if something cannot be read.
#[derive(Args, Debug)]
pub(crate) struct TestArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Files of expectations; directories and manifests among them, which the shell made of one -f, count as input
    #[arg(required = true, value_name = "EXPECT.tsv")]
    expect: Vec<PathBuf>,
    /// Leave out the rows that are in this file, too; may be repeated
    #[arg(long, value_name = "ROWS.tsv")]
    skip: Vec<PathBuf>,
    /// What domain names stand for: a table with the columns name and ip
    #[arg(long, value_name = "DNS.tsv")]
    dns: Option<PathBuf>,
    /// What judges the rows
    #[arg(long, value_enum, default_value_t)]
    engine: Engine,
    /// Build the cluster out of network namespaces, put the policies into force, and send packets
    #[arg(long, value_enum, value_name = "BACKEND", conflicts_with = "engine")]
    live: Option<Backend>,
    /// Which iptables
    #[arg(long, value_enum, default_value_t, requires = "live")]
    variant: Variant,
    /// How long silence must last to be a denial
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 500, requires = "live")]
    timeout: u64,
    /// Take what the API server would not accept, or not understand, for an error
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    readings: ReadingArgs,
}

/// What judges rows without packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// The compiled program, as the backends get it
    #[default]
    Program,
    /// The slow evaluator that the program is tested against
    Reference,
    /// The nft rules of every node, worked out in user space
    Nft,
}

/// A row that makes sense.
struct Case {
    row: Row,
    flow: Flow,
    allowed: bool,
}

/// What became of a case.
enum Observed {
    Allowed,
    Denied,
    /// Neither, in words.
    Other(String),
    /// It could not be tried, and why.
    Skipped(String),
}

impl TestArgs {
    /// The manifests and the files of expectations: `-f a.yaml b.yaml expect.tsv` is what `-f *.yaml` becomes.
    fn split(&self) -> (InputArgs, Vec<PathBuf>) {
        let is_manifest = |path: &PathBuf| {
            let extension = path.extension().and_then(|it| it.to_str());
            path.is_dir() || matches!(extension, Some("yaml" | "yml" | "json"))
        };
        let (manifests, expect) = self.expect.iter().cloned().partition(is_manifest);
        let mut input = self.input.clone();
        input.filename.extend::<Vec<PathBuf>>(manifests);
        (input, expect)
    }
}

pub(crate) fn run(args: &TestArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    if args.live.is_some() {
        // Before there is a second thread.
        netpol_testbed::enter().map_err(Failure::unavailable)?;
    }
    let (manifests, expect) = args.split();
    if expect.is_empty() {
        return Err(Failure::usage(anyhow::anyhow!("there is no file of expectations")));
    }
    let mut input = manifests.read().map_err(Failure::input)?;
    notes::tell(&input);
    let mut complete = input.is_complete(args.strict);
    if let Some(path) = &args.dns {
        input.objects.domains = expectation::domains(path).map_err(Failure::input)?;
    }
    let skip = expectation::questions(&args.skip).map_err(Failure::input)?;
    let mut world = World::new(input, args.readings.options(), args.input.default_namespace());

    let (mut passed, mut failed, mut skipped) = (0_usize, 0_usize, 0_usize);
    let mut cases = Vec::new();
    for path in &expect {
        for row in expectation::read(path).map_err(Failure::input)? {
            if skip.contains(&row.question) {
                skipped += 1;
                continue;
            }
            match Case::new(&mut world, &row) {
                Ok(case) => cases.push(case),
                Err(error) => {
                    notes::error(format_args!("{}: {error:#}", row.place));
                    complete = false;
                }
            }
        }
    }

    let program = world.program();
    let observed = match (args.live, args.engine) {
        (Some(backend), _) => probe(&cases, &world, (backend, args.variant), args.timeout())?,
        (None, Engine::Program) => {
            cases.iter().map(|case| program.decide(&case.flow).is_allowed().into()).collect()
        }
        (None, Engine::Reference) => {
            let decide = |flow| reference::decide(world.objects(), &world.options, flow);
            cases.iter().map(|case| decide(&case.flow).is_allowed().into()).collect()
        }
        (None, Engine::Nft) => {
            let rules = Rules::render(&world.cluster(), world.objects());
            let pass = |case: &Case| match rules.pass(&case.flow) {
                Ok(passes) => passes.into(),
                Err(why) => Observed::Skipped(why.to_string()),
            };
            cases.iter().map(pass).collect()
        }
    };
    let mut unsent: BTreeMap<String, usize> = BTreeMap::new();
    for (case, observed) in cases.iter().zip(observed) {
        let word = match observed {
            Observed::Allowed if case.allowed => None,
            Observed::Denied if !case.allowed => None,
            Observed::Allowed => Some("allowed".to_owned()),
            Observed::Denied => Some("denied".to_owned()),
            Observed::Other(what) => Some(what),
            Observed::Skipped(why) => {
                skipped += 1;
                *unsent.entry(why).or_default() += 1;
                continue;
            }
        };
        match word {
            None => passed += 1,
            Some(word) => {
                failed += 1;
                let explanation = program.explain(&case.flow);
                writeln!(out, "{}", case.mismatch(&word, &explanation))?;
            }
        }
    }
    for (why, rows) in unsent {
        notes::note(format_args!("{} not tried: {why}", notes::count(rows, "row", "rows")));
    }
    write!(out, "{passed} passed, {failed} failed")?;
    match skipped {
        0 => writeln!(out)?,
        skipped => writeln!(out, ", {skipped} skipped")?,
    }
    Ok(match (complete, failed) {
        (false, _) => Exit::BadInput,
        (true, 0) => Exit::Success,
        (true, _) => Exit::Negative,
    })
}

/// Tries all cases with packets.
fn probe(
    cases: &[Case],
    world: &World,
    (backend, variant): (Backend, Variant),
    timeout: Duration,
) -> Result<Vec<Observed>, Failure> {
    let live = Live::build(world.objects())?;
    live.enforce(backend, variant, &world.cluster())?;
    let probes: Vec<_> = cases.iter().map(|case| live.probe(&case.flow)).collect();
    let sent: Vec<_> = probes.iter().filter_map(|probe| probe.as_ref().ok().cloned()).collect();
    let mut outcomes = live.run(&sent, timeout).into_iter();
    let observed = probes.into_iter().map(|probe| match probe {
        Err(why) => Observed::Skipped(why.to_string()),
        Ok(_) => match outcomes.next() {
            Some(Outcome::Allowed) => Observed::Allowed,
            Some(Outcome::Denied) => Observed::Denied,
            Some(other) => Observed::Other(other.to_string()),
            None => Observed::Other("without an outcome".to_owned()),
        },
    });
    Ok(observed.collect())
}

impl TestArgs {
    fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout)
    }
}

impl From<bool> for Observed {
    fn from(allowed: bool) -> Self {
        if allowed { Self::Allowed } else { Self::Denied }
    }
}

impl Case {
    fn new(world: &mut World, row: &Row) -> Result<Self> {
        let question = &row.question;
        let allowed = row.allowed()?;
        let from = world.resolve(&question.from.parse()?)?;
        let to = world.resolve(&question.to.parse()?)?;
        let port = Port::new(&question.port, &question.protocol)?;
        let ways = world.ways(&from, &to)?;
        let way = ways.into_iter().next().context("there is no way between the two")?;
        let traffic = to.traffic(&port, &way.destination)?;
        Ok(Self { row: row.clone(), flow: way.flow(traffic), allowed })
    }

    /// `expect.tsv:3: shop/web -> shop/db:5432/tcp is denied, expected allow: ingress denies: ...`; what the program
    /// says is told where that is something else.
    fn mismatch(&self, observed: &str, explanation: &Explanation) -> String {
        let Row { place, question, expected } = &self.row;
        let says = if explanation.is_allowed() { "allowed" } else { "denied" };
        let program =
            if says == observed { String::new() } else { format!("the program says {says}; ") };
        format!(
            "{place}: {} -> {}:{} is {observed}, expected {expected}: {program}{}",
            question.from,
            question.to,
            self.flow.traffic,
            explanation::summary(explanation)
        )
    }
}
