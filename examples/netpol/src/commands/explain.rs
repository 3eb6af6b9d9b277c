//! `netpol explain`: the same as `check`, with the reason.

use std::io::Write;

use clap::Args;
use serde::Serialize;

use super::question::{Answer, QuestionArgs};
use crate::exit::{Exit, Failure};
use crate::explanation::{self, ExplanationJson};
use crate::output::{Document, Format};

/// Tell why one end may connect to another, or not
///
/// Shows for either end which policies were asked, what they answered, which rules nearly matched, and what would
/// have to change. Needs a port. The exit codes are those of `check`.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    question: QuestionArgs,
    /// How to print the result
    #[arg(short = 'o', long = "output", value_enum, default_value_t)]
    output: Format,
}

/// The result as JSON.
#[derive(Serialize)]
struct ExplanationDocument {
    source: String,
    destination: String,
    allowed: bool,
    /// One for each address family that both ends have.
    flows: Vec<ExplanationJson>,
}

pub(crate) fn run(args: &ExplainArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let question = args.question.ask()?;
    let Answer::Port(explanations) = question.answer()? else {
        return Err(Failure::usage(anyhow::anyhow!(
            "there is no port to explain: write the destination as {}:80/tcp",
            question.destination()
        )));
    };
    let allowed = explanations.iter().all(|it| it.is_allowed());
    let (source, destination) = (question.source(), question.destination());
    match args.output {
        Format::Json => {
            let flows = explanations.iter().map(ExplanationJson::new).collect();
            let document = ExplanationDocument { source, destination, allowed, flows };
            Document::new("Explanation", document).write(out)?;
        }
        Format::Text => {
            let alike = explanations
                .windows(2)
                .all(|pair| pair[0].egress == pair[1].egress && pair[0].ingress == pair[1].ingress);
            let shown = if alike { &explanations[..1] } else { &explanations[..] };
            for explanation in shown {
                let flow = &explanation.flow;
                let remark = match alike {
                    true => String::new(),
                    false => format!("  ({} -> {})", flow.source, flow.destination),
                };
                explanation::write_headed(explanation, &source, &destination, &remark, out)?;
            }
        }
    }
    Ok(question.exit(allowed))
}
