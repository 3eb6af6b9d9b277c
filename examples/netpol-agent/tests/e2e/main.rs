//! Agents on a real API server: three nodes, each with an agent in its network namespace, and pods that are created by
//! way of the API.
//!
//! Arguments pick the checks whose names contain them; `NETPOL_LONG` adds those that take long. Logs of the agents stay
//! in the directory for temporary files if something fails.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test; but without the test harness it does not look like one to the lints"
)]

mod changes;
mod control_plane;
mod corpus;
mod custom;
mod faults;
mod figures;
mod traffic;
mod world;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use crate::world::World;

/// A check by its name; one that cannot run says why.
type Check = (&'static str, fn(&mut World) -> Result<(), String>);

const CHECKS: &[&[Check]] =
    &[corpus::CHECKS, changes::CHECKS, custom::CHECKS, faults::CHECKS, figures::CHECKS];

fn main() -> ExitCode {
    let filters: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if let Err(error) = netpol_testbed::enter() {
        println!("SKIPPED EVERYTHING: {error:#}");
        return ExitCode::SUCCESS;
    }
    let programs = match control_plane::obtain() {
        Ok(programs) => programs,
        Err(reason) => {
            println!("SKIPPED EVERYTHING: {reason}");
            return ExitCode::SUCCESS;
        }
    };
    let begin = Instant::now();
    let mut world = World::build(programs);
    println!("the API server is ready ({} ms)", begin.elapsed().as_millis());
    let begin = Instant::now();
    world.start_agents();
    println!("the agents are ready ({} ms)", begin.elapsed().as_millis());
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, check) in CHECKS.iter().copied().flatten() {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        let start = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| check(&mut world)));
        let millis = start.elapsed().as_millis();
        match result {
            Ok(Ok(())) => {
                passed += 1;
                println!("passed  {name} ({millis} ms)");
            }
            Ok(Err(reason)) => {
                skipped += 1;
                println!("SKIPPED {name}: {reason}");
            }
            Err(_) => {
                failed += 1;
                println!("FAILED  {name} ({millis} ms)");
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed > 0 {
        world.keep_logs();
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
