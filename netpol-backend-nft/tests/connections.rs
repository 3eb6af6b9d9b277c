//! Connections that a change forbids are cut, and no other; what is denied is reported.
//!
//! A small cluster of network namespaces, in which real connections are held open.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test; but without the test harness it does not look like one to the lints"
)]

#[path = "support/objects.rs"]
mod objects;
#[path = "support/wire.rs"]
mod wire;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use netpol_backend_nft::conntrack::Conntrack;
use netpol_backend_nft::nflog::{Listener, Outcome, Report};
use netpol_backend_nft::{Log, Nft, Options, resolve};
use netpol_core::model::{Direction, Flow, Labels, Node, Options as Readings, Traffic, name};
use netpol_core::program::Program;
use netpol_core::{Cluster, Scope, compile};
use netpol_testbed::{Testbed, Topology};
use objects::{on_tcp, policy, with_pods};

const CHECKS: &[(&str, fn())] = &[
    ("forbidden connections are cut, and no other", forbidden_connections_are_cut),
    ("forbidden associations are cut", associations_are_cut),
    ("connections outlive lost entries", connections_outlive_lost_entries),
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
            cluster.upsert_endpoint(objects::pod(pod, "n", &addresses));
            let (name, node) = (format!("x/{pod}"), "n".to_owned());
            topology.pods.push(netpol_testbed::Pod { name, node, addresses });
        }
        let testbed = Testbed::build(&topology, |_| ()).expect("a testbed");
        let open = || (Nft::open(options).expect("nf_tables"), Conntrack::open().expect("opened"));
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

    /// Isolates `x/b` for what it receives, but for `x/a` on one TCP port.
    fn allow_only(&mut self, port: u16) {
        self.isolate("b", Direction::Ingress, "a", port);
    }

    /// Isolates a pod in one direction, but for another on one TCP port.
    fn isolate(&mut self, pod: &str, direction: Direction, other: &str, port: u16) {
        let rules = Some(vec![on_tcp(port, with_pods(other))]);
        let (ingress, egress) = match direction {
            Direction::Egress => (None, rules),
            Direction::Ingress => (rules, None),
        };
        self.cluster.upsert_policy(policy(pod, ingress, egress));
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

/// Whether a message gets through.
fn speaks(from: &mut TcpStream, to: &mut TcpStream) -> bool {
    from.write_all(b"word").expect("buffered");
    to.read_exact(&mut [0; 4]).is_ok()
}

/// By the policies of the server, and by those of the client.
fn forbidden_connections_are_cut() {
    for (pod, direction, other) in [("b", Direction::Ingress, "a"), ("a", Direction::Egress, "b")] {
        forbidden_by(pod, direction, other);
    }
}

fn forbidden_by(pod: &str, direction: Direction, other: &str) {
    let mut scene = Scene::new(Options::default());
    scene.sync();
    let mut held = Vec::new();
    let mut forbidden = Vec::new();
    let mut datagrams = Vec::new();
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
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(SHORT)).expect("set");
        }
        datagrams.push([client, server]);
        forbidden.push(Flow::new(ip(from), ip(to), Traffic::tcp(81)));
        forbidden.push(Flow::new(ip(from), ip(to), Traffic::udp(53)));
    }
    let program = scene.program();
    assert_eq!(scene.conntrack.revoke(&program).expect("revoked").cut, []);
    assert!(held.iter_mut().all(|(_, connection)| lives(connection)));

    scene.isolate(pod, direction, other, 80);
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
        let [here, there] = connection;
        if *port == 81 {
            // Whoever sends next, and how often.
            for _ in 0..2 {
                assert!(!speaks(there, here), "{pod}: the server is heard");
                assert!(!speaks(here, there), "{pod}: the client is heard");
            }
        } else {
            assert!(lives(connection), "{pod}: port {port}");
        }
    }
    for [client, server] in &datagrams {
        let to = server.local_addr().expect("bound");
        let mut bytes = [0; 4];
        client.send_to(b"ping", to).expect("sent");
        assert!(server.recv_from(&mut bytes).is_err(), "{pod}: a denied datagram arrives");
        // The server may send to the client, as nobody denies it, and be answered.
        server.send_to(b"pong", client.local_addr().expect("bound")).expect("sent");
        assert!(client.recv_from(&mut bytes).is_ok(), "{pod}: an allowed datagram is lost");
        client.send_to(b"ping", to).expect("sent");
        assert!(server.recv_from(&mut bytes).is_ok(), "{pod}: an answer is lost");
    }
    let again = scene.conntrack.revoke(&program).expect("revoked").cut;
    assert_eq!(again, [], "{pod}");
}

