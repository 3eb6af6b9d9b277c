//! What it costs to follow a cluster on one of its nodes: from an event to the kernel's word that the
//! change is in force. Medians; in a network namespace of its own.
//!
//!     cargo bench -p netpol-backend-nft --bench delta
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints its figures, and has nothing to do if it cannot"
)]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use netpol_backend_nft::{Nft, Options};
use netpol_core::compile::Compiler;
use netpol_core::model::{
    Action, Endpoint, Labels, NamespaceScope, Options as Readings, Peer, Peers, PodSelector,
    Policy, PolicyKey, PolicyKind, PortMatch, PortRange, Ports, Protocol, Requirement, Rule,
    Selector, Subject, Tier, name,
};
use netpol_core::{Cluster, Scope};
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};

/// Pods of one application, all in one namespace.
const REPLICAS: u32 = 50;
const APPLICATIONS_PER_NAMESPACE: u32 = 20;
const POLICIES_PER_APPLICATION: u32 = 5;
/// Pods on the node: one of the first application in each of 100 namespaces, and one of the second in
/// the first ten.
const LOCAL_SECOND: u32 = 10 * APPLICATIONS_PER_NAMESPACE;
const ROUNDS: usize = 201;

fn main() {
    unshare(CloneFlags::CLONE_NEWNET)
        .or_else(|_| unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET))
        .expect("a network namespace");
    println!(
        "110 pods of 100,000 on the node, each selected by 5 policies; ms, median of {ROUNDS}"
    );
    println!(
        "policies        event              compiled   in force       all   target   bytes  steps"
    );
    let mut joined = Vec::new();
    for policies in [1_000, 10_000] {
        let mut node = Node::new(cluster(policies));
        let event = |name: &str, target: f64, [compiled, synced]: [Duration; 2], node: &Node| {
            let all = compiled + synced;
            println!(
                "{policies:>8}   {name:<22} {:>10.3} {:>10.3} {:>9.3} {target:>8} {:>7} {:>6}",
                ms(compiled),
                ms(synced),
                ms(all),
                node.bytes,
                node.steps
            );
            all
        };
        event("compiled from nothing", f64::NAN, [node.first, Duration::ZERO], &node);
        let [loaded, busy] = timed_twice(|| node.sync());
        event("everything", 100.0, [Duration::ZERO, loaded], &node);
        event("   the processor's", 100.0, [Duration::ZERO, busy], &node);
        let elements = node.elements();
        // A pod elsewhere whose application several local ones admit.
        let [joins, leaves] = ["app-1", "none"].map(|app| pod("ns-0", 7_000_000, app, "there"));
        let times = node.alternate(|cluster, turn| {
            cluster.upsert_endpoint(if turn { joins.clone() } else { leaves.clone() });
        });
        joined.push(event("address joins, leaves", 0.3, times, &node));
        // Another of an application that is there, and the first of one.
        let pods = [("ns-1", "app-0", "one more pod", 1), ("ns-50", "app-1", "a first pod", 2)];
        for (namespace, app, what, number) in pods {
            let created = pod(namespace, 7_000_000 + number, app, "here");
            let times = node.alternate(|cluster, turn| match turn {
                true => cluster.upsert_endpoint(created.clone()),
                false => cluster.remove_endpoint(&created.namespace, &created.name, &created.uid),
            });
            event(&format!("{what}, deleted"), 1.2, times, &node);
        }
        let added = policy("ns-2", 0, 1_000_000, [3, 4], [9_999, 10_001]);
        let times = node.alternate(|cluster, turn| match turn {
            true => cluster.upsert_policy(added.clone()),
            false => cluster.remove_policy(&added.key),
        });
        event("policy added, removed", 3.0, times, &node);
        println!("{policies:>8}   {elements} elements in the kernel");
        node.remove();
    }
    let ratio = joined[1].as_secs_f64() / joined[0].as_secs_f64();
    println!(
        "an address that joins: {ratio:.2} times with ten times the policies (target 0.8 to 1.2)"
    );

    let mut node = Node::new(deep());
    let [loaded, busy] = timed_twice(|| node.sync());
    let elements = node.elements();
    println!(
        "10,000 policies on one pod, {elements} elements: compiled in {:.0} ms",
        ms(node.first)
    );
    println!(
        "   in force in {:.0} ms (target 700), of the processor's {:.0} ms",
        ms(loaded),
        ms(busy)
    );
    let [joins, leaves] = ["app-1", "none"].map(|app| pod("ns-0", 7_000_000, app, "there"));
    let [compiled, synced] = node.alternate(|cluster, turn| {
        cluster.upsert_endpoint(if turn { joins.clone() } else { leaves.clone() });
    });
    println!("   an address joins, leaves: {:.3} + {:.3} ms", ms(compiled), ms(synced));
    node.remove();
    memory("10,000 policies on one pod", &mut node);
    memory("110 pods, 10,000 policies", &mut Node::new(cluster(10_000)));
}

/// What the kernel takes, by its own account of all its objects: others' changes are in it, too.
fn memory(name: &str, node: &mut Node) {
    let mut taken: Vec<i64> = (0..5)
        .map(|_| {
            node.remove();
            std::thread::sleep(Duration::from_millis(500));
            let before = slab();
            node.sync();
            let taken = slab() - before;
            taken.max(0)
        })
        .collect();
    taken.sort_unstable();
    let elements = node.elements();
    let bytes = taken[2] * 1024;
    let each = bytes as f64 / elements as f64;
    println!(
        "{name}: {:.1} MB of kernel memory, {each:.0} bytes for each of {elements} elements",
        bytes as f64 / 1e6
    );
    node.remove();
}

