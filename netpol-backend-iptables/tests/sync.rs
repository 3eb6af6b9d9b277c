//! Programs in the kernel, for both variants, each test in network namespaces of its own.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/kernel.rs"]
mod kernel;
mod support;

use kernel::{feed, in_namespace, iptables, open, run};
use netpol_backend_iptables::plan::{Plan, Step, Tool};
use netpol_backend_iptables::ruleset::{Hook, Match, Rule, Ruleset, Target};
use netpol_backend_iptables::{
    Change, Error, Instance, Iptables, Log, Options, Report, Variant, render,
};
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{Family, Objects, name};
use netpol_core::program::{Program, Scope};
use netpol_core::testing::{Choices, edit, flows_of_interest, world};
use support::packet_of;

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

/// So is every option.
#[test]
fn options_are_accepted() {
    in_namespace("options_are_accepted", |variant| {
        for round in 0..8 {
            let log = Log {
                group: 7,
                per_second: (round % 2 == 0).then_some(1 + 37 * round),
                accepted: round % 3 == 0,
            };
            let name = Instance::new("np2").expect("a name");
            let options = Options { name, variant, log: Some(log), audit: round % 4 == 0 };
            let mut kernel = Iptables::open(options.clone()).expect("the tools");
            let program = program(1);
            kernel.sync(&program).unwrap_or_else(|error| panic!("{options:?}: {error}"));
            let read = kernel.read().expect("read").expect("present");
            assert_eq!(read.normalised(), render(&program, &options).normalised(), "{options:?}");
        }
    });
}

/// A run that is killed between any two calls of the tools leaves what allows nothing but what the
/// old or the new program allows, and the next one completes it.
#[test]
fn killed_between_any_two_calls() {
    in_namespace("killed_between_any_two_calls", |variant| {
        let mut interrupted = 0;
        for seed in 0..20 {
            let mut choices = Choices::from_seed(seed, 3000);
            let (mut objects, options) = world(&mut choices);
            let (other, _) = world(&mut choices);
            let mut flows = flows_of_interest(&objects);
            // Rules tell whose own node an address is in the scope of one only (NP-NODE-1, CH-NODE-EGRESS).
            let program = |objects: &Objects| {
                let cluster = Cluster::from_objects(options, objects.clone());
                compile(&cluster, Scope::Node(name("node0")))
            };
            let first = program(&objects);
            for _ in 0..4 {
                edit(&mut choices, &mut objects, &other);
            }
            let second = program(&objects);
            flows.extend(flows_of_interest(&objects));
            let packets: Vec<_> =
                flows.iter().step_by(flows.len() / 500 + 1).filter_map(packet_of).collect();
            for calls in 0.. {
                open(variant).sync(&first).expect("written");
                let old = open(variant).read().expect("read").expect("present");
                let plan = Plan::new(&old, render(&second, &Options::default()));
                if calls >= plan.steps().len() {
                    break;
                }
                for step in plan.steps().iter().take(calls) {
                    call(variant, step, plan.target());
                }
                let left = open(variant).read().expect("read").expect("present");
                for packet in &packets {
                    let [left, old, new] = [&left, &old, plan.target()]
                        .map(|it| it.passes(Hook::Forward, packet).expect("ours"));
                    assert!(left == old || left == new, "seed {seed}, {calls} calls: {packet:?}");
                }
                let mut next = open(variant);
                next.sync(&second).expect("completed");
                assert_in_force(&mut next, &second, &format!("seed {seed}, {calls} calls"));
                assert_eq!(next.verify(&second).expect("read"), []);
                interrupted += 1;
            }
        }
        assert!(interrupted > 5, "{interrupted}");
    });
}

/// Makes one call, as the backend does.
fn call(variant: Variant, step: &Step, ruleset: &Ruleset) {
    let script = step.script(ruleset);
    let command = match step.tool() {
        Tool::Sets => "ipset restore -!".to_owned(),
        Tool::Rules(Family::V4) => format!("iptables-{variant}-restore -w 5 --noflush"),
        Tool::Rules(Family::V6) => format!("ip6tables-{variant}-restore -w 5 --noflush"),
    };
    feed(&command, &script);
}

