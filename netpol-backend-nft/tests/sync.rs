//! Programs in the kernel, each test in a network namespace of its own.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use netpol_backend_nft::{Change, Error, Name, Nft, Options, Report, render};
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::name;
use netpol_core::program::{Program, Scope};
use netpol_core::testing::{Choices, edit, world};
use support::{in_namespace, nft, nft_load, open, program};

fn unchanged() -> Report {
    Report { change: Change::None, interfered: false, steps: 0, bytes: 0 }
}

#[test]
fn sync_is_idempotent_and_removal_complete() {
    in_namespace("sync_is_idempotent_and_removal_complete", || {
        let mut kernel = open();
        assert!(kernel.status().expect("read").tables.is_empty());
        let report = kernel.sync(&program(1)).expect("written");
        assert_eq!((report.change, report.interfered), (Change::Created, false));
        assert_eq!(kernel.sync(&program(1)).expect("compared"), unchanged());
        assert_eq!(kernel.status().expect("read").tables.len(), 2);

        // A restart recognises what the previous run left.
        let mut restarted = open();
        assert_eq!(restarted.sync(&program(1)).expect("compared"), unchanged());
        let report = restarted.sync(&program(2)).expect("written");
        assert_eq!((report.change, report.interfered), (Change::Updated, false));
        assert_in_force(&mut restarted, &program(2), "seed 2");

        restarted.remove().expect("removed");
        restarted.remove().expect("nothing to remove");
        assert!(restarted.status().expect("read").tables.is_empty());
        if let Some(left) = nft(&["list", "ruleset"]) {
            assert_eq!(left, "");
        }
    });
}

fn rendered(program: &Program) -> netpol_backend_nft::ruleset::Ruleset {
    render(program, &Options::default())
}

fn assert_in_force(kernel: &mut Nft, program: &Program, context: &str) {
    let read = kernel.read().expect("read").expect("present");
    assert_eq!(read.normalised(), rendered(program).normalised(), "{context}");
}

/// Worlds that change bit by bit: after every change the kernel has what the plan promised, and a
/// restart finds nothing to do.
#[test]
fn deltas_end_where_they_should() {
    in_namespace("deltas_end_where_they_should", || {
        let (mut steps, mut changes) = (0, 0);
        for seed in 0..60 {
            let mut choices = Choices::from_seed(seed, 3000);
            let (mut objects, options) = world(&mut choices);
            let (other, _) = world(&mut choices);
            let scope = if seed % 3 == 0 { Scope::Node(name("node0")) } else { Scope::Cluster };
            let mut kernel = open();
            for round in 0..8 {
                let context = format!("seed {seed}, round {round}");
                let cluster = Cluster::from_objects(options, objects.clone());
                let program = compile(&cluster, scope.clone());
                let report = kernel.sync(&program).unwrap_or_else(|error| {
                    panic!("{context}: {error}");
                });
                assert!(!report.interfered, "{context}");
                steps += report.steps;
                changes += usize::from(report.change != Change::None);
                assert_in_force(&mut kernel, &program, &context);
                assert_eq!(open().sync(&program).expect("compared"), unchanged(), "{context}");
                edit(&mut choices, &mut objects, &other);
            }
        }
        assert!(changes > 100 && steps > changes, "{steps} steps for {changes} changes");
    });
}

/// Set in the process that is killed.
const WRITER: &str = "NETPOL_TEST_WRITER";

/// Whatever a writer leaves behind that is killed between or within its transactions, the next one
/// recognises and completes.
#[test]
fn killed_at_any_instant() {
    if std::env::var_os(WRITER).is_some() {
        let mut kernel = open();
        for seed in (0..20).cycle() {
            kernel.sync(&program(seed)).expect("written");
        }
    }
    in_namespace("killed_at_any_instant", || {
        let mut unfinished = 0;
        for round in 0..40 {
            let mut writer = Command::new(std::env::current_exe().expect("own path"))
                .args(["--exact", "killed_at_any_instant"])
                .env(WRITER, "1")
                .stdout(Stdio::null())
                .spawn()
                .expect("a process");
            while open().read().expect("read").is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_micros(997 * round % 7001));
            writer.kill().expect("killed");
            writer.wait().expect("ended");
            let left = open().read().expect("read").expect("present").normalised();
            let is_whole = |seed| left == rendered(&program(seed)).normalised();
            unfinished += usize::from(!(0..20).any(is_whole));
            let mut kernel = open();
            let program = program(round);
            kernel.sync(&program).expect("completed");
            assert_in_force(&mut kernel, &program, &format!("round {round}"));
            assert_eq!(kernel.verify(&program).expect("read"), [], "round {round}");
            kernel.remove().expect("removed");
        }
        assert!(unfinished > 0, "no change was ever interrupted");
    });
}