/// KiB in the kernel's object caches.
fn slab() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("read");
    let line = text.lines().find_map(|line| line.strip_prefix("SUnreclaim:")).expect("there");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

/// A node's agent without its watches.
struct Node {
    cluster: Cluster,
    compiler: Compiler,
    kernel: Nft,
    first: Duration,
    bytes: usize,
    steps: usize,
}

impl Node {
    fn new(mut cluster: Cluster) -> Self {
        let mut compiler = Compiler::new(*cluster.options(), Scope::Node(name("here")));
        let changes = cluster.take_changes();
        let first = timed(|| _ = compiler.update(&cluster, &changes));
        let kernel = Nft::open(Options::default()).expect("nf_tables");
        Self { cluster, compiler, kernel, first, bytes: 0, steps: 0 }
    }

    fn sync(&mut self) {
        let report = self.kernel.sync(self.compiler.program()).expect("written");
        (self.bytes, self.steps) = (report.bytes, report.steps);
    }

    fn remove(&mut self) {
        self.kernel.remove().expect("removed");
    }

    fn elements(&mut self) -> usize {
        self.kernel.status().expect("read").tables.values().map(|table| table.elements).sum()
    }

    /// Does one thing and undoes it in turns: medians of compiling and of putting into force.
    fn alternate(&mut self, change: impl Fn(&mut Cluster, bool)) -> [Duration; 2] {
        let (mut compiled, mut synced) = (Vec::new(), Vec::new());
        for turn in 0..ROUNDS {
            let start = Instant::now();
            change(&mut self.cluster, turn % 2 == 0);
            let changes = self.cluster.take_changes();
            self.compiler.update(&self.cluster, &changes);
            compiled.push(start.elapsed());
            synced.push(timed(|| self.sync()));
        }
        [compiled, synced].map(|mut times| {
            times.sort_unstable();
            times[ROUNDS / 2]
        })
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Also the time of the processor, which others on the machine do not add to.
fn timed_twice(work: impl FnOnce()) -> [Duration; 2] {
    let busy = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock"));
    let start = busy();
    let elapsed = timed(work);
    [elapsed, busy().saturating_sub(start)]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// 100,000 pods, and so many policies: five for each application, as far as they go.
fn cluster(policies: u32) -> Cluster {
    let mut cluster = Cluster::new(Readings::default());
    let applications = 100_000 / REPLICAS;
    // The first applications of all namespaces first.
    let policed = policies / POLICIES_PER_APPLICATION / (applications / APPLICATIONS_PER_NAMESPACE);
    for application in 0..applications {
        let namespace = format!("ns-{}", application / APPLICATIONS_PER_NAMESPACE);
        let number = application % APPLICATIONS_PER_NAMESPACE;
        for replica in 0..REPLICAS {
            // Spread, so that few of them have peers in common.
            let local = replica == 0 && (number == 0 || number == 1 && application < LOCAL_SECOND);
            let node = if local { "here" } else { "there" };
            let address = application * REPLICAS + replica;
            cluster.upsert_endpoint(pod(&namespace, address, &format!("app-{number}"), node));
        }
        for index in (0..POLICIES_PER_APPLICATION).filter(|_| number < policed) {
            let peers = [index + 1, index + 2].map(|it| (number + it) % APPLICATIONS_PER_NAMESPACE);
            let ports = [0, 1].map(|it| u16::try_from(1_000 + index * 2 + it).expect("small"));
            cluster.upsert_policy(policy(&namespace, number, index, peers, ports));
        }
    }
    cluster
}

/// 10,000 policies that all select one pod; some 700,000 elements.
fn deep() -> Cluster {
    const KINDS: u32 = 1000;
    const PORTS: u32 = 731;
    let mut cluster = Cluster::new(Readings::default());
    cluster.upsert_endpoint(pod("ns-0", 0, "app-5000", "here"));
    for number in 0..KINDS * 70 {
        let app = format!("app-{}", number % KINDS);
        cluster.upsert_endpoint(pod("ns-0", 256 + number, &app, "there"));
    }
    for index in 0..10_000 {
        let port = u16::try_from(1_000 + index % PORTS).expect("small");
        let kind = index % KINDS;
        cluster.upsert_policy(policy("ns-0", 5000, index, [kind, kind], [port, port]));
    }
    cluster
}

fn pod(namespace: &str, number: u32, app: &str, node: &str) -> Endpoint {
    let mut endpoint = Endpoint::new(namespace, &format!("pod-{number}"));
    endpoint.labels = Labels::default().with("app", app);
    endpoint.node = Some(name(node));
    endpoint.addresses = [IpAddr::V4((0x0a00_0000 + number).into())].into_iter().collect();
    endpoint
}

fn policy(namespace: &str, subject: u32, index: u32, peers: [u32; 2], ports: [u16; 2]) -> Policy {
    let app = |number: u32| {
        let pods = Selector::new([Requirement::is_in("app", [format!("app-{number}").as_str()])]);
        PodSelector { namespaces: NamespaceScope::Named(name(namespace)), pods }
    };
    let port = |port| PortMatch::Range(Protocol::Tcp, PortRange::single(port));
    let rule = Rule {
        name: None,
        action: Action::Accept,
        peers: Peers::AnyOf(peers.into_iter().map(|it| Peer::Pods(app(it))).collect()),
        ports: Ports::AnyOf(ports.into_iter().map(port).collect()),
    };
    let own = name(&format!("policy-{subject}-{index}"));
    Policy {
        key: PolicyKey { kind: PolicyKind::NetworkPolicy, namespace: name(namespace), name: own },
        tier: Tier::NetworkPolicy,
        priority: 0,
        subject: Subject::Pods(app(subject)),
        ingress: Some(vec![rule]),
        egress: None,
    }
}
