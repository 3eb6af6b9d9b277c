//! Programs in the kernel, for both variants, each test in network namespaces of its own.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/edit.rs"]
mod edit;
#[path = "support/kernel.rs"]
mod kernel;

use edit::edit;
use kernel::{in_namespace, iptables, open, run};
use netpol_backend_iptables::{Change, Iptables, Options, Report, render};
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::name;
use netpol_core::program::{Program, Scope};
use netpol_core::testing::{Choices, world};

/// The program of a generated world for its first node; 1 and 2 are large ones that differ.
fn program(seed: u64) -> Program {
    let large = |seed: &u64| render(&small(*seed), &Options::default()).to_string().len() > 4000;
    match seed {
        1 => small((0..).find(large).expect("there are many")),
        2 => small((100..).find(large).expect("there are many")),
        seed => small(seed),
    }
}

fn small(seed: u64) -> Program {
    let (objects, options) = world(&mut Choices::from_seed(seed, 600));
    compile(&Cluster::from_objects(options, objects), Scope::Node(name("node0")))
}

fn unchanged() -> Report {
    Report { change: Change::None, interfered: false, steps: 0, bytes: 0 }
}

fn assert_in_force(kernel: &mut Iptables, program: &Program, context: &str) {
    let read = kernel.read().expect("read").expect("present");
    let wanted = render(program, &Options::default());
    for (family, table) in &wanted.normalised().tables {
        let found = &read.normalised().tables[family];
        for (name, rules) in &table.chains {
            assert_eq!(found.chains.get(name), Some(rules), "{context}: {name}");
        }
        assert_eq!(found, table, "{context}");
    }
}

#[test]
fn sync_is_idempotent_and_removal_complete() {
    in_namespace("sync_is_idempotent_and_removal_complete", |variant| {
        iptables(variant, "-A FORWARD -s 192.0.2.1 -j DROP");
        run("ipset create others hash:ip");
        let before = iptables(variant, "-S");
        let mut kernel = open(variant);
        assert!(kernel.status().expect("read").tables.is_empty());
        let report = kernel.sync(&program(1)).expect("written");
        assert_eq!((report.change, report.interfered), (Change::Created, false));
        assert_eq!(kernel.sync(&program(1)).expect("compared"), unchanged());
        assert_eq!(kernel.status().expect("read").tables.len(), 2);
        assert_in_force(&mut kernel, &program(1), "seed 1");

        // A restart recognises what the previous run left.
        let mut restarted = open(variant);
        assert_eq!(restarted.sync(&program(1)).expect("compared"), unchanged());
        let report = restarted.sync(&program(2)).expect("written");
        assert_eq!((report.change, report.interfered), (Change::Updated, false));
        assert_in_force(&mut restarted, &program(2), "seed 2");

        restarted.remove().expect("removed");
        restarted.remove().expect("nothing to remove");
        assert!(restarted.status().expect("read").tables.is_empty());
        assert_eq!(iptables(variant, "-S"), before);
        assert_eq!(run("ipset list -n"), "others\n");
    });
}

/// Everything that can be rendered is accepted, and reads back as it was meant.
#[test]
fn generated_programs_are_accepted() {
    in_namespace("generated_programs_are_accepted", |variant| {
        let mut kernel = open(variant);
        for seed in 0..60 {
            let program = program(seed);
            kernel.sync(&program).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_in_force(&mut kernel, &program, &format!("seed {seed}"));
        }
    });
}

/// Worlds that change bit by bit: after every change the kernel has what the plan promised, and a
/// restart finds nothing to do.
#[test]
fn deltas_end_where_they_should() {
    in_namespace("deltas_end_where_they_should", |variant| {
        let mut changes = 0;
        for seed in 0..12 {
            let mut choices = Choices::from_seed(seed, 3000);
            let (mut objects, options) = world(&mut choices);
            let (other, _) = world(&mut choices);
            let scope = if seed % 3 == 0 { Scope::Node(name("node0")) } else { Scope::Cluster };
            let mut kernel = open(variant);
            for round in 0..8 {
                let context = format!("seed {seed}, round {round}");
                let cluster = Cluster::from_objects(options, objects.clone());
                let program = compile(&cluster, scope.clone());
                let report = kernel.sync(&program).unwrap_or_else(|error| {
                    panic!("{context}: {error}");
                });
                assert!(!report.interfered, "{context}");
                changes += usize::from(report.change != Change::None);
                assert_in_force(&mut kernel, &program, &context);
                assert_eq!(open(variant).sync(&program).expect("read"), unchanged(), "{context}");
                edit(&mut choices, &mut objects, &other);
            }
        }
        assert!(changes > 10, "{changes} changes");
    });
}
