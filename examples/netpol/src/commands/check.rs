//! `netpol check`: can-i for packets.

use std::io::Write;

use clap::Args;

use super::question::{Answer, QuestionArgs};
use crate::exit::{Exit, Failure};
use crate::notes;

/// Tell whether one end may connect to another
///
/// Prints yes or no. Without a port, yes means that at least one port is open, and tells which. The exit code is 0 for
/// yes, 1 for no, 3 if a part of the input cannot be read.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    question: QuestionArgs,
    /// Print nothing, the exit code tells
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(args: &CheckArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let question = args.question.ask()?;
    let (allowed, ports) = match question.answer()? {
        Answer::Port(explanations) => {
            let allowed: Vec<bool> = explanations.iter().map(|it| it.is_allowed()).collect();
            if allowed.contains(&true) && allowed.contains(&false) {
                for explanation in &explanations {
                    let verdict = if explanation.is_allowed() { "yes" } else { "no" };
                    notes::note(format_args!("{}: {verdict}", explanation.flow));
                }
            }
            (!allowed.contains(&false), None)
        }
        Answer::AnyPort(reach) => (!reach.is_empty(), Some(reach)),
    };
    if !args.quiet {
        match (allowed, ports) {
            (true, Some(reach)) if !reach.is_everything() => writeln!(out, "yes ({reach})")?,
            (true, _) => writeln!(out, "yes")?,
            (false, _) => writeln!(out, "no")?,
        }
    }
    Ok(question.exit(allowed))
}
