//! Connections that a change forbids are cut, and no other; what is denied is reported.
//!
//! A small cluster of network namespaces, in which real connections are held open.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test; but without the test harness it does not look like one to the lints"
)]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use netpol_backend_nft::conntrack::Conntrack;
use netpol_backend_nft::nflog::{Denial, Listener, Report};
use netpol_backend_nft::{Log, Nft, Options};
use netpol_core::model::{
    Action, Direction, Endpoint, Flow, Labels, NamespaceScope, Node, Options as Readings, Peer,
    Peers, PodSelector, Policy, PolicyKey, PolicyKind, PortMatch, PortRange, Ports, Protocol,
    Requirement, Rule, Selector, Subject, Tier, Traffic, name,
};
use netpol_core::program::{Program, Reason};
use netpol_core::{Cluster, Scope, compile};
use netpol_testbed::{Testbed, Topology};

const CHECKS: &[(&str, fn())] = &[
    ("forbidden connections are cut, and no other", forbidden_connections_are_cut),
    ("translated connections are judged by where they go", translated_connections),
    ("denied packets are reported", denied_packets_are_reported),
];

const A: [&str; 2] = ["10.0.0.1", "fd00::1"];
const B: [&str; 2] = ["10.0.0.2", "fd00::2"];
const NODE: [&str; 2] = ["192.168.0.1", "fd01::1"];
const SHORT: Duration = Duration::from_millis(400);

