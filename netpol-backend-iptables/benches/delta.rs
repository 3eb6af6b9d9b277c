//! What it costs to follow one pod that joins and leaves a selector, by how many pods it selects,
//! and one policy that comes and goes beside many; by both variants. Medians; in a network namespace
//! of its own.
//!
//!     cargo bench -p netpol-backend-iptables --bench delta
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints its figures, and has nothing to do if it cannot"
)]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use netpol_backend_iptables::plan::Plan;
use netpol_backend_iptables::{Iptables, Options, Variant, render};
use netpol_core::compile::Compiler;
use netpol_core::model::{
    Action, Endpoint, Labels, NamespaceScope, Options as Readings, Peer, Peers, PodSelector,
    Policy, PolicyKey, PolicyKind, PortMatch, PortRange, Ports, Protocol, Requirement, Rule,
    Selector, Subject, Tier, name,
};
use netpol_core::{Cluster, Program, Scope};
use nix::sched::{CloneFlags, unshare};

fn main() {
    unshare(CloneFlags::CLONE_NEWNET)
        .or_else(|_| unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET))
        .expect("a network namespace");
    println!("variant   peers   all, ms   render, ms   plan, ms   member, ms   bytes   policy, ms");
    for variant in [Variant::Nft, Variant::Legacy] {
        for peers in [1_000, 10_000, 100_000] {
            row(variant, peers);
        }
    }
}

fn row(variant: Variant, peers: u32) {
    let mut scene = Scene::new(peers);
    let few = scene.program();
    scene.endpoint("api-more", "api", "there", 128);
    let many = scene.program();
    scene.cluster.upsert_policy(policy("more", "api", 81));
    let more = scene.program();
    let options = Options { variant, ..Options::default() };
    let mut kernel = Iptables::open(options).expect("the tools");
    kernel.remove().expect("removed");
    let all = timed(|| kernel.sync(&few).expect("written"));
    let rounds = if peers < 100_000 { 41 } else { 21 };
    let old = render(&few, &Options::default());
    let rendering = median(rounds, || timed(|| render(&many, &Options::default())));
    let planning = median(rounds, || {
        let new = render(&many, &Options::default());
        timed(|| Plan::new(&old, new))
    });
    let mut bytes = 0;
    let mut alternate = |first: &Program, second: &Program| {
        let mut turn = 0;
        median(rounds, || {
            turn += 1;
            let next = if turn % 2 == 1 { second } else { first };
            timed(|| bytes = kernel.sync(next).expect("written").bytes)
        })
    };
    let member = alternate(&few, &many);
    let policy = alternate(&many, &more);
    kernel.sync(&few).expect("written");
    let bytes = kernel.sync(&many).expect("written").bytes;
    kernel.remove().expect("removed");
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{:>7} {peers:>7} {:>9.2} {:>12.3} {:>10.3} {:>12.3} {bytes:>7} {:>12.3}",
        variant.to_string(),
        ms(all),
        ms(rendering),
        ms(planning),
        ms(member),
        ms(policy),
    );
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
struct Scene {
    cluster: Cluster,
    compiler: Compiler,
}

impl Scene {
    fn new(peers: u32) -> Self {
        let cluster = Cluster::new(Readings::default());
        let compiler = Compiler::new(Readings::default(), Scope::Node(name("here")));
        let mut scene = Self { cluster, compiler };
        scene.endpoint("db", "db", "here", 1);
        for number in 0..peers {
            scene.endpoint(&format!("api-{number}"), "api", "there", 256 + number);
        }
        scene.cluster.upsert_policy(policy("db", "api", 80));
        scene
    }

    fn endpoint(&mut self, pod: &str, app: &str, node: &str, number: u32) {
        let mut endpoint = Endpoint::new("x", pod);
        endpoint.labels = Labels::default().with("app", app);
        endpoint.node = Some(name(node));
        endpoint.addresses = [IpAddr::V4((0x0a00_0000 + number).into())].into_iter().collect();
        self.cluster.upsert_endpoint(endpoint);
    }

    fn program(&mut self) -> Program {
        let changes = self.cluster.take_changes();
        self.compiler.update(&self.cluster, &changes).clone()
    }
}

fn policy(key: &str, from: &str, port: u16) -> Policy {
    let port = PortMatch::Range(Protocol::Tcp, PortRange::single(port));
    let rule = Rule {
        name: None,
        action: Action::Accept,
        peers: Peers::AnyOf(vec![Peer::Pods(app(from))]),
        ports: Ports::AnyOf(vec![port]),
    };
    let key = PolicyKey { kind: PolicyKind::NetworkPolicy, namespace: name("x"), name: name(key) };
    Policy {
        key,
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: Subject::Pods(app("db")),
        ingress: Some(vec![rule]),
        egress: None,
    }
}

fn app(app: &str) -> PodSelector {
    let pods = Selector::new([Requirement::is_in("app", [app])]);
    PodSelector { namespaces: NamespaceScope::Named(name("x")), pods }
}
