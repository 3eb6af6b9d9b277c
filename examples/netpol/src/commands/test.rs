//! `netpol test`: unit tests for policies.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use netpol_core::model::{Direction, End, Flow};
use netpol_core::program::{Decision, Program, Verdict};
use netpol_core::reference::{self, Judgement};

use crate::exit::{Exit, Failure};
use crate::expectation::{self, Row};
use crate::input::InputArgs;
use crate::notes;
use crate::peer::Port;
use crate::reading::ReadingArgs;
use crate::world::{World, flow};

/// Compare what the policies say with what is expected of them
///
/// A file of expectations is a table of tab-separated values with the columns from, to, protocol, port and expected
/// in its first line. An end is namespace/pod, namespace/deploy/name, namespace/[key=value,...] or an address; the
/// verdict is allow or deny. The exit code is 0 if all is as expected, 1 if not, 3 if something cannot be read.
#[derive(Args, Debug)]
pub(crate) struct TestArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Files of expectations
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
}

/// A row that makes sense.
struct Case {
    row: Row,
    flow: Flow,
    allowed: bool,
}

/// How many rows came out how.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
}

pub(crate) fn run(args: &TestArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let mut input = args.input.read().map_err(Failure::input)?;
    notes::tell(&input);
    let mut complete = input.is_complete(args.strict);
    if let Some(path) = &args.dns {
        input.objects.domains = expectation::domains(path).map_err(Failure::input)?;
    }
    let skip = expectation::questions(&args.skip).map_err(Failure::input)?;
    let mut world = World::new(input, args.readings.options(), args.input.default_namespace());

    let mut tally = Tally::default();
    let mut cases = Vec::new();
    for path in &args.expect {
        for row in expectation::read(path).map_err(Failure::input)? {
            if skip.contains(&row.question) {
                tally.skipped += 1;
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

    let judge = Judge::new(args.engine, &world);
    for case in &cases {
        let decision = judge.decide(&world, &case.flow);
        if decision.is_allowed() == case.allowed {
            tally.passed += 1;
        } else {
            tally.failed += 1;
            writeln!(out, "{}: {}", case.row.place, case.mismatch(decision))?;
        }
    }
    tally.write(out)?;
    Ok(match (complete, tally.failed) {
        (false, _) => Exit::BadInput,
        (true, 0) => Exit::Success,
        (true, _) => Exit::Negative,
    })
}

impl Case {
    fn new(world: &mut World, row: &Row) -> Result<Self> {
        let question = &row.question;
        let allowed = row.allowed()?;
        let from = world.resolve(&question.from.parse()?)?;
        let to = world.resolve(&question.to.parse()?)?;
        let port = Port::new(&question.port, &question.protocol)?;
        let ways = world.ways(&from, &to)?;
        let (source, destination): (End, End) =
            ways.into_iter().next().context("there is no way between the two")?;
        let traffic = to.traffic(&port, &destination)?;
        Ok(Self { row: row.clone(), flow: flow((source, destination), traffic), allowed })
    }

    /// `shop/web -> shop/db:5432/tcp is denied, expected allow`
    fn mismatch(&self, decision: Decision) -> String {
        let question = &self.row.question;
        let found = if self.allowed { "denied" } else { "allowed" };
        let by: Vec<String> = Direction::ALL
            .into_iter()
            .zip([decision.egress, decision.ingress])
            .filter_map(|(direction, verdict)| match verdict? {
                Verdict::Allow => Some(format!("{direction} allows")),
                Verdict::Deny => Some(format!("{direction} denies")),
            })
            .collect();
        let by = if by.is_empty() { "no policy has a say".to_owned() } else { by.join(", ") };
        format!(
            "{} -> {}:{} is {found}, expected {}: {by}",
            question.from, question.to, self.flow.traffic, self.row.expected
        )
    }
}

/// An engine at work.
enum Judge {
    Program(Program),
    Reference,
}

impl Judge {
    fn new(engine: Engine, world: &World) -> Self {
        match engine {
            Engine::Program => Self::Program(world.program()),
            Engine::Reference => Self::Reference,
        }
    }

    fn decide(&self, world: &World, flow: &Flow) -> Decision {
        match self {
            Self::Program(program) => program.decide(flow),
            Self::Reference => {
                let verdict = reference::decide(world.objects(), &world.options, flow);
                let of = |judgement| match judgement {
                    Judgement::NotJudged => None,
                    Judgement::Allow => Some(Verdict::Allow),
                    Judgement::Deny => Some(Verdict::Deny),
                };
                Decision { egress: of(verdict.egress), ingress: of(verdict.ingress) }
            }
        }
    }
}

impl Tally {
    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let Self { passed, failed, skipped } = self;
        write!(out, "{passed} passed, {failed} failed")?;
        if *skipped > 0 {
            write!(out, ", {skipped} skipped")?;
        }
        writeln!(out)
    }
}
