//! `netpol lint`: what policies say that their authors hardly meant.

use std::collections::BTreeSet;
use std::io::Write;
use std::str::FromStr;

use anyhow::Error;
use clap::{Args, ValueEnum};
use netpol_core::model::PolicyKey;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::input::{Input, InputArgs};
use crate::lint::{self, Finding, Lint, Severity};
use crate::notes;
use crate::output::{Document, Table};
use crate::reading::ReadingArgs;
use crate::style;
use crate::world::World;

/// Find what policies say that their authors hardly meant
///
/// Codes stay what they are from release to release; `--explain NP004` tells about one, and `--explain all` about all
/// of them. That policies and rules are redundant is proved, not guessed. Informative findings are shown with -v.
///
/// The exit code is 0 if there is nothing as bad as --fail-on, 1 if there is, 3 if a part of the input cannot be read.
#[derive(Args, Debug)]
pub(crate) struct LintArgs {
    #[command(flatten)]
    input: Option<InputArgs>,
    /// Take a finding for an error: a code, or all `warnings`; may be repeated
    #[arg(long, value_name = "CODE|warnings")]
    deny: Vec<Which>,
    /// Do not look for this; may be repeated
    #[arg(long, value_name = "CODE")]
    allow: Vec<Lint>,
    /// How bad a finding must be for exit code 1
    #[arg(long, value_enum, default_value_t = Severity::Error)]
    fail_on: Severity,
    /// Tell what a code means, and what to do; `all` for every one of them, as Markdown
    #[arg(long, value_name = "CODE|all", conflicts_with = "filename")]
    explain: Option<Explained>,
    /// Show informative findings, too
    #[arg(short, long)]
    verbose: bool,
    /// How to print the result
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    output: LintFormat,
    /// No line with the names of columns
    #[arg(long)]
    no_headers: bool,
    /// Take what the API server would not accept, or not understand, for an error
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    readings: ReadingArgs,
}

/// Which findings are denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Warnings,
    One(Lint),
}

/// What is to be explained.
#[derive(Clone, Copy, Debug)]
enum Explained {
    All,
    One(Lint),
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum LintFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
    /// For programs
    Yaml,
    /// For spreadsheets
    Csv,
    /// A table for Markdown
    Md,
}

#[derive(Serialize)]
struct LintDocument {
    findings: Vec<FindingJson>,
}

#[derive(Serialize)]
struct FindingJson {
    code: Lint,
    severity: Severity,
    object: ObjectJson,
    /// The field; missing for the whole object.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    message: String,
    file: Option<String>,
    line: Option<u64>,
}

#[derive(Serialize)]
struct ObjectJson {
    kind: &'static str,
    namespace: String,
    name: String,
}

/// A finding with its severity here, and where the policy is written.
struct Told<'a> {
    finding: &'a Finding,
    severity: Severity,
    place: Option<crate::input::Place>,
}

impl FromStr for Which {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "warnings" { Ok(Self::Warnings) } else { text.parse().map(Self::One) }
    }
}

impl FromStr for Explained {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "all" { Ok(Self::All) } else { text.parse().map(Self::One) }
    }
}

pub(crate) fn run(args: &LintArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let input = match (&args.explain, &args.input) {
        (Some(Explained::All), _) => {
            write!(out, "{}", lint::markdown())?;
            return Ok(Exit::Success);
        }
        (Some(Explained::One(one)), _) => {
            write!(out, "{}", one.entry())?;
            return Ok(Exit::Success);
        }
        (None, Some(input)) => input,
        (None, None) => {
            return Err(Failure::usage(anyhow::anyhow!("there are no manifests: use -f")));
        }
    };
    let namespace = input.default_namespace();
    let mut input = input.read_as_written().map_err(Failure::input)?;
    notes::tell(&input);
    let complete = input.is_complete(args.strict);
    let written = std::mem::take(&mut input.written).unwrap_or_default();
    let Input { objects, workloads, .. } = input;
    let input = Input { objects, workloads, ..Input::default() };
    let world = World::new(input, args.readings.options(), namespace);
    let program = world.program();
    let mut findings =
        lint::findings(world.objects(), &program, |key: &PolicyKey| written.get(key));
    findings.retain(|it| !args.allow.contains(&it.lint));

    let told = findings.iter().map(|finding| Told {
        finding,
        severity: args.severity(finding.lint),
        place: written.get(&finding.object).map(|it| it.place_of(&finding.path)),
    });
    let told: Vec<Told<'_>> = told.collect();
    args.write(&told, out)?;
    let failed = told.iter().any(|it| it.severity >= args.fail_on);
    Ok(match (complete, failed) {
        (false, _) => Exit::BadInput,
        (true, true) => Exit::Negative,
        (true, false) => Exit::Success,
    })
}