/// NP-CONN-1 for associations of SCTP, which a heartbeat might begin anew.
fn associations_are_cut() {
    for (pod, direction, other) in [("b", Direction::Ingress, "a"), ("a", Direction::Egress, "b")] {
        let mut scene = Scene::new(Options::default());
        scene.sync();
        let mut associations = Vec::new();
        for (from, to) in A.into_iter().zip(B) {
            let [a, b] = [("x/a", from), ("x/b", to)]
                .map(|(pod, address)| scene.within(pod, || Association::end(ip(address))));
            let association = Association { ends: [a, b] };
            let setup =
                [(0, sctp::INIT), (1, sctp::INIT_ACK), (0, sctp::ECHO), (1, sctp::ECHO_ACK)];
            for (from, chunk) in setup {
                assert!(association.speaks(from, chunk), "chunk {chunk} from {from}");
            }
            assert!(association.lives());
            associations.push(association);
        }
        scene.isolate(pod, direction, other, 80);
        let program = scene.sync();
        assert!(associations.iter().all(Association::lives), "{pod}: established");
        let cut = scene.conntrack.revoke(&program).expect("revoked").cut;
        assert_eq!(cut.len(), 2, "{cut:?}");
        for association in &associations {
            for from in [1, 0, 1] {
                for chunk in [sctp::HEARTBEAT, sctp::DATA, sctp::HEARTBEAT_ACK, sctp::SHUTDOWN] {
                    assert!(!association.speaks(from, chunk), "{pod}: chunk {chunk} of {from}");
                }
            }
        }
        assert_eq!(scene.conntrack.revoke(&program).expect("revoked").cut, []);
    }
}

/// The two ends of an association over raw sockets: few kernels have SCTP.
struct Association {
    ends: [(socket2::Socket, IpAddr); 2],
}

/// Types of chunks.
mod sctp {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const INIT: u8 = 1;
    pub(crate) const INIT_ACK: u8 = 2;
    pub(crate) const HEARTBEAT: u8 = 4;
    pub(crate) const HEARTBEAT_ACK: u8 = 5;
    pub(crate) const SHUTDOWN: u8 = 7;
    pub(crate) const ECHO: u8 = 10;
    pub(crate) const ECHO_ACK: u8 = 11;
}

impl Association {
    const PORTS: [u16; 2] = [40_000, 132];
    const TAGS: [u32; 2] = [0xa, 0xb];

    fn end(address: IpAddr) -> (socket2::Socket, IpAddr) {
        let at = SocketAddr::new(address, 0);
        let domain = socket2::Domain::for_address(at);
        let protocol = Some(socket2::Protocol::SCTP);
        let socket = socket2::Socket::new(domain, socket2::Type::RAW, protocol).expect("opened");
        socket.bind(&at.into()).expect("bound");
        socket.set_read_timeout(Some(SHORT / 4)).expect("set");
        (socket, address)
    }

    /// Whether a packet with one chunk gets from one end to the other.
    fn speaks(&self, from: usize, chunk: u8) -> bool {
        let to = 1 - from;
        // An INIT is for no association, so it has no tag.
        let tag = if chunk == sctp::INIT { 0 } else { Self::TAGS[to] };
        let body: Vec<u8> = match chunk {
            // Own tag, window, streams, first number; a cookie.
            sctp::INIT | sctp::INIT_ACK => {
                let tag = Self::TAGS[from].to_be_bytes();
                let rest = [0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 7, 0, 8, 1, 2, 3, 4];
                [tag.as_slice(), &rest].concat()
            }
            sctp::DATA => vec![0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4],
            sctp::HEARTBEAT | sctp::HEARTBEAT_ACK => vec![0, 1, 0, 8, 1, 2, 3, 4],
            _ => vec![0, 0, 0, 1],
        };
        let length = u16::try_from(body.len() + 4).expect("short").to_be_bytes();
        let flags = if chunk == sctp::DATA { 3 } else { 0 };
        let ports = [Self::PORTS[from].to_be_bytes(), Self::PORTS[to].to_be_bytes()].concat();
        let head = [ports, tag.to_be_bytes().into(), vec![0; 4], vec![chunk, flags]].concat();
        let mut packet = [head, length.into(), body].concat();
        let checksum = wire::crc32c(&packet);
        packet[8..12].copy_from_slice(&checksum.to_le_bytes());
        let [(sender, _), (receiver, address)] = [&self.ends[from], &self.ends[to]];
        let to = SocketAddr::new(*address, 0);
        sender.send_to(&packet, &to.into()).expect("sent");
        let mut bytes = [0; 256];
        let mut receiver = receiver;
        receiver.read(&mut bytes).is_ok_and(|length| bytes[..length].ends_with(&packet))
    }

    fn lives(&self) -> bool {
        self.speaks(0, sctp::DATA) && self.speaks(1, sctp::DATA)
    }
}

