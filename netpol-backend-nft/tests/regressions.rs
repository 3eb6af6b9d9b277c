//! What other engines got wrong and only packets can show: connections that live on, answers and errors, translated
//! addresses, foreign hands on the tables.
//!
//! A small cluster of network namespaces; every node runs the backend as a host would.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test; but without the test harness it does not look like one to the lints"
)]

#[path = "support/objects.rs"]
mod objects;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use netpol_backend_nft::{Change, Log, Nft, Options, Report};
use netpol_core::model::{
    Action, Endpoint, Labels, NamespaceScope, Node, Options as Readings, PodSelector, Policy,
    PolicyKey, PolicyKind, Rule, Selector, Subject, Tier, name,
};
use netpol_core::{Cluster, Scope, compile};
use netpol_testbed::{Outcome, Place, Probe, ProbeOptions, Testbed, Topology, Traffic};
use objects::{on_tcp, policy, with_block, with_pods};

/// A check by its name; one that cannot run says why.
type Check = (&'static str, fn() -> Result<(), String>);

const CHECKS: &[Check] = &[
    ("answers pass whatever the other direction says", answers_pass),
    ("errors about allowed connections pass", errors_pass),
    ("denied packets are dropped", denials_are_silent),
    ("established connections outlive a change, new ones do not begin", established_connections),
    ("a repeated packet of a denied connection stays denied", repeated_packets),
    ("the own node reaches isolated pods", probes_from_the_node),
    ("service addresses are translated before packets are judged", services),
    ("a pod reaches itself by way of a service", hairpin),
    ("sources are translated after packets are judged", masquerade),
    ("a flushed ruleset is restored", flushed_by_others),
    ("rules outlive the process that wrote them", restart),
    ("names of any length", long_names),
];

fn main() -> ExitCode {
    if let Err(error) = netpol_testbed::enter() {
        println!("SKIPPED EVERYTHING: {error:#}");
        return ExitCode::SUCCESS;
    }
    let filters: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let mut failed = 0;
    for (name, check) in CHECKS {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        match catch_unwind(AssertUnwindSafe(check)) {
            Ok(Ok(())) => println!("passed  {name}"),
            Ok(Err(reason)) => println!("SKIPPED {name}: {reason}"),
            Err(_) => {
                failed += 1;
                println!("FAILED  {name}");
            }
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

const A: [&str; 2] = ["10.0.0.1", "fd00::1"];
const B: [&str; 2] = ["10.0.0.2", "fd00::2"];
const C: [&str; 2] = ["10.0.1.1", "fd00:1::1"];
const NODES: [(&str, [&str; 2]); 2] =
    [("n1", ["192.168.0.1", "fd01::1"]), ("n2", ["192.168.0.2", "fd01::2"])];
const PODS: [(&str, &str, [&str; 2]); 3] = [("a", "n1", A), ("b", "n1", B), ("c", "n2", C)];
const OUTSIDE: &str = "203.0.113.7";
const ALL: [Traffic; 4] = [Traffic::Tcp(80), Traffic::Udp(80), Traffic::Sctp(80), Traffic::Icmp];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(address), port)
}

/// The pods `x/a` and `x/b` on the node `n1`, `x/c` on `n2`, labelled by their names.
struct Scene {
    testbed: Testbed,
    cluster: Cluster,
}

impl Scene {
    fn new() -> Self {
        let mut cluster = Cluster::new(Readings::default());
        let mut topology = Topology { outside: vec![ip(OUTSIDE)], ..Topology::default() };
        for (node, addresses) in NODES {
            let addresses = addresses.map(ip).to_vec();
            let labels = Labels::default();
            cluster.upsert_node(Node { name: name(node), labels, addresses: addresses.clone() });
            topology.nodes.push(netpol_testbed::Node { name: node.to_owned(), addresses });
        }
        for (pod, node, addresses) in PODS {
            let addresses = addresses.map(ip).to_vec();
            cluster.upsert_endpoint(objects::pod(pod, node, &addresses));
            let (name, node) = (format!("x/{pod}"), node.to_owned());
            topology.pods.push(netpol_testbed::Pod { name, node, addresses });
        }
        let testbed = Testbed::build(&topology, |_| ()).expect("a testbed");
        Self { testbed, cluster }
    }

    /// Puts a policy into force on every node.
    fn apply(&mut self, policy: Policy) {
        self.cluster.upsert_policy(policy);
        for (node, _) in NODES {
            self.sync(node);
        }
    }

    fn sync(&self, node: &str) -> Report {
        let program = compile(&self.cluster, Scope::Node(name(node)));
        self.on(node, || {
            let mut kernel = Nft::open(Options::default()).expect("nf_tables");
            kernel.sync(&program).expect("in force")
        })
    }

    fn on<T: Send>(&self, node: &str, f: impl FnOnce() -> T + Send) -> T {
        self.testbed.in_node(node, f).expect("a node")
    }

    fn within<T: Send>(&self, pod: &str, f: impl FnOnce() -> T + Send) -> T {
        self.testbed.in_pod(pod, f).expect("a pod")
    }

    /// All kinds of traffic in both families, from a place with these addresses to others.
    fn probe(&self, from: &Place, source: [&str; 2], to: [&str; 2]) -> Vec<Outcome> {
        let families = source.into_iter().zip(to);
        let probes: Vec<Probe> = families
            .flat_map(|(source, to)| {
                ALL.map(|traffic| Probe {
                    from: from.clone(),
                    source: ip(source),
                    to: ip(to),
                    traffic,
                })
            })
            .collect();
        self.testbed.probe(&probes, &ProbeOptions::default(), |_, _| ())
    }

    fn expect(&self, from: &str, source: [&str; 2], to: [&str; 2], outcome: &Outcome) {
        let outcomes = self.probe(&Place::Pod(from.to_owned()), source, to);
        assert!(outcomes.iter().all(|it| it == outcome), "{source:?} -> {to:?}: {outcomes:?}");
    }

    /// Listens within a pod.
    fn listen(&self, pod: &str, address: &str, port: u16) -> TcpListener {
        let listener = self.within(pod, || TcpListener::bind(at(address, port)).expect("bound"));
        listener.set_nonblocking(true).expect("non-blocking");
        listener
    }

    /// Whether a connection from a pod can be made within half a second.
    fn connects(&self, pod: &str, to: &str, port: u16) -> bool {
        self.connect(pod, to, port, Duration::from_millis(500)).is_some()
    }

    fn connect(&self, pod: &str, to: &str, port: u16, wait: Duration) -> Option<TcpStream> {
        self.within(pod, || match TcpStream::connect_timeout(&at(to, port), wait) {
            Ok(stream) => Some(stream),
            Err(error) if error.kind() == ErrorKind::TimedOut => None,
            Err(error) => panic!("{to}:{port}: {error}"),
        })
    }

    /// Feeds a ruleset to the nft tool on a node.
    fn load(&self, node: &str, rules: &str) -> Result<(), String> {
        self.on(node, || {
            let mut nft = Command::new("nft")
                .args(["-f", "-"])
                .stdin(Stdio::piped())
                .spawn()
                .map_err(|error| format!("no nft tool: {error}"))?;
            let mut input = nft.stdin.take().expect("piped");
            input.write_all(rules.as_bytes()).expect("written");
            drop(input);
            assert!(nft.wait().expect("it ends").success(), "nft refused {rules}");
            Ok(())
        })
    }
}

/// M7, NP-CONN-1: to begin a connection is another thing than to answer.
fn answers_pass() -> Result<(), String> {
    let mut scene = Scene::new();
    scene.apply(policy("a", Some(vec![]), Some(vec![with_pods("c")])));
    scene.apply(policy("c", Some(vec![with_pods("a")]), Some(vec![])));
    scene.expect("x/a", A, C, &Outcome::Allowed);
    scene.expect("x/c", C, A, &Outcome::Denied);
    scene.expect("x/a", A, B, &Outcome::Denied);
    Ok(())
}

/// NP-CONN-2, M7: "port unreachable" about an allowed datagram comes back from a pod that may send nothing, to one
/// that may receive nothing.
fn errors_pass() -> Result<(), String> {
    let mut scene = Scene::new();
    scene.apply(policy("a", Some(vec![]), Some(vec![with_pods("c")])));
    scene.apply(policy("c", Some(vec![with_pods("a")]), Some(vec![])));
    for (source, to) in A.into_iter().zip(C) {
        let answer = scene.within("x/a", || {
            let socket = UdpSocket::bind(at(source, 0)).expect("bound");
            socket.connect(at(to, 9)).expect("connected");
            socket.set_read_timeout(Some(Duration::from_secs(2))).expect("set");
            socket.send(b"?").expect("sent");
            socket.recv(&mut [0; 8]).map_err(|error| error.kind())
        });
        assert_eq!(answer, Err(ErrorKind::ConnectionRefused), "{to}");
    }
    Ok(())
}

/// C-ACT-3, NP-CONN-4: nobody is told that it was denied, be it by a Deny or for want of a rule.
fn denials_are_silent() -> Result<(), String> {
    let mut scene = Scene::new();
    scene.apply(policy("a", Some(vec![]), None));
    let kind = PolicyKind::ClusterNetworkPolicy;
    let deny = Rule { action: Action::Deny, ..with_pods("c") };
    scene.apply(Policy {
        key: PolicyKey { kind, namespace: name(""), name: name("deny") },
        tier: Tier::Admin,
        ..policy("b", Some(vec![deny.clone()]), Some(vec![deny]))
    });
    scene.expect("x/c", C, A, &Outcome::Denied);
    scene.expect("x/c", C, B, &Outcome::Denied);
    scene.expect("x/b", B, C, &Outcome::Denied);
    Ok(())
}

/// NP-CONN-3: the backend leaves alone what is established, in either direction; whatever is new obeys.
fn established_connections() -> Result<(), String> {
    let mut scene = Scene::new();
    scene.apply(policy("c", Some(vec![with_pods("a")]), Some(vec![])));
    let listener = scene.listen("x/c", C[0], 8080);
    let client = scene.connect("x/a", C[0], 8080, Duration::from_secs(2)).expect("allowed");
    listener.set_nonblocking(false).expect("blocking");
    let (server, _) = listener.accept().expect("accepted");
    let [near, far] = ["x/a", "x/c"].map(|pod| {
        let address = if pod == "x/a" { A[0] } else { C[0] };
        scene.within(pod, || UdpSocket::bind(at(address, 5000)).expect("bound"))
    });
    near.connect(at(C[0], 5000)).expect("connected");
    far.connect(at(A[0], 5000)).expect("connected");
    let speak = |from: &UdpSocket, to: &UdpSocket| {
        to.set_read_timeout(Some(Duration::from_millis(700))).expect("set");
        from.send(b"!").expect("sent");
        to.recv(&mut [0; 8]).is_ok()
    };
    // The server's side may not begin, but answer.
    assert!(!speak(&far, &near) && speak(&near, &far) && speak(&far, &near));

    scene.apply(policy("c", Some(vec![]), Some(vec![])));
    scene.apply(policy("a", Some(vec![]), Some(vec![])));
    for (mut from, mut to) in [(&client, &server), (&server, &client)] {
        to.set_read_timeout(Some(Duration::from_secs(2))).expect("set");
        from.write_all(b"still here").expect("sent");
        let mut bytes = [0; 10];
        to.read_exact(&mut bytes).expect("received");
        assert_eq!(&bytes, b"still here");
    }
    assert!(speak(&near, &far) && speak(&far, &near), "datagrams of a known exchange");
    assert!(!scene.connects("x/a", C[0], 8080), "a new connection");
    scene.expect("x/a", A, C, &Outcome::Denied);
    Ok(())
}

/// Connection tracking sees a denied packet, too; that it has seen it must not make the next one a known one.
fn repeated_packets() -> Result<(), String> {
    let mut scene = Scene::new();
    // Denied where it arrives, so that the sender's node has let it out.
    scene.apply(policy("c", Some(vec![with_pods("b")]), None));
    for family in 0..2 {
        let (source, to) = (A[family], C[family]);
        let listener = scene.listen("x/c", to, 80);
        let server = scene.within("x/c", || UdpSocket::bind(at(to, 5000)).expect("bound"));
        server.set_nonblocking(true).expect("non-blocking");
        scene.within("x/a", || {
            let client = UdpSocket::bind(at(source, 5000)).expect("bound");
            for _ in 0..20 {
                client.send_to(b"?", at(to, 5000)).expect("sent");
            }
        });
        // The kernel repeats a SYN after one second, and after two more.
        let stream = scene.connect("x/a", to, 80, Duration::from_millis(3500));
        assert!(stream.is_none(), "connected to {to}");
        let accepted = listener.accept().map(|_| ()).map_err(|error| error.kind());
        assert_eq!(accepted, Err(ErrorKind::WouldBlock));
        let received = server.recv(&mut [0; 8]).map_err(|error| error.kind());
        assert_eq!(received, Err(ErrorKind::WouldBlock));
    }
    Ok(())
}

/// NP-NODE-1, NP-NODE-2, NP-PROTO-1: with nobody's address known to anybody, so that neighbours have to be found first.
fn probes_from_the_node() -> Result<(), String> {
    let mut scene = Scene::new();
    for app in ["a", "b", "c"] {
        scene.apply(policy(app, Some(vec![]), Some(vec![])));
    }
    let forget = || Command::new("ip").args(["-6", "neigh", "flush", "all"]).status();
    for place in [Place::Node("n1".into()), Place::Pod("x/a".into())] {
        let status = scene.testbed.in_place(&place, forget).expect("a place");
        if let Err(error) = status {
            return Err(format!("no ip tool: {error}"));
        }
    }
    let node = Place::Node("n1".to_owned());
    let outcomes = scene.probe(&node, NODES[0].1, A);
    assert!(outcomes.iter().all(|it| *it == Outcome::Allowed), "{outcomes:?}");
    let outcomes = scene.probe(&Place::Node("n2".to_owned()), NODES[1].1, A);
    assert!(outcomes.iter().all(|it| *it == Outcome::Denied), "{outcomes:?}");
    let outcomes = scene.probe(&Place::Pod("x/a".to_owned()), A, NODES[0].1);
    assert!(outcomes.iter().all(|it| *it == Outcome::Denied), "{outcomes:?}");
    Ok(())
}

/// The service 10.96.0.1:80 is `x/c` at port 8080, and 10.96.0.2:80 is `x/a` at 8080.
const SERVICES: &str = "table ip services {
    chain to { type nat hook prerouting priority dstnat;
        ip daddr 10.96.0.1 tcp dport 80 dnat to 10.0.1.1:8080
        ip daddr 10.96.0.2 tcp dport 80 dnat to 10.0.0.1:8080
    }
    chain from { type nat hook postrouting priority srcnat;
        ip saddr 10.0.0.1 ip daddr 10.0.0.1 masquerade
        ip saddr 10.0.0.0/24 ip daddr 203.0.113.0/24 masquerade
    }
}
";

/// M5, NP-NAT-1, NP-IPB-10, NP-PORT-16: the endpoint and its port are judged.
fn services() -> Result<(), String> {
    let mut scene = Scene::new();
    scene.load("n1", SERVICES)?;
    let listener = scene.listen("x/c", C[0], 8080);
    let to_service = with_block("10.96.0.1/32");
    for (egress, connects) in [
        (vec![to_service], false),
        (vec![on_tcp(80, with_pods("c"))], false),
        (vec![on_tcp(8080, with_pods("c"))], true),
        (vec![on_tcp(8080, with_block("10.0.1.0/24"))], true),
    ] {
        scene.apply(policy("a", None, Some(egress.clone())));
        assert_eq!(scene.connects("x/a", "10.96.0.1", 80), connects, "{egress:?}");
        assert_eq!(listener.accept().is_ok(), connects);
    }
    Ok(())
}

/// NP-SELF-1: the packet leaves the pod and comes back, from its own address to its own address.
fn hairpin() -> Result<(), String> {
    let mut scene = Scene::new();
    scene.load("n1", SERVICES)?;
    let _listener = scene.listen("x/a", A[0], 8080);
    scene.apply(policy("a", Some(vec![]), Some(vec![])));
    assert!(scene.connects("x/a", "10.96.0.2", 80));
    assert!(scene.connects("x/a", A[0], 8080));
    assert!(!scene.connects("x/b", "10.96.0.2", 80));
    Ok(())
}

/// M5, NP-NAT-3: a pod is judged by its own address, although the world sees its node's.
fn masquerade() -> Result<(), String> {
    let mut scene = Scene::new();
    scene.load("n1", SERVICES)?;
    let listener = scene
        .testbed
        .in_place(&Place::Outside, || TcpListener::bind(at(OUTSIDE, 80)).expect("bound"))
        .expect("the outside");
    scene.apply(policy("a", None, Some(vec![with_block("203.0.113.0/24")])));
    scene.apply(policy("b", None, Some(vec![])));
    assert!(scene.connects("x/a", OUTSIDE, 80));
    let (_, client) = listener.accept().expect("accepted");
    assert_eq!(client.ip(), ip(NODES[0].1[0]), "it comes with the node's address");
    assert!(!scene.connects("x/b", OUTSIDE, 80));
    Ok(())
}

/// NP-ISO-9: after another process has flushed everything, the next sync is complete.
fn flushed_by_others() -> Result<(), String> {
    let mut scene = Scene::new();
    scene.apply(policy("a", Some(vec![with_pods("b")]), None));
    scene.expect("x/c", C, A, &Outcome::Denied);
    for foreign in ["flush ruleset\n", "delete table ip netpol\n", "flush table ip6 netpol\n"] {
        scene.load("n1", foreign)?;
        let report = scene.sync("n1");
        assert!(report.change != Change::None, "{foreign}: {report:?}");
        scene.expect("x/c", C, A, &Outcome::Denied);
        scene.expect("x/b", B, A, &Outcome::Allowed);
        assert_eq!(scene.sync("n1").change, Change::None, "{foreign}");
    }
    Ok(())
}

/// NP-ISO-9: what is in force does not go with the handle, and a process that starts anew finds it complete.
fn restart() -> Result<(), String> {
    let mut scene = Scene::new();
    scene.apply(policy("a", Some(vec![with_pods("b")]), None));
    // Every sync of the scene is by a handle of its own, which is gone by now.
    scene.expect("x/c", C, A, &Outcome::Denied);
    assert_eq!(scene.sync("n1").change, Change::None);
    scene.expect("x/c", C, A, &Outcome::Denied);
    scene.expect("x/b", B, A, &Outcome::Allowed);
    Ok(())
}

/// Names as long as the API allows, alike but for their ends, with reports of what is denied.
fn long_names() -> Result<(), String> {
    let mut scene = Scene::new();
    let long = |last: char| format!("{}{last}", "p".repeat(252));
    for (last, port) in [('a', 80), ('b', 81)] {
        let named = policy("a", Some(vec![on_tcp(port, with_pods("c"))]), None);
        let key = PolicyKey { name: name(&long(last)), ..named.key.clone() };
        scene.cluster.upsert_policy(Policy { key, ..named });
        let mut endpoint = Endpoint::new(&"n".repeat(63), &long(last));
        endpoint.node = Some(name("n1"));
        endpoint.addresses.push(IpAddr::from([10, 9, 9, u8::try_from(port).expect("small")]));
        let elsewhere = PodSelector {
            namespaces: NamespaceScope::Named(endpoint.namespace.clone()),
            pods: Selector::everything(),
        };
        scene.cluster.upsert_endpoint(endpoint);
        let isolates = policy("a", Some(vec![]), Some(vec![]));
        let key = PolicyKey { namespace: name(&"n".repeat(63)), ..isolates.key.clone() };
        let subject = Subject::Pods(elsewhere);
        scene.cluster.upsert_policy(Policy { key, subject, ..isolates });
    }
    let program = compile(&scene.cluster, Scope::Node(name("n1")));
    let options = Options {
        log: Some(Log { group: 7, per_second: None, accepted: false }),
        ..Options::default()
    };
    let changes = scene.on("n1", || {
        let mut kernel = Nft::open(options).expect("nf_tables");
        [(); 2].map(|()| kernel.sync(&program).expect("accepted").change)
    });
    assert_eq!(changes, [Change::Created, Change::None]);
    let _listeners = [80, 81, 82].map(|port| scene.listen("x/a", A[0], port));
    let reached = [80, 81, 82].map(|port| scene.connects("x/c", A[0], port));
    assert_eq!(reached, [true, true, false]);
    Ok(())
}
