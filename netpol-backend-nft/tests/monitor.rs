//! Other hands on our tables are noticed, and told from our own.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use netpol_backend_nft::{Change, Error, Interference, Nft, Options, render};
use nix::sched::{CloneFlags, unshare};
use support::{in_namespace, name, nft_load, open, program};

const SOON: Option<Duration> = Some(Duration::from_millis(200));

#[test]
fn interference_is_noticed_with_the_culprit() {
    in_namespace("interference_is_noticed_with_the_culprit", || {
        let mut kernel = open();
        let mut monitor = kernel.monitor().expect("listening");
        for seed in [1, 2, 1] {
            kernel.sync(&program(seed)).expect("written");
        }
        assert_eq!(monitor.wait(SOON).expect("heard"), None, "our own changes");
        if !nft_load("table ip other { set s { type ipv4_addr; }\n}\n") {
            return;
        }
        assert_eq!(monitor.wait(SOON).expect("heard"), None, "other tables");
        for foreign in [
            "add rule ip netpol forward notrack",
            "add element ip netpol ingress { 192.0.2.1 : drop }",
            "delete table ip6 netpol",
        ] {
            nft_load(foreign);
            let heard = monitor.wait(SOON).expect("heard");
            let Some(Interference::By(Some(process))) = heard else { panic!("{heard:?}") };
            assert_eq!(process.name, "nft");
            let report = kernel.sync(&program(1)).expect("repaired");
            assert!(report.interfered);
            assert_eq!(monitor.wait(SOON).expect("heard"), None, "the repair");
        }
    });
}

/// A monitor hears of the namespace that its thread is in, which has to be that of the tables.
#[test]
fn a_monitor_of_another_namespace_is_refused() {
    in_namespace("a_monitor_of_another_namespace_is_refused", || {
        let kernel = open();
        assert!(kernel.monitor().is_ok());
        std::thread::scope(|scope| {
            let elsewhere = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("a fresh namespace");
                kernel.monitor().map(|_| ())
            });
            let refused = elsewhere.join().expect("it ends");
            assert!(matches!(refused, Err(Error::OtherNamespace)), "{refused:?}");
        });
    });
}

/// More than the socket's buffer holds: what is lost is not passed over in silence.
#[test]
fn lost_notifications_are_told() {
    in_namespace("lost_notifications_are_told", || {
        let mut kernel = open();
        kernel.sync(&program(1)).expect("written");
        let mut monitor = kernel.monitor().expect("listening");
        let mut other = open();
        for round in 0..4000 {
            other.sync(&program(round % 2)).expect("written");
        }
        let heard = std::iter::from_fn(|| monitor.wait(Some(Duration::ZERO)).expect("heard"));
        assert!(heard.into_iter().any(|heard| heard == Interference::Lost));
    });
}

/// Two programs with tables of different names leave each other alone.
#[test]
fn instances_live_side_by_side() {
    in_namespace("instances_live_side_by_side", || {
        let options = |table| Options { table: name(table), ..Options::default() };
        let mut kernels = ["one", "two"].map(|it| Nft::open(options(it)).expect("nf_tables"));
        let mut monitors = kernels.each_ref().map(|kernel| kernel.monitor().expect("listening"));
        for round in 0..10 {
            for (index, kernel) in (0..).zip(&mut kernels) {
                let report = kernel.sync(&program(round * 2 + index)).expect("written");
                assert!(!report.interfered);
            }
        }
        for (index, (kernel, table)) in (0..).zip(kernels.iter_mut().zip(["one", "two"])) {
            let expected = render(&program(18 + index), &options(table)).normalised();
            let read = kernel.read().expect("read").expect("present");
            assert_eq!(read.normalised(), expected);
            let unchanged = kernel.sync(&program(18 + index)).expect("compared");
            assert_eq!((unchanged.change, unchanged.interfered), (Change::None, false));
        }
        for monitor in &mut monitors {
            assert_eq!(monitor.wait(SOON).expect("heard"), None);
        }
        let [mut one, mut two] = kernels;
        one.remove().expect("removed");
        assert!(one.read().expect("read").is_none());
        assert!(two.read().expect("read").is_some());
    });
}

/// Nobody else can change a table with an owner; the next owner takes it over as it is.
#[test]
fn owned_tables_are_left_alone() {
    in_namespace("owned_tables_are_left_alone", || {
        let open = || Nft::open(Options { owned: true, ..Options::default() }).expect("nf_tables");
        let mut owner = open();
        match owner.sync(&program(1)) {
            Err(Error::Unsupported { what }) => {
                eprintln!("SKIPPED owned tables: the kernel does not support {what}");
                return;
            }
            synced => _ = synced.expect("written"),
        }
        assert!(matches!(open().sync(&program(2)), Err(Error::NotPermitted)));
        assert!(matches!(open().remove(), Err(Error::NotPermitted)));
        // To read is everybody's right.
        assert_eq!(open().verify(&program(1)).expect("read"), []);
        owner.sync(&program(2)).expect("written");
        drop(owner);

        let mut next = open();
        assert_eq!(next.verify(&program(2)).expect("read"), []);
        let report = next.sync(&program(2)).expect("taken over");
        assert_eq!((report.change, report.steps, report.interfered), (Change::Updated, 1, false));
        assert_eq!(next.sync(&program(2)).expect("compared").change, Change::None);
        assert!(matches!(open().sync(&program(1)), Err(Error::NotPermitted)));
        next.remove().expect("removed");

        // Tables of another kind of owner are made anew.
        let mut shared = Nft::open(Options::default()).expect("nf_tables");
        shared.sync(&program(1)).expect("written");
        open().sync(&program(1)).expect("made anew");
        shared.sync(&program(1)).expect("made anew");
        assert_eq!(shared.verify(&program(1)).expect("read"), []);
    });
}
