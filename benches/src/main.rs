//! Measures the figures of the project and prints them as a table in Markdown.

#![expect(clippy::print_stdout, reason = "a program that prints a table")]

use clap::Parser;
use netpol_benches::allocation::Counting;
use netpol_benches::figure::Figure;
use netpol_benches::figures::{Effort, GROUPS};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Measures the figures of the project.
#[derive(Parser)]
struct Arguments {
    /// Fewer repetitions: all figures in under three minutes.
    #[arg(long)]
    quick: bool,
    /// Only the groups whose names begin with this.
    #[arg(long, value_name = "NAME", default_value = "")]
    only: String,
    /// One JSON object per line in place of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<(), serde_json::Error> {
    let arguments = Arguments::parse();
    let effort = if arguments.quick { Effort::Quick } else { Effort::Full };
    if !arguments.json {
        println!("{}", Figure::head());
    }
    for group in GROUPS.iter().filter(|group| group.name.starts_with(&arguments.only)) {
        for figure in (group.measure)(effort) {
            match arguments.json {
                true => println!("{}", serde_json::to_string(&figure)?),
                false => println!("{}", figure.row()),
            }
        }
    }
    Ok(())
}