/// Changes by others: to their own tables they do not matter, to ours they are undone and told.
#[test]
fn interference_is_repaired() {
    in_namespace("interference_is_repaired", || {
        let mut kernel = open();
        kernel.sync(&program(1)).expect("written");
        if !nft_load("table ip other { chain c { type filter hook input priority 0; accept\n}\n}\n")
        {
            return;
        }
        assert_eq!(kernel.sync(&program(1)).expect("compared"), unchanged());

        for foreign in [
            "add rule ip netpol forward notrack",
            "flush chain ip netpol denied-in",
            "add element ip netpol ingress { 192.0.2.1 : drop }",
            "add chain ip6 netpol more { type filter hook prerouting priority 0; }",
            "delete table ip6 netpol",
            "delete table ip netpol; delete table ip6 netpol",
        ] {
            nft_load(foreign);
            let report = kernel.sync(&program(1)).expect("repaired");
            assert!(report.interfered && report.change != Change::None, "{foreign}: {report:?}");
            assert_in_force(&mut kernel, &program(1), foreign);
            assert_eq!(kernel.sync(&program(1)).expect("compared"), unchanged());
        }
        let others = nft(&["list", "table", "ip", "other"]).expect("listed");
        assert!(others.contains("accept"), "{others}");
    });
}

/// Everything that can be rendered is accepted, reads back as it was meant, and can be listed.
#[test]
fn generated_programs_are_accepted() {
    in_namespace("generated_programs_are_accepted", || {
        let mut kernel = open();
        for seed in 0..150 {
            let program = program(seed);
            kernel.sync(&program).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_in_force(&mut kernel, &program, &format!("seed {seed}"));
            if seed % 10 == 0 {
                nft(&["list", "ruleset"]);
            }
        }
    });
}

/// The text of a rendered ruleset, loaded by the nft tool, is the same ruleset.
#[test]
fn text_is_what_is_meant() {
    in_namespace("text_is_what_is_meant", || {
        for seed in 0..10 {
            let ruleset = rendered(&program(seed));
            let mut kernel = open();
            kernel.remove().expect("removed");
            if !nft_load(&ruleset.to_string()) {
                return;
            }
            assert_eq!(kernel.read().expect("read"), Some(ruleset), "seed {seed}");
        }
    });
}

/// Two writers at once: every one gets its turn, and the last one's word is complete.
#[test]
fn concurrent_writers_do_not_mix() {
    in_namespace("concurrent_writers_do_not_mix", || {
        let mut kernels: Vec<Nft> = (0..4).map(|_| open()).collect();
        std::thread::scope(|scope| {
            for (seed, kernel) in (1..).zip(&mut kernels) {
                scope.spawn(move || {
                    for _ in 0..20 {
                        match kernel.sync(&program(seed)) {
                            Ok(_) | Err(Error::Contended) => {}
                            Err(error) => panic!("writer {seed}: {error}"),
                        }
                    }
                });
            }
        });
        let left = open().read().expect("read").expect("present");
        let left = left.normalised();
        assert!((1..=4).any(|seed| left == rendered(&program(seed)).normalised()));
    });
}

/// Somebody who commits all the time, to tables of his own: a change may have to be tried again, but
/// ends complete.
#[test]
fn others_commit_all_the_time() {
    in_namespace("others_commit_all_the_time", || {
        let over = AtomicBool::new(false);
        let other = Options { table: Name::new("other").expect("a name"), ..Options::default() };
        let mut other = Nft::open(other).expect("nf_tables");
        let mut kernel = open();
        std::thread::scope(|scope| {
            let others = scope.spawn(|| {
                let mut commits = 0;
                while !over.load(Ordering::Relaxed) {
                    for number in 0..2 {
                        // He is as much in our way as we are in his.
                        commits += usize::from(other.sync(&program(number)).is_ok());
                    }
                }
                commits
            });
            let (mut made, mut given_up) = (0, 0);
            for number in 0..400 {
                match kernel.sync(&program(number % 8)) {
                    Ok(report) => made += usize::from(report.steps > 0),
                    Err(Error::Contended) => given_up += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            over.store(true, Ordering::Relaxed);
            let commits = others.join().expect("it ends");
            assert!(commits > 50 && made > 50, "{commits}, {made} made, {given_up} given up");
        });
        kernel.sync(&program(3)).expect("nobody is left");
        assert_in_force(&mut kernel, &program(3), "afterwards");
        assert_eq!(kernel.verify(&program(3)).expect("read"), []);
    });
}

/// After a clean-up the kernel's rules are what they were, to the last number.
#[test]
fn nothing_is_left_behind() {
    in_namespace("nothing_is_left_behind", || {
        let rules = "table ip other { set s { type ipv4_addr; elements = { 192.0.2.1 }\n}\n\
                     chain c { type filter hook forward priority 0; ip saddr @s counter drop\n}\n}\n";
        if !nft_load(rules) {
            return;
        }
        let list = || nft(&["-j", "list", "ruleset"]).expect("listed");
        let before = list();
        let mut kernel = open();
        for number in 0..20 {
            kernel.sync(&program(number)).expect("written");
        }
        assert_ne!(list(), before);
        kernel.remove().expect("removed");
        assert_eq!(list(), before);
    });
}
