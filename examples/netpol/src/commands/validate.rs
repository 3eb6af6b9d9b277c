//! `netpol validate`: what the API server would say.

use std::io::Write;

use clap::Args;
use netpol_core::manifest::{Channel, ReadOptions, Strictness};
use netpol_core::model::name;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::input::{Finding, InputArgs, Severity};
use crate::notes;
use crate::output::{Document, Format};

/// Tell what the API server would reject on create, and why
///
/// The exit code is 0 if everything is accepted, 1 if something is rejected, 3 if something cannot even be read.
#[derive(Args, Debug)]
pub(crate) struct ValidateArgs {
    #[command(flatten)]
    input: InputArgs,
    /// The release channel of the cluster-wide policies' CRDs; without it, what either of them refuses is rejected
    #[arg(long, value_enum)]
    channel: Option<ChannelName>,
    /// Reject unknown fields and kinds as well, which the API server may drop or not know
    #[arg(long)]
    strict: bool,
    /// How to print the result
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    output: Format,
}

/// The release channels of the Network Policy API.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ChannelName {
    Standard,
    Experimental,
}

/// The result as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ValidationResult<'a> {
    valid: bool,
    /// How many objects were accepted.
    accepted: usize,
    errors: Vec<Item<'a>>,
    warnings: Vec<Item<'a>>,
}

/// One error or warning.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    file: &'a str,
    /// Counted from 1.
    document: usize,
    line: Option<u64>,
    object: Option<Object<'a>>,
    path: Option<&'a str>,
    reason: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<'a> {
    api_version: &'a str,
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
}

pub(crate) fn run(args: &ValidateArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let options = ReadOptions {
        namespace: args.input.namespace.as_deref().map(name),
        strictness: Strictness::Strict,
        channel: match args.channel {
            None => Channel::Any,
            Some(ChannelName::Standard) => Channel::Standard,
            Some(ChannelName::Experimental) => Channel::Experimental,
        },
    };
    let input = args.input.read_with(&options).map_err(Failure::input)?;
    let readable = input.findings.iter().all(|finding| !finding.path.is_empty());
    let valid = input.is_complete(args.strict);
    match args.output {
        Format::Text => {
            input.findings.iter().try_for_each(|finding| writeln!(out, "{finding}"))?;
            if valid {
                let objects = notes::count(input.accepted, "object", "objects");
                writeln!(out, "{objects} accepted")?;
            }
        }
        Format::Json => {
            let items = |severity| {
                let findings = input.findings.iter().filter(|it| it.severity == severity);
                findings.map(Item::new).collect()
            };
            let result = ValidationResult {
                valid,
                accepted: input.accepted,
                errors: items(Severity::Error),
                warnings: items(Severity::Warning),
            };
            Document::new("ValidationResult", result).write(out)?;
        }
    }
    if let Some(skipped) = input.skipped_note() {
        notes::note(skipped);
    }
    Ok(match (readable, valid) {
        (false, _) => Exit::BadInput,
        (true, true) => Exit::Success,
        (true, false) => Exit::Negative,
    })
}

impl<'a> Item<'a> {
    fn new(finding: &'a Finding) -> Self {
        let Finding { place, object, path, reason, message, .. } = finding;
        let known = !path.is_empty();
        Self {
            file: &place.file,
            document: place.document,
            line: place.line,
            object: known.then_some(Object {
                api_version: &object.api_version,
                kind: &object.kind,
                namespace: &object.namespace,
                name: &object.name,
            }),
            path: known.then_some(path),
            reason,
            message,
        }
    }
}
