//! What rules cost the first packet of a connection: time of the processor from the sender through
//! a forwarding node to the receiver, with rules that accept established connections and nothing
//! else, and with policies all of which select the receiver. The last of them allows the sender.
//! Beside them rules in the manner of kube-router and Calico for the same policies, written down from
//! what these programs write, with one pod on the node, but for the rules that drop invalid packets:
//! those that are sent here have no checksum. By both variants.
//!
//!     cargo bench -p netpol-backend-iptables --bench packets
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints its figures, and has nothing to do if it cannot"
)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use netpol_backend_iptables::{Iptables, Options, Variant};
use netpol_core::model::{
    Action, Endpoint, Labels, NamespaceScope, Options as Readings, Peer, Peers, PodSelector,
    Policy, PolicyKey, PolicyKind, PortMatch, PortRange, Ports, Protocol, Requirement, Rule,
    Selector, Subject, Tier, name,
};
use netpol_core::{Cluster, Scope, compile};
use netpol_testbed::{Node, Pod, Testbed, Topology};
use nix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol as IpProtocol, SockAddr, Socket, Type};

const ROUNDS: u16 = 13;
const PACKETS: u16 = 4000;
const SENDER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const RECEIVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PORT: u16 = 5432;
/// Pods of each kind that policies admit.
const PEERS: u32 = 100;
const KINDS: u32 = 50;

/// Whose rules.
#[derive(Clone, Copy)]
enum Rules {
    EstablishedOnly,
    Ours(u32),
    KubeRouter(u32),
    Calico(u32),
}

fn main() {
    netpol_testbed::enter().expect("network namespaces");
    println!("                                 ns per new connection   ratio");
    for variant in [Variant::Legacy, Variant::Nft] {
        measure(variant);
    }
}

fn measure(variant: Variant) {
    let scenes = [
        ("established only", Rules::EstablishedOnly),
        ("10 policies", Rules::Ours(10)),
        ("100 policies", Rules::Ours(100)),
        ("1000 policies", Rules::Ours(1000)),
        ("10000 policies", Rules::Ours(10_000)),
        ("kube-router, 10", Rules::KubeRouter(10)),
        ("kube-router, 1000", Rules::KubeRouter(1000)),
        ("Calico, 10", Rules::Calico(10)),
        ("Calico, 1000", Rules::Calico(1000)),
    ];
    let testbeds: Vec<Testbed> = scenes.iter().map(|(_, rules)| testbed(variant, *rules)).collect();
    let mut times = vec![Vec::new(); testbeds.len()];
    for round in 0..ROUNDS {
        // In turns, so that whatever else happens on the machine happens to all.
        for (testbed, times) in testbeds.iter().zip(&mut times) {
            times.push(testbed.in_pod("x/a", || flood(round)).expect("a pod"));
        }
    }
    for ((scene, _), testbed) in scenes.iter().zip(&testbeds) {
        let save = || call(&format!("iptables-{variant}-save -c -t filter"), "");
        let arrived = testbed.in_pod("x/b", save).expect("a pod");
        let sent = u64::from(ROUNDS) * u64::from(PACKETS);
        let all = arrived.lines().any(|line| line.contains(&format!("[{sent}:")));
        assert!(all, "{scene}: all packets were to arrive\n{arrived}");
    }
    let medians: Vec<f64> = times
        .into_iter()
        .map(|mut times| {
            times.sort_unstable();
            times[times.len() / 2].as_secs_f64() * 1e9 / f64::from(PACKETS)
        })
        .collect();
    for ((scene, _), median) in scenes.iter().zip(&medians) {
        let scene = format!("{variant}: {scene}");
        println!("{scene:>28} {median:>25.0} {:>9.3}", median / medians[0]);
    }
}

/// Two pods on one node, whose rules admit the one to the other; the other takes all and answers
/// nothing.
fn testbed(variant: Variant, rules: Rules) -> Testbed {
    let node = Node { name: "n".into(), addresses: vec![IpAddr::from([192, 168, 0, 1])] };
    let pod = |name: &str, address: Ipv4Addr| Pod {
        name: name.into(),
        node: "n".into(),
        addresses: vec![address.into()],
    };
    let pods = vec![pod("x/a", SENDER), pod("x/b", RECEIVER)];
    let topology = Topology { nodes: vec![node], pods, outside: Vec::new() };
    let testbed = Testbed::build(&topology, |_| ()).expect("a testbed");
    let load = |sets: &str, rules: &str| {
        call("ipset restore", sets);
        let text = format!("*filter\n{rules}COMMIT\n");
        call(&format!("iptables-{variant}-restore -w 5 --noflush"), &text);
    };
    testbed.in_pod("x/b", || load("", "-A INPUT -p tcp -j DROP\n")).expect("a pod");
    testbed
        .in_node("n", || match rules {
            Rules::EstablishedOnly => load("", &format!("-A FORWARD {ESTABLISHED} -j ACCEPT\n")),
            Rules::Ours(policies) => {
                let program = compile(&cluster(policies), Scope::Node(name("n")));
                let options = Options { variant, ..Options::default() };
                let mut kernel = Iptables::open(options).expect("the tools");
                kernel.sync(&program).expect("written");
            }
            Rules::KubeRouter(policies) => {
                let (sets, rules) = kube_router(policies);
                load(&sets, &rules);
            }
            Rules::Calico(policies) => {
                let (sets, rules) = calico(policies);
                load(&sets, &rules);
            }
        })
        .expect("a node");
    testbed
}