fn main() -> ExitCode {
    if let Err(error) = netpol_testbed::enter() {
        println!("SKIPPED EVERYTHING: {error:#}");
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, check) in CHECKS {
        let passed = catch_unwind(AssertUnwindSafe(check)).is_ok();
        println!("{}  {name}", if passed { "passed" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The pods `x/a` and `x/b` on the node `n`, and its kernel.
struct Scene {
    testbed: Testbed,
    cluster: Cluster,
    kernel: Nft,
    conntrack: Conntrack,
}

impl Scene {
    fn new(options: Options) -> Self {
        let mut cluster = Cluster::new(Readings::default());
        let addresses = NODE.map(ip).to_vec();
        let labels = Labels::default();
        cluster.upsert_node(Node { name: name("n"), labels, addresses: addresses.clone() });
        let node = netpol_testbed::Node { name: "n".to_owned(), addresses };
        let mut topology = Topology { nodes: vec![node], ..Topology::default() };
        for (pod, addresses) in [("a", A), ("b", B)] {
            let addresses = addresses.map(ip).to_vec();
            let mut endpoint = Endpoint::new("x", pod);
            endpoint.labels = Labels::default().with("app", pod);
            endpoint.node = Some(name("n"));
            endpoint.addresses = addresses.clone().into();
            cluster.upsert_endpoint(endpoint);
            let (name, node) = (format!("x/{pod}"), "n".to_owned());
            topology.pods.push(netpol_testbed::Pod { name, node, addresses });
        }
        let testbed = Testbed::build(&topology, |_| ()).expect("a testbed");
        let open = || {
            // Whoever sends next, a cut connection is not taken for a new one.
            let loose = "/proc/sys/net/netfilter/nf_conntrack_tcp_loose";
            std::fs::write(loose, "0").expect("set");
            (Nft::open(options).expect("nf_tables"), Conntrack::open().expect("opened"))
        };
        let (kernel, conntrack) = testbed.in_node("n", open).expect("a node");
        Self { testbed, cluster, kernel, conntrack }
    }

    fn program(&self) -> Program {
        compile(&self.cluster, Scope::Node(name("n")))
    }

    fn sync(&mut self) -> Program {
        let program = self.program();
        self.kernel.sync(&program).expect("in force");
        program
    }

    /// Isolates `x/b`, but for `x/a` on one TCP port.
    fn allow_only(&mut self, port: u16) {
        let key =
            PolicyKey { kind: PolicyKind::NetworkPolicy, namespace: name("x"), name: name("b") };
        let port = PortMatch::Range(Protocol::Tcp, PortRange::single(port));
        let rule = Rule {
            name: None,
            action: Action::Accept,
            peers: Peers::AnyOf(vec![Peer::Pods(app("a"))]),
            ports: Ports::AnyOf(vec![port]),
        };
        self.cluster.upsert_policy(Policy {
            key,
            tier: Tier::NetworkPolicy,
            priority: 0,
            subject: Subject::Pods(app("b")),
            ingress: Some(vec![rule]),
            egress: None,
        });
    }

    fn within<T: Send>(&self, pod: &str, f: impl FnOnce() -> T + Send) -> T {
        self.testbed.in_pod(pod, f).expect("a pod")
    }

    /// A connection from `x/a`, and its other end in `x/b`.
    fn connect(&self, to: SocketAddr, listener: &TcpListener) -> [TcpStream; 2] {
        let here = self.within("x/a", || TcpStream::connect_timeout(&to, SHORT).expect("allowed"));
        let (there, _) = listener.accept().expect("accepted");
        for stream in [&here, &there] {
            stream.set_read_timeout(Some(SHORT)).expect("set");
        }
        [here, there]
    }

    fn listen(&self, address: &str, port: u16) -> TcpListener {
        let at = SocketAddr::new(ip(address), port);
        self.within("x/b", || TcpListener::bind(at).expect("bound"))
    }
}

fn app(app: &str) -> PodSelector {
    let pods = Selector::new([Requirement::is_in("app", [app])]);
    PodSelector { namespaces: NamespaceScope::Named(name("x")), pods }
}

/// Whether a message gets from one end of a connection to the other, and an answer back.
fn lives([here, there]: &mut [TcpStream; 2]) -> bool {
    let mut bytes = [0; 4];
    here.write_all(b"ping").expect("buffered");
    if there.read_exact(&mut bytes).is_err() {
        return false;
    }
    there.write_all(b"pong").expect("buffered");
    here.read_exact(&mut bytes).is_ok()
}

fn forbidden_connections_are_cut() {
    let mut scene = Scene::new(Options::default());
    scene.sync();
    let mut held = Vec::new();
    let mut forbidden = Vec::new();
    for (from, to) in A.into_iter().zip(B) {
        for port in [80, 81] {
            let listener = scene.listen(to, port);
            let connection = scene.connect(SocketAddr::new(ip(to), port), &listener);
            held.push((port, connection));
        }
        // What the isolated pod began itself is nobody's business.
        let at = SocketAddr::new(ip(from), 82);
        let listener = scene.within("x/a", || TcpListener::bind(at).expect("bound"));
        let here = scene.within("x/b", || TcpStream::connect(at).expect("allowed"));
        let (there, _) = listener.accept().expect("accepted");
        there.set_read_timeout(Some(SHORT)).expect("set");
        here.set_read_timeout(Some(SHORT)).expect("set");
        held.push((82, [here, there]));
        let server = SocketAddr::new(ip(to), 53);
        let server = scene.within("x/b", || UdpSocket::bind(server).expect("bound"));
        let client = scene.within("x/a", || UdpSocket::bind((ip(from), 0)).expect("bound"));
        client.send_to(b"ping", (ip(to), 53)).expect("sent");
        let (_, peer) = server.recv_from(&mut [0; 4]).expect("received");
        server.send_to(b"pong", peer).expect("sent");
        client.recv(&mut [0; 4]).expect("answered");
        forbidden.push(Flow::new(ip(from), ip(to), Traffic::tcp(81)));
        forbidden.push(Flow::new(ip(from), ip(to), Traffic::udp(53)));
    }
    let program = scene.program();
    assert_eq!(scene.conntrack.revoke(&program).expect("revoked").cut, []);
    assert!(held.iter_mut().all(|(_, connection)| lives(connection)));

    scene.allow_only(80);
    let program = scene.sync();
    // Rules alone do not end what goes on.
    assert!(held.iter_mut().all(|(_, connection)| lives(connection)));
    let mut revoked = scene.conntrack.revoke(&program).expect("revoked");
    let order = |flow: &Flow| (flow.source.clone(), flow.traffic);
    revoked.cut.sort_by_key(order);
    forbidden.sort_by_key(order);
    assert_eq!(revoked.cut, forbidden, "{} examined", revoked.examined);
    assert!(revoked.examined >= 8);
    for (port, connection) in &mut held {
        assert_eq!(lives(connection), *port != 81, "port {port}");
    }
    assert_eq!(scene.conntrack.revoke(&program).expect("revoked").cut, []);
}

/// M5: a service address is translated before policies judge, and so are the entries.
fn translated_connections() {
    let mut scene = Scene::new(Options::default());
    scene.sync();
    let rules = "table ip services { chain c { type nat hook prerouting priority dstnat;\n\
                 ip daddr 10.9.9.9 tcp dport 80 dnat to 10.0.0.2:81\n\
                 ip daddr 10.9.9.9 tcp dport 81 dnat to 10.0.0.2:80\n}\n}\n";
    let load = || {
        let child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn();
        let Ok(mut nft) = child else { return false };
        nft.stdin.take().expect("piped").write_all(rules.as_bytes()).expect("written");
        assert!(nft.wait().expect("it ends").success());
        true
    };
    if !scene.testbed.in_node("n", load).expect("a node") {
        println!("SKIPPED service addresses: there is no nft tool");
        return;
    }
    let service = |port| SocketAddr::new(ip("10.9.9.9"), port);
    let mut to_81 = scene.connect(service(80), &scene.listen(B[0], 81));
    let mut to_80 = scene.connect(service(81), &scene.listen(B[0], 80));
    scene.allow_only(80);
    let program = scene.sync();
    let revoked = scene.conntrack.revoke(&program).expect("revoked");
    assert_eq!(revoked.cut, [Flow::new(ip(A[0]), ip(B[0]), Traffic::tcp(81))]);
    assert!(lives(&mut to_80));
    assert!(!lives(&mut to_81));
}

fn denied_packets_are_reported() {
    let log = Some(Log { group: 5, per_second: Some(100) });
    let options = Options { log, ..Options::default() };
    let mut scene = Scene::new(options.clone());
    let listen = || Listener::open(5, &options.table).expect("opened");
    let mut listener = scene.testbed.in_node("n", listen).expect("a node");
    scene.allow_only(80);
    let program = scene.sync();
    for (from, to) in A.into_iter().zip(B) {
        let _allowed = scene.connect(SocketAddr::new(ip(to), 80), &scene.listen(to, 80));
        let to_81 = SocketAddr::new(ip(to), 81);
        let denied = scene.within("x/a", || TcpStream::connect_timeout(&to_81, SHORT).is_err());
        assert!(denied, "{from}");
        let flow = Flow::new(ip(from), ip(to), Traffic::tcp(81));
        let report = listener.wait(Some(SHORT)).expect("heard").expect("a report");
        let denial = Denial { direction: Direction::Ingress, flow: flow.clone() };
        assert_eq!(report, Report::Denied(denial));
        let why = program.explain(&flow).ingress.expect("judged").reason;
        assert!(matches!(why, Reason::Isolated(_)), "{why:?}");
        // Repeated attempts of the same connection.
        while let Some(repeated) = listener.wait(Some(Duration::ZERO)).expect("heard") {
            assert_eq!(repeated, report);
        }
    }
}
