//! Rendered rules say what the program says: both are asked about every connection that the
//! objects of generated worlds can tell apart. The nft backend's rendering, which shares nothing
//! with this one, says the same: each backend checks the other, in every hook and also for packets
//! from the middle of a connection.
//!
//! `NETPOL_WORLDS` sets how many worlds are gone through (300 by default, of more of them fewer flows
//! each), `NETPOL_SEED` where they begin.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and tells its figures"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;

use netpol_backend_iptables::ruleset::{Hook, Packet, Ruleset, Standing};
use netpol_backend_iptables::{Options, render};
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{Family, Flow};
use netpol_core::program::Program;
use netpol_core::testing::{Choices, flows_of_interest, world};
use support::{packet_of, scopes};

/// How many worlds there are by default.
const WORLDS: u64 = 300;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// The seeds of the worlds.
fn seeds() -> Range<u64> {
    let first = number("NETPOL_SEED", 0);
    first..first + number("NETPOL_WORLDS", WORLDS)
}

/// How many flows have been checked, by family.
type Checked = BTreeMap<Family, u64>;

fn check(program: &Program, flows: &[Flow], context: &str, checked: &mut Checked) {
    let ruleset = render(program, &Options::default());
    let nft = netpol_backend_nft::render(program, &netpol_backend_nft::Options::default());
    let ordinary: BTreeSet<IpAddr> = program
        .endpoints()
        .filter(|it| !it.is_host())
        .flat_map(|it| it.addresses().iter().copied())
        .collect();
    for flow in flows {
        let Some(packet) = packet_of(flow) else { continue };
        let decision = program.decide(flow);
        let passes = ruleset.passes(Hook::Forward, &packet).expect("nothing foreign");
        assert_eq!(passes, decision.is_allowed(), "{context}: {flow}: {decision:?}\n{ruleset}");
        // Packets for or from ordinary endpoints are forwarded.
        let to = !ordinary.contains(&packet.destination);
        let from = !ordinary.contains(&packet.source);
        for hook in [Some(Hook::Forward), to.then_some(Hook::Input), from.then_some(Hook::Output)] {
            let Some(hook) = hook else { continue };
            let [ours, theirs] =
                [ruleset.passes(hook, &packet).ok(), nft.passes(hook, &packet).ok()];
            assert_eq!(ours, theirs, "{context}: {flow} in {hook:?}\n{ruleset}\n{nft}");
            let stray = Packet { standing: Standing::Stray, ..packet };
            let [ours, theirs] = [ruleset.passes(hook, &stray).ok(), nft.passes(hook, &stray).ok()];
            assert_eq!(ours, theirs, "{context}: in {flow}, {hook:?}\n{ruleset}\n{nft}");
        }
        *checked.entry(Family::of(packet.source)).or_default() += 1;
    }
}

#[test]
fn rendered_rules_decide_as_the_program_does() {
    let seeds = seeds();
    let worlds = seeds.end - seeds.start;
    let most = if worlds > WORLDS { 400 } else { 4000 };
    let (mut checked, mut programs) = (Checked::new(), 0);
    for seed in seeds {
        let mut choices = Choices::from_seed(seed, 700);
        let (objects, options) = world(&mut choices);
        let mut flows = flows_of_interest(&objects);
        // Every n-th of the many, so that all kinds are among them.
        let step = flows.len().div_ceil(most).max(1);
        flows = flows.into_iter().skip(choices.pick(step)).step_by(step).collect();
        let scopes = scopes(&objects);
        let cluster = Cluster::from_objects(options, objects);
        for scope in scopes {
            let context = format!("seed {seed}, {scope:?}, {options:?}");
            check(&compile(&cluster, scope), &flows, &context, &mut checked);
            programs += 1;
        }
    }
    eprintln!("{checked:?} flows in {programs} programs of {worlds} worlds");
    let enough = |family| checked.get(family).is_some_and(|count| *count > 50 * worlds);
    assert!(Family::ALL.iter().all(enough), "{checked:?}");
}

/// What is printed for the tools reads back as what was meant.
#[test]
fn text_reads_back() {
    for seed in seeds() {
        let (objects, options) = world(&mut Choices::from_seed(seed, 600));
        for scope in scopes(&objects) {
            let cluster = Cluster::from_objects(options, objects.clone());
            let ruleset = render(&compile(&cluster, scope), &Options::default());
            let mut read = Ruleset { name: ruleset.name.clone(), tables: Default::default() };
            for (family, table) in &ruleset.tables {
                let tables = [(*family, table.clone())].into();
                let text = Ruleset { name: ruleset.name.clone(), tables }.to_string();
                let (sets, rules) = text.split_once("*filter").expect("both");
                let sets = sets.lines().filter(|it| !it.starts_with('#')).collect::<Vec<_>>();
                // As they are printed: the jump is in its place.
                let rules = rules.replace("-I FORWARD 1", "-A FORWARD");
                let rules = rules.replace("-I INPUT 1", "-A INPUT");
                let rules = rules.replace("-I OUTPUT 1", "-A OUTPUT");
                read.read_rules(*family, &format!("*filter{rules}")).expect("rules");
                let mut of_family =
                    Ruleset { name: ruleset.name.clone(), tables: Default::default() };
                of_family.read_sets(&sets.join("\n")).expect("sets");
                if let Some(table) = of_family.tables.remove(family) {
                    read.tables.get_mut(family).expect("there").sets = table.sets;
                }
            }
            assert_eq!(read, ruleset, "seed {seed}");
        }
    }
}