fn call(command: &str, input: &str) -> String {
    let mut words = command.split(' ');
    let mut child = Command::new(words.next().expect("a tool"))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tool runs");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{command}");
    String::from_utf8(output.stdout).expect("text")
}

const ESTABLISHED: &str = "-m conntrack --ctstate RELATED,ESTABLISHED";

/// Whom the policy of this number admits, and on which other port.
fn admits(number: u32, policies: u32) -> (Vec<Ipv4Addr>, u16) {
    let port = 1024 + u16::try_from(number % 500).unwrap_or_default();
    if number + 1 == policies {
        return (vec![SENDER], port);
    }
    let of_kind = (0..PEERS).map(|it| it * KINDS + number % KINDS);
    (of_kind.map(|it| Ipv4Addr::from_bits(0x0a01_0000 + it)).collect(), port)
}

/// Per policy a set of sources and one of destinations, and a chain that marks; the pod's chain goes
/// through all of them.
fn kube_router(policies: u32) -> (String, String) {
    let (mut sets, mut rules) = (String::new(), String::new());
    let mark = "-j MARK --set-xmark 0x10000/0x10000";
    for chain in ["KUBE-ROUTER-FORWARD", "KUBE-NWPLCY-COMMON", "KUBE-POD-FW"] {
        _ = writeln!(rules, ":{chain} - [0:0]");
    }
    _ = writeln!(rules, "-A KUBE-NWPLCY-COMMON {ESTABLISHED} -j ACCEPT");
    _ = writeln!(
        rules,
        "-A KUBE-POD-FW -m comment --comment \"common rules\" -j KUBE-NWPLCY-COMMON"
    );
    for number in 0..policies {
        let (sources, port) = admits(number, policies);
        let options = "hash:ip family inet hashsize 1024 maxelem 65536 timeout 0";
        _ = writeln!(
            sets,
            "create KUBE-SRC-{number} {options}\ncreate KUBE-DST-{number} {options}"
        );
        sources.iter().for_each(|it| _ = writeln!(sets, "add KUBE-SRC-{number} {it} timeout 0"));
        _ = writeln!(sets, "add KUBE-DST-{number} {RECEIVER} timeout 0");
        let chain = format!("KUBE-NWPLCY-{number}");
        _ = writeln!(rules, ":{chain} - [0:0]");
        for port in [PORT, port] {
            let matches = format!(
                "-p tcp -m comment --comment \"policy {number}\" -m set --match-set \
                 KUBE-SRC-{number} src -m set --match-set KUBE-DST-{number} dst -m tcp --dport {port}"
            );
            _ = writeln!(rules, "-A {chain} {matches} {mark}");
            _ = writeln!(rules, "-A {chain} {matches} -m mark --mark 0x10000/0x10000 -j RETURN");
        }
        let comment = format!("-m comment --comment \"jump to {number}\"");
        _ = writeln!(rules, "-A KUBE-POD-FW -d {RECEIVER} {comment} -j {chain}");
    }
    _ = writeln!(rules, "-A KUBE-POD-FW -m mark ! --mark 0x10000/0x10000 -j DROP");
    _ = writeln!(rules, "-A KUBE-POD-FW -j MARK --set-xmark 0x20000/0x20000");
    _ = writeln!(rules, "-A KUBE-ROUTER-FORWARD -d {RECEIVER} -j KUBE-POD-FW");
    _ = writeln!(rules, "-A KUBE-ROUTER-FORWARD -m mark --mark 0x20000/0x20000 -j ACCEPT");
    _ = writeln!(rules, "-A FORWARD -j KUBE-ROUTER-FORWARD");
    (sets, rules)
}

