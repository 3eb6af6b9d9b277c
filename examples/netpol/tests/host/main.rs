//! Policies in force on one host: every command, with real packets, in network namespaces.
//!
//! `NETPOL_LONG=1` takes more edits, and measures how long a change of a file takes at 1,000 policies. Arguments choose
//! checks by a part of their name.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test; but without the test harness it does not look like one to the lints"
)]

mod commands;
mod daemon;
mod doctor;
mod edits;
mod latency;
mod scene;
#[path = "../support/mod.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

const CHECKS: &[(&str, fn())] = &[
    ("commands: exit codes from nothing to flushed", commands::from_nothing_to_flushed),
    ("commands: an audit denies nothing", commands::an_audit_denies_nothing),
    ("commands: endpoints by interface", commands::endpoints_by_interface),
    ("commands: routes are followed", commands::routes_are_followed),
    ("commands: the kernel refuses", commands::the_kernel_refuses),
    ("commands: without privileges", commands::without_privileges),
    ("commands: with iptables", commands::with_iptables),
    ("doctor: says what is wrong", doctor::says_what_is_wrong),
    ("doctor: bridges", doctor::looks_at_bridges),
    ("run: files are followed, broken ones change nothing", daemon::files_are_followed),
    ("run: half a file is no file", daemon::half_a_file_is_no_file),
    ("run: drift is repaired, with the culprit", daemon::drift_is_repaired),
    ("run: what fails is tried again", daemon::what_fails_is_tried_again),
    ("run: what ends it leaves the policies in force", daemon::ends),
    ("run: forbidden connections are cut", daemon::connections_are_cut),
    ("run: records name the policies", daemon::records_name_the_policies),
    ("run: metrics and health", daemon::metrics_and_health),
    ("run: the service manager hears of it", daemon::the_service_manager_hears),
    ("run: closed until the input can be read", daemon::closed_until_readable),
    ("run: with iptables", daemon::with_iptables),
    ("run: random edits under probes", edits::under_probes),
    ("run: latency at 1,000 policies", latency::of_a_file_change),
];

fn main() -> ExitCode {
    if let Err(error) = netpol_testbed::enter() {
        println!("SKIPPED EVERYTHING: {error:#}");
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let mut failed = 0;
    for (name, check) in CHECKS {
        if !wanted.is_empty() && !wanted.iter().any(|it| name.contains(&**it)) {
            continue;
        }
        let begin = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(check)).is_ok();
        let word = if passed { "passed" } else { "FAILED" };
        println!("{word}  {name} ({} ms)", begin.elapsed().as_millis());
        failed += usize::from(!passed);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