impl LintArgs {
    fn severity(&self, lint: Lint) -> Severity {
        let own = lint.entry().severity;
        let denied = self.deny.iter().any(|which| match which {
            Which::Warnings => own >= Severity::Warning,
            Which::One(one) => *one == lint,
        });
        if denied { Severity::Error } else { own }
    }

    fn write(&self, told: &[Told<'_>], out: &mut impl Write) -> Result<(), Failure> {
        match self.output {
            LintFormat::Text => self.write_text(told, out)?,
            LintFormat::Json => document(told).write(out)?,
            LintFormat::Yaml => document(told).write_yaml(out)?,
            LintFormat::Csv => table(told).write_csv(!self.no_headers, out)?,
            LintFormat::Md => table(told).write_markdown(out)?,
        }
        Ok(())
    }

    fn write_text(&self, told: &[Told<'_>], out: &mut impl Write) -> Result<(), Failure> {
        let least = if self.verbose { Severity::Info } else { self.fail_on.min(Severity::Warning) };
        for it in told.iter().filter(|it| it.severity >= least) {
            if let Some(place) = &it.place {
                write!(out, "{place}: ")?;
            }
            let severity = style::severity(it.severity, it.severity);
            let Finding { object, lint, path, message } = it.finding;
            let path = if path.is_empty() { String::new() } else { format!("{path}: ") };
            writeln!(out, "{severity} {lint}: {object}: {path}{message}")?;
        }
        let count = |severity| told.iter().filter(|it| it.severity == severity).count();
        let hidden = count(Severity::Info);
        if least > Severity::Info && hidden > 0 {
            let findings = notes::count(hidden, "informative finding", "informative findings");
            notes::note(format_args!("{findings} more with -v"));
        }
        let shown: BTreeSet<Lint> =
            told.iter().filter(|it| it.severity >= least).map(|it| it.finding.lint).collect();
        if let Some(first) = shown.first() {
            notes::note(format_args!(
                "{}, {}; `netpol lint --explain {first}` tells more",
                notes::count(count(Severity::Error), "error", "errors"),
                notes::count(count(Severity::Warning), "warning", "warnings"),
            ));
        }
        Ok(())
    }
}

fn document(told: &[Told<'_>]) -> Document<impl Serialize + use<>> {
    let findings = told.iter().map(|it| FindingJson {
        code: it.finding.lint,
        severity: it.severity,
        object: ObjectJson {
            kind: it.finding.object.kind.as_str(),
            namespace: it.finding.object.namespace.to_string(),
            name: it.finding.object.name.to_string(),
        },
        path: Some(it.finding.path.clone()).filter(|it| !it.is_empty()),
        message: it.finding.message.clone(),
        file: it.place.as_ref().map(|it| it.file.to_string()),
        line: it.place.as_ref().and_then(|it| it.line),
    });
    Document::new("LintResult", LintDocument { findings: findings.collect() })
}

fn table(told: &[Told<'_>]) -> Table<5> {
    let rows = told.iter().map(|it| {
        let Finding { object, lint, path, message } = it.finding;
        [
            it.severity.to_string(),
            lint.to_string(),
            object.to_string(),
            path.clone(),
            message.clone(),
        ]
    });
    Table { columns: ["severity", "code", "object", "path", "message"], rows: rows.collect() }
}