/// Per selector a set, per policy a chain that marks; the pod's chain goes through all of them until
/// one has.
fn calico(policies: u32) -> (String, String) {
    let (mut sets, mut rules) = (String::new(), String::new());
    let mut known = std::collections::BTreeSet::new();
    for chain in ["cali-FORWARD", "cali-to-wl-dispatch", "cali-tw-pod", "cali-gi-pod"] {
        _ = writeln!(rules, ":{chain} - [0:0]");
    }
    _ = writeln!(rules, "-A cali-tw-pod {ESTABLISHED} -j ACCEPT");
    _ = writeln!(rules, "-A cali-tw-pod -j MARK --set-xmark 0x0/0x30000");
    for number in 0..policies {
        let (sources, port) = admits(number, policies);
        let set = format!("cali40s-{}", if sources == [SENDER] { KINDS } else { number % KINDS });
        if known.insert(set.clone()) {
            _ = writeln!(sets, "create {set} hash:net family inet maxelem 1048576");
            sources.iter().for_each(|it| _ = writeln!(sets, "add {set} {it}"));
        }
        let chain = format!("cali-pi-{number}");
        let comment = format!("-m comment --comment \"cali:{number}\"");
        _ = writeln!(rules, ":{chain} - [0:0]");
        _ = writeln!(
            rules,
            "-A {chain} -p tcp {comment} -m set --match-set {set} src -m multiport --dports \
             {PORT},{port} -j MARK --set-xmark 0x10000/0x10000"
        );
        let done = "-m mark ! --mark 0x0/0x30000";
        if number > 0 && number % 5 == 0 {
            _ = writeln!(rules, "-A cali-gi-pod {comment} {done} -j RETURN");
        }
        let open = if number % 5 == 0 { "" } else { "-m mark --mark 0x0/0x30000 " };
        _ = writeln!(rules, "-A cali-gi-pod {comment} {open}-j {chain}");
    }
    _ = writeln!(rules, "-A cali-tw-pod -m mark --mark 0x0/0x20000 -j cali-gi-pod");
    _ = writeln!(rules, "-A cali-tw-pod -m mark --mark 0x10000/0x10000 -j RETURN");
    _ = writeln!(rules, "-A cali-tw-pod -j DROP");
    _ = writeln!(rules, "-A cali-to-wl-dispatch -d {RECEIVER} -g cali-tw-pod");
    _ = writeln!(rules, "-A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000");
    _ = writeln!(rules, "-A cali-FORWARD -j cali-to-wl-dispatch");
    _ = writeln!(rules, "-A FORWARD -j cali-FORWARD");
    _ = writeln!(rules, "-A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT");
    (sets, rules)
}

/// Policies that all select the receiver; the last one admits the sender.
fn cluster(policies: u32) -> Cluster {
    let mut cluster = Cluster::new(Readings::default());
    let mut upsert = |pod: &str, app: &str, node: &str, address: Ipv4Addr| {
        let mut endpoint = Endpoint::new("x", pod);
        endpoint.labels = Labels::default().with("app", app);
        endpoint.node = Some(name(node));
        endpoint.addresses = [IpAddr::V4(address)].into_iter().collect();
        cluster.upsert_endpoint(endpoint);
    };
    upsert("a", "sender", "n", SENDER);
    upsert("b", "receiver", "n", RECEIVER);
    for number in 0..PEERS * KINDS {
        let address = Ipv4Addr::from_bits(0x0a01_0000 + number);
        upsert(&format!("p{number}"), &format!("kind-{}", number % KINDS), "m", address);
    }
    for number in 0..policies {
        let last = number + 1 == policies;
        let peer = if last { "sender".to_owned() } else { format!("kind-{}", number % KINDS) };
        let ports = [PORT, 1024 + u16::try_from(number % 500).unwrap_or_default()];
        let ports = ports.map(|port| PortMatch::Range(Protocol::Tcp, PortRange::single(port)));
        let rule = Rule {
            name: None,
            action: Action::Accept,
            peers: Peers::AnyOf(vec![Peer::Pods(app(&peer))]),
            ports: Ports::AnyOf(ports.into()),
        };
        let kind = PolicyKind::NetworkPolicy;
        let key = PolicyKey { kind, namespace: name("x"), name: name(&format!("p{number}")) };
        cluster.upsert_policy(Policy {
            key,
            tier: Tier::NetworkPolicy,
            priority: 0,
            subject: Subject::Pods(app("receiver")),
            ingress: Some(vec![rule]),
            egress: None,
        });
    }
    cluster
}

fn app(app: &str) -> PodSelector {
    let pods = Selector::new([Requirement::is_in("app", [app])]);
    PodSelector { namespaces: NamespaceScope::Named(name("x")), pods }
}

/// Sends the first packets of connections, each from a port of its own. They are processed up to
/// the receiver by the time that sending returns.
fn flood(round: u16) -> Duration {
    const RAW: i32 = 255;
    let socket =
        Socket::new(Domain::IPV4, Type::RAW, Some(IpProtocol::from(RAW))).expect("a raw socket");
    let to = SockAddr::from(SocketAddr::new(RECEIVER.into(), 0));
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
    packet.extend([SENDER.octets(), RECEIVER.octets()].concat());
    packet.extend([[0, 0], PORT.to_be_bytes()].concat());
    packet.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x20, 0, 0, 0, 0, 0]);
    let start = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock");
    for number in 0..PACKETS {
        let port = 10_000 + round * PACKETS + number;
        packet[20..22].copy_from_slice(&port.to_be_bytes());
        socket.send_to(&packet, &to).expect("sent");
    }
    let end = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock");
    Duration::from(end) - Duration::from(start)
}
