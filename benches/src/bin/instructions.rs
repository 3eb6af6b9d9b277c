//! Something to count instructions of: the counts are the same on every run, which times are not.
//!
//! ```text
//! cargo build --release -p netpol-benches --bin instructions
//! valgrind --tool=callgrind --toggle-collect='instructions::measured*' target/release/instructions decide
//! ```
//!
//! `Collected` is for as many repetitions as the program says on its last line.

#![expect(clippy::print_stdout, reason = "a program that says what it did")]

use std::hint::black_box;

use clap::{Parser, ValueEnum};
use netpol_benches::random::Random;
use netpol_benches::world::{self, Size};
use netpol_core::model::{Flow, Options};
use netpol_core::{Cluster, Program, Scope, compile};

/// Does something whose instructions are to be counted.
#[derive(Parser)]
struct Arguments {
    /// What to do.
    work: Work,
}

#[derive(Clone, Copy, ValueEnum)]
enum Work {
    /// 10,000 decisions among 1,000 policies and 10,000 pods.
    Decide,
    /// Compile these.
    Compile,
}

fn main() {
    let size = Size { namespaces: 100, pods: 10_000, policies: 1000, nodes: 100 };
    let objects = world::mixed(size, 1);
    let flows = world::flows(&objects, 10_000, &mut Random::new(7));
    let cluster = Cluster::from_objects(Options::default(), objects);
    match Arguments::parse().work {
        Work::Decide => {
            let program = compile(&cluster, Scope::Cluster);
            let allowed = measured_decide(&program, &flows);
            println!("{} decisions, {allowed} allowed", flows.len());
        }
        Work::Compile => {
            let program = measured_compile(&cluster);
            println!("1 compilation, {} identities", program.identity_count());
        }
    }
}

#[inline(never)]
fn measured_decide(program: &Program, flows: &[Flow]) -> usize {
    flows.iter().filter(|flow| program.decide(black_box(flow)).is_allowed()).count()
}

#[inline(never)]
fn measured_compile(cluster: &Cluster) -> Program {
    compile(black_box(cluster), Scope::Cluster)
}
