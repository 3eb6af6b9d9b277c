//! What rules cost the first packet of a connection: time of the processor from the sender through
//! a forwarding node to the receiver, with rules that accept established connections and nothing
//! else, and with policies all of which select the receiver. The last of them allows the sender.
//!
//!     cargo bench -p netpol-backend-nft --bench packets
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints its figures, and has nothing to do if it cannot"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use netpol_backend_nft::ruleset::{
    Base, Chain, Family, Hook, Rule as NftRule, Ruleset, Statement, Table, Verdict,
};
use netpol_backend_nft::{Name, Nft, Options};
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

fn main() {
    netpol_testbed::enter().expect("network namespaces");
    let policies = [10, 100, 1000, 10_000];
    let mut testbeds = vec![("established only".to_owned(), testbed(None))];
    for count in policies {
        testbeds.push((format!("{count} policies"), testbed(Some(count))));
    }
    let mut times = vec![Vec::new(); testbeds.len()];
    for round in 0..ROUNDS {
        // In turns, so that whatever else happens on the machine happens to all.
        for ((_, testbed), times) in testbeds.iter().zip(&mut times) {
            times.push(testbed.in_pod("x/a", || flood(round)).expect("a pod"));
        }
    }
    for (name, testbed) in &testbeds {
        let status = || Nft::open(Options::default())?.status();
        let status = testbed.in_node("n", status).expect("a node").expect("read");
        let denied = status.tables.values().map(|table| table.denied_ingress.packets);
        assert_eq!(denied.sum::<u64>(), 0, "{name}: all packets were to pass");
    }
    let medians: Vec<f64> = times
        .into_iter()
        .map(|mut times| {
            times.sort_unstable();
            times[times.len() / 2].as_secs_f64() * 1e9 / f64::from(PACKETS)
        })
        .collect();
    println!("                      ns per new connection   ratio");
    for ((name, _), median) in testbeds.iter().zip(&medians) {
        println!("{name:>20} {median:>22.0} {:>9.3}", median / medians[0]);
    }
}

/// Two pods on one node, whose rules admit the one to the other; the other takes all and answers
/// nothing.
fn testbed(policies: Option<u32>) -> Testbed {
    let node = Node { name: "n".into(), addresses: vec![IpAddr::from([192, 168, 0, 1])] };
    let pod = |name: &str, address: Ipv4Addr| Pod {
        name: name.into(),
        node: "n".into(),
        addresses: vec![address.into()],
    };
    let pods = vec![pod("x/a", SENDER), pod("x/b", RECEIVER)];
    let topology = Topology { nodes: vec![node], pods, outside: Vec::new() };
    let testbed = Testbed::build(&topology, |_| ()).expect("a testbed");
    let apply = |ruleset| {
        let mut kernel = Nft::open(Options::default()).expect("nf_tables");
        kernel.apply(ruleset).expect("written");
    };
    let swallow = single(Hook::Input, [Statement::Verdict(Verdict::Drop)].into());
    testbed.in_pod("x/b", || apply(swallow)).expect("a pod");
    let accept = [Statement::Established, Statement::Verdict(Verdict::Accept)];
    testbed
        .in_node("n", || match policies {
            None => apply(single(Hook::Forward, accept.into())),
            Some(policies) => {
                let program = compile(&cluster(policies), Scope::Node(name("n")));
                let mut kernel = Nft::open(Options::default()).expect("nf_tables");
                kernel.sync(&program).expect("written");
            }
        })
        .expect("a node");
    testbed
}

fn single(hook: Hook, rule: NftRule) -> Ruleset {
    let base = Some(Base { hook, priority: 0 });
    let chain = Chain { base, rules: vec![rule], ..Chain::default() };
    let named = |text| Name::new(text).expect("a name");
    let chains = BTreeMap::from([(named("chain"), chain)]);
    let table = Table { chains, ..Table::default() };
    Ruleset { name: named("netpol"), tables: BTreeMap::from([(Family::V4, table)]) }
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
