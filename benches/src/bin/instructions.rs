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
use netpol_benches::world::{self, Change, Event, Size};
use netpol_core::compile::Compiler;
use netpol_core::model::{Flow, Options, name};
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
    /// Compile 2,500 small namespaces: 10,000 pods, 7,500 policies.
    Antrea,
    /// Follow 100 pods that come and go.
    Pods,
    /// Follow 100 pods that come to the node in scope and go.
    LocalPods,
}

fn main() {
    let size = Size { namespaces: 100, pods: 10_000, policies: 1000, nodes: 100 };
    let objects = world::mixed(size, 1);
    let flows = world::flows(&objects, 10_000, &mut Random::new(7));
    let changes = world::changes(&objects, 100, &mut Random::new(11));
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
        Work::Antrea => {
            let objects = world::small_namespaces(2500);
            let program = measured_compile(&Cluster::from_objects(Options::default(), objects));
            println!("1 compilation, {} identities", program.identity_count());
        }
        Work::Pods => follow(cluster, Scope::Cluster, changes, "pod-added"),
        Work::LocalPods => follow(cluster, Scope::Node(name("node-0")), changes, "local-pod-added"),
    }
}

fn follow(mut cluster: Cluster, scope: Scope, changes: Vec<Change>, kind: &str) {
    let mut compiler = Compiler::new(*cluster.options(), scope);
    let everything = cluster.take_changes();
    compiler.update(&cluster, &everything);
    let pods = changes.into_iter().filter(|it| it.there.0 == kind);
    let events: Vec<Event> = pods.flat_map(|it| [it.there.1, it.back.1]).collect();
    let count = events.len();
    let program = measured_events(&mut cluster, &mut compiler, events);
    println!("{count} events, {} identities", program.identity_count());
}

#[inline(never)]
fn measured_decide(program: &Program, flows: &[Flow]) -> usize {
    flows.iter().filter(|flow| program.decide(black_box(flow)).is_allowed()).count()
}

#[inline(never)]
fn measured_compile(cluster: &Cluster) -> Program {
    compile(black_box(cluster), Scope::Cluster)
}

/// Somebody holds the program before, so that nothing is changed in place.
#[inline(never)]
fn measured_events(cluster: &mut Cluster, compiler: &mut Compiler, events: Vec<Event>) -> Program {
    let mut held = compiler.program().clone();
    for event in events {
        event.apply(cluster);
        let changes = cluster.take_changes();
        held = compiler.update(cluster, &changes).clone();
    }
    held
}