/// An allowed connection whose entry is lost goes on when the side that began it sends.
fn connections_outlive_lost_entries() {
    let mut scene = Scene::new(Options::default());
    scene.allow_only(80);
    scene.sync();
    for to in B {
        let at = SocketAddr::new(ip(to), 80);
        let [mut here, mut there] = scene.connect(at, &scene.listen(to, 80));
        // Nothing is allowed by a program that isolates everybody, so all entries go.
        let mut nobody = scene.cluster.clone();
        for pod in ["a", "b"] {
            nobody.upsert_policy(policy(pod, Some(vec![]), Some(vec![])));
        }
        let nobody = compile(&nobody, Scope::Node(name("n")));
        assert!(!scene.conntrack.revoke(&nobody).expect("revoked").cut.is_empty());
        assert!(!speaks(&mut there, &mut here), "whose connection is this?");
        here.write_all(b"ping").expect("buffered");
        there.read_exact(&mut [0; 4]).expect("the connection goes on");
        // What the server said is sent again.
        here.set_read_timeout(Some(SHORT * 20)).expect("set");
        here.read_exact(&mut [0; 4]).expect("the connection goes on");
    }
}

/// M5: a service address is translated before policies judge, and so are the entries.
fn translated_connections() {
    let mut scene = Scene::new(Options::default());
    scene.sync();
    // In a zone of their own, as on a host that tells tenants' addresses apart by them.
    let rules = "table ip zones { chain c { type filter hook prerouting priority raw;\n\
                 ct zone set 7\n}\n}\n\
                 table ip services { chain c { type nat hook prerouting priority dstnat;\n\
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
    let log = Some(Log { group: 5, per_second: Some(100), accepted: true });
    let options = Options { log, counters: true, ..Options::default() };
    let mut scene = Scene::new(options.clone());
    let listen = || Listener::open(5, &options.table).expect("opened");
    let mut listener = scene.testbed.in_node("n", listen).expect("a node");
    let before = scene.program();
    scene.allow_only(80);
    let program = scene.sync();
    for (from, to) in A.into_iter().zip(B) {
        let _allowed = scene.connect(SocketAddr::new(ip(to), 80), &scene.listen(to, 80));
        let to_81 = SocketAddr::new(ip(to), 81);
        let denied = scene.within("x/a", || TcpStream::connect_timeout(&to_81, SHORT).is_err());
        assert!(denied, "{from}");
        let mut heard = Vec::new();
        while let Some(report) = listener.wait(Some(Duration::from_millis(300))).expect("heard") {
            let Report::Packet(packet) = report else { panic!("{report:?}") };
            // Attempts of the same connection are repeated.
            if !heard.contains(&packet) {
                heard.push(packet);
            }
        }
        let expected = [(80, Outcome::Allowed, "allowed"), (81, Outcome::Denied, "denied")];
        assert_eq!(heard.len(), 2, "{heard:?}");
        for (packet, (port, outcome, word)) in heard.iter().zip(expected) {
            assert_eq!(packet.flow, Flow::new(ip(from), ip(to), Traffic::tcp(port)));
            assert_eq!(packet.prefix.direction, Direction::Ingress);
            assert_eq!(packet.prefix.outcome, outcome);
            // The prefix alone tells, also where nothing is known of the node.
            let resolved = resolve(&packet.prefix, &program).expect("of this program");
            let text = format!("ingress {word} by NetworkPolicy x/b; endpoints: x/b");
            assert_eq!(resolved.to_string(), text);
            assert!(resolve(&packet.prefix, &before).is_none(), "of another generation");
            let told = packet.explain(&program);
            assert!(told.agrees(), "{told}");
            assert!(told.to_string().contains("because NetworkPolicy x/b"), "{told}");
            assert!(!packet.explain(&before).agrees() || outcome == Outcome::Allowed);
        }
    }
    let counts = scene.kernel.counters(&program).expect("read");
    let allowed: u64 = counts.iter().map(|count| count.allowed.packets).sum();
    assert_eq!(allowed, 2, "{counts:?}");
    scene.sync();
    assert_eq!(scene.kernel.counters(&program).expect("read"), counts, "they survive");

    // Real changes around the rules that count: a peer more, and policies for somebody else.
    let mut peer = objects::pod("c", "elsewhere", &[ip("10.0.1.3"), ip("fd00::1:3")]);
    peer.labels = Labels::default().with("app", "a");
    scene.cluster.upsert_endpoint(peer);
    scene.sync();
    scene.isolate("a", Direction::Egress, "b", 80);
    let program = scene.sync();
    let received = |scene: &mut Scene| {
        let counts = scene.kernel.counters(&program).expect("read");
        let of_b = counts.into_iter().filter(|count| count.direction == Direction::Ingress);
        of_b.map(|count| (count.allowed, count.denied)).collect::<Vec<_>>()
    };
    let before: Vec<_> = counts.iter().map(|count| (count.allowed, count.denied)).collect();
    assert_eq!(received(&mut scene), before, "rules that a change does not touch go on counting");
    let _allowed = scene.connect(SocketAddr::new(ip(B[0]), 80), &scene.listen(B[0], 80));
    let after: u64 = received(&mut scene).iter().map(|(allowed, _)| allowed.packets).sum();
    assert_eq!(after, allowed + 1);
}