/// What others change is noticed, repaired and told; what is theirs is left alone.
#[test]
fn interference_is_repaired() {
    in_namespace("interference_is_repaired", |variant| {
        let program = program(1);
        let mut kernel = open(variant);
        kernel.sync(&program).expect("written");
        iptables(variant, "-N others");
        iptables(variant, "-A FORWARD -j others");
        assert_eq!(kernel.sync(&program).expect("compared"), unchanged());
        for (tool, arguments) in [
            ("iptables", "-F"),
            ("iptables", "-F netpol-drop-in"),
            ("iptables", "-D INPUT -j netpol-input"),
            ("iptables", "-I OUTPUT -d 192.0.2.1 -j ACCEPT"),
            ("iptables", "-I FORWARD -j netpol-forward"),
            ("iptables", "-A netpol-stray -j ACCEPT"),
            ("ip6tables", "-N netpol-more"),
            ("ip6tables", "-F netpol-forward"),
        ] {
            run(&format!("{tool}-{variant} -w 5 {arguments}"));
            let report = kernel.sync(&program).expect("repaired");
            assert!(report.interfered, "{tool} {arguments}: {report:?}");
            assert_in_force(&mut kernel, &program, arguments);
            assert_eq!(kernel.verify(&program).expect("read"), [], "{arguments}");
            assert_eq!(kernel.sync(&program).expect("compared"), unchanged(), "{arguments}");
        }
        let sets = run("ipset list -n");
        let flushed =
            sets.lines().filter(|it| it.starts_with("netpol")).map(|it| format!("flush {it}"));
        for change in flushed.chain(["create netpol-more bitmap:port range 1-9".to_owned()]) {
            feed("ipset restore", &format!("{change}\n"));
            let report = kernel.sync(&program).expect("repaired");
            assert!(report.interfered, "{change}: {report:?}");
            assert_in_force(&mut kernel, &program, &change);
        }
        // Between two changes it is noticed because the tools complain.
        run(&format!("iptables-{variant} -w 5 -F"));
        run(&format!("iptables-{variant} -w 5 -X"));
        kernel.sync(&small(2)).expect("repaired");
        kernel.sync(&small(2)).expect("repaired");
        assert_in_force(&mut kernel, &small(2), "all chains were gone");
    });
}

/// A host that goes from one variant to the other is not policed by both.
#[test]
fn the_other_variant_is_cleared() {
    in_namespace("the_other_variant_is_cleared", |variant| {
        let other = if variant == Variant::Nft { Variant::Legacy } else { Variant::Nft };
        if open(other).sync(&program(1)).is_err() {
            return;
        }
        open(variant).sync(&program(2)).expect("written");
        assert_in_force(&mut open(variant), &program(2), "this variant");
        let left = iptables(other, "-S");
        assert!(!left.contains("netpol"), "{left}");
    });
}

/// What is missing is said in words that help.
#[test]
fn refusals_name_the_line() {
    in_namespace("refusals_name_the_line", |variant| {
        let mut kernel = open(variant);
        let mut ruleset = render(&program(1), &Options::default());
        let table = ruleset.tables.get_mut(&Family::V4).expect("there");
        let stray = table.chains.iter_mut().find(|(name, _)| name.as_str() == "netpol-stray");
        let (_, rules) = stray.expect("there");
        rules.push(Rule::new([Match::IcmpType(1)], Target::Drop));
        let error = kernel.apply(ruleset).expect_err("no such match");
        let text = error.to_string();
        assert!(matches!(&error, Error::Refused { line: Some(_), .. }), "{error:?}");
        assert!(text.contains("-A netpol-stray -m icmp6 --icmpv6-type 1 -j DROP"), "{text}");
        kernel.sync(&program(1)).expect("written");
        assert_in_force(&mut kernel, &program(1), "after a failure");
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
