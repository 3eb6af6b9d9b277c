//! What it costs to follow one pod that joins and leaves a selector, by how many pods it selects.
//! Medians; in a network namespace of its own.
//!
//!     cargo bench -p netpol-backend-nft --bench delta
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints its figures, and has nothing to do if it cannot"
)]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use netpol_backend_nft::plan::Plan;
use netpol_backend_nft::{Nft, Options, render};
use netpol_core::model::{
    Action, Endpoint, Labels, NamespaceScope, Options as Readings, Peer, Peers, PodSelector,
    Policy, PolicyKey, PolicyKind, Ports, Requirement, Rule, Selector, Subject, Tier, name,
};
use netpol_core::{Cluster, Program, Scope, compile};
use nix::sched::{CloneFlags, unshare};

fn main() {
    unshare(CloneFlags::CLONE_NEWNET)
        .or_else(|_| unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET))
        .expect("a network namespace");
    println!("  peers    all, ms   render, ms   plan, ms   sync, ms   commits, us   bytes");
    for peers in [1_000, 10_000, 100_000] {
        let few = program(peers);
        let many = program(peers + 1);
        let mut kernel = Nft::open(Options::default()).expect("nf_tables");
        kernel.remove().expect("removed");
        let all = timed(|| kernel.sync(&few).expect("written"));
        let rounds = if peers < 100_000 { 41 } else { 11 };
        let rendering = median(rounds, || timed(|| render(&few, &Options::default())));
        let old = render(&few, &Options::default());
        let planning = median(rounds, || {
            let new = render(&many, &Options::default());
            timed(|| Plan::new(Some(&old), new))
        });
        let mut bytes = 0;
        let mut turn = 0;
        let syncing = median(rounds, || {
            turn += 1;
            let next = if turn % 2 == 1 { &many } else { &few };
            timed(|| bytes = kernel.sync(next).expect("written").bytes)
        });
        // What is left is the kernel's.
        let commits = syncing.saturating_sub(rendering + planning);
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "{peers:>7} {:>10.2} {:>12.3} {:>10.3} {:>10.3} {:>13.0} {bytes:>7}",
            ms(all),
            ms(rendering),
            ms(planning),
            ms(syncing),
            commits.as_secs_f64() * 1e6,
        );
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    let result = work();
    let elapsed = start.elapsed();
    drop(result);
    elapsed
}

fn median(rounds: usize, work: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = std::iter::repeat_with(work).take(rounds).collect();
    times.sort_unstable();
    times[rounds / 2]
}

/// One isolated pod, and so many elsewhere that may reach it.
fn program(peers: u32) -> Program {
    let mut cluster = Cluster::new(Readings::default());
    let mut upsert = |pod: &str, app: &str, node: &str, number: u32| {
        let mut endpoint = Endpoint::new("x", pod);
        endpoint.labels = Labels::default().with("app", app);
        endpoint.node = Some(name(node));
        endpoint.addresses = [IpAddr::V4((0x0a00_0000 + number).into())].into_iter().collect();
        cluster.upsert_endpoint(endpoint);
    };
    upsert("db", "db", "here", 1);
    (0..peers).for_each(|number| upsert(&format!("api-{number}"), "api", "there", 256 + number));
    let rule = Rule {
        name: None,
        action: Action::Accept,
        peers: Peers::AnyOf(vec![Peer::Pods(app("api"))]),
        ports: Ports::All,
    };
    let key = PolicyKey { kind: PolicyKind::NetworkPolicy, namespace: name("x"), name: name("db") };
    cluster.upsert_policy(Policy {
        key,
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: Subject::Pods(app("db")),
        ingress: Some(vec![rule]),
        egress: None,
    });
    compile(&cluster, Scope::Node(name("here")))
}

fn app(app: &str) -> PodSelector {
    let pods = Selector::new([Requirement::is_in("app", [app])]);
    PodSelector { namespaces: NamespaceScope::Named(name("x")), pods }
}
