//! Enforces the network policies of a Kubernetes cluster on the node that it runs on.
//!
//! ```text
//! API server --watch--> object (trimmed) --mirror--> cluster --agent--> Enforcer --> kernel
//!                                           |          ^                   |
//!                        disk <--last_known-+          +-- unprogrammed    +--> policies (since when), report
//! ```
//!
//! Everything is done on one thread, but for what only waits: for others' changes in the kernel, for denied packets, and
//! for those who read the metrics.
#![forbid(unsafe_code)]

mod agent;
mod args;
mod interfaces;
mod kind;
mod last_known;
mod mirror;
mod object;
mod policies;
mod report;
mod run;
mod unprogrammed;
mod watch;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use tracing::error;
use tracing_subscriber::EnvFilter;

use crate::args::{Args, LogFormat};

fn main() -> ExitCode {
    let args = Args::parse();
    let log = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(EnvFilter::new(&args.log));
    match args.log_format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => log.with_target(false).init(),
    }
    match run::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
