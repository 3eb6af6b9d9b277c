//! Packets with any addresses, and which of them arrive.
//!
//! A packet that has been sent need not have arrived: on a busy machine the kernel may put off its
//! way through the rules. But the packets of one processor keep their order. So the sender stays on
//! one, and sends a *fence* behind every burst: a packet that no endpoint's rules judge. When the
//! fence is there, all that was sent before it has arrived, or never will.
#![allow(dead_code, reason = "every test binary uses its own part")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use netpol_backend_nft::Interface;
use netpol_core::model::{End, Flow, Protocol, Traffic};
use netpol_testbed::{Node, Place, Pod, Testbed, Topology};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use socket2::{Domain, SockAddr, Socket, Type};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const GRE: u8 = 47;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
/// What packets are sent by: they come with all their headers.
const RAW: u8 = 255;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// From where to where fences go: addresses that are kept for benchmarks (RFC 2544).
pub(crate) const FENCE: [Ipv4Addr; 2] =
    [Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 0, 2)];
/// Longer than any machine holds up a packet.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where source ports begin, and how many there are; no flow goes to any of them.
const SOURCE_PORTS: [u32; 2] = [20_000, 40_000];

/// The first packet of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Probe {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) traffic: Traffic,
}

impl Probe {
    /// The probe for a flow, if there can be such packets and they travel as others do.
    pub(crate) fn of(flow: &Flow) -> Option<Self> {
        let (End::Address(source), End::Address(destination)) = (&flow.source, &flow.destination)
        else {
            return None;
        };
        let of_family = match flow.traffic {
            Traffic::ICMP => source.is_ipv4(),
            Traffic::ICMPV6 => source.is_ipv6(),
            _ => true,
        };
        let same_family = source.is_ipv4() == destination.is_ipv4();
        let usable = same_family && of_family && is_usable(*source) && is_usable(*destination);
        let (source, destination) = (*source, *destination);
        usable.then_some(Self { source, destination, traffic: flow.traffic })
    }
}

/// Whether packets with this address travel as others do.
fn is_usable(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !address.is_unspecified() && !address.is_loopback() && !address.is_multicast() && !link_local
}

/// Sends packets with any addresses, and sees which of them arrive.
#[derive(Debug)]
pub(crate) struct Wire {
    /// For IPv4, and for IPv6.
    senders: [Socket; 2],
    /// With the protocol whose packets a socket is given; all, with their headers, if there is none.
    receivers: Vec<(Option<u8>, Socket)>,
    /// Whether every packet is a connection of its own, as it has to be where receivers answer.
    fresh: bool,
    sent: u32,
    /// How many bursts were not there yet when all of them had been sent.
    pub(crate) late: usize,
}

impl Wire {
    /// Within the namespace of the calling thread, where [every address is local]
    /// (everything_is_local): through the output hook, the loopback device and the input hook.
    pub(crate) fn within() -> Self {
        let families = [(Domain::IPV4, ICMP), (Domain::IPV6, ICMPV6)];
        let receivers = families.into_iter().flat_map(|(domain, icmp)| {
            [icmp, TCP, UDP, SCTP, GRE].map(|protocol| (Some(protocol), raw(domain, protocol)))
        });
        Self::new(senders(), receivers.collect(), true)
    }

    /// From one namespace to another, through the forward hook of the node `n` in between.
    pub(crate) fn through_a_node() -> (Testbed, Self) {
        let node = Node { name: "n".into(), addresses: vec![IpAddr::from([192, 0, 2, 1])] };
        let addresses = vec![FENCE[0].into(), "2001:2::1".parse().expect("an address")];
        let pod = Pod { name: "x/sender".into(), node: "n".into(), addresses };
        let topology = Topology { nodes: vec![node], pods: vec![pod], outside: Vec::new() };
        let testbed = Testbed::build(&topology, |_| ()).expect("a testbed");
        let senders = testbed.in_pod("x/sender", senders).expect("a pod");
        // These see a packet before anybody could answer it; nobody can, since there is no way back.
        let sniffer = |ethertype: u16| {
            let protocol = socket2::Protocol::from(i32::from(ethertype.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)).expect("opened");
            socket.set_nonblocking(true).expect("non-blocking");
            (None, socket)
        };
        let receivers = || [ETHERTYPE_IPV4, ETHERTYPE_IPV6].map(sniffer).into();
        let receivers = testbed.in_place(&Place::Outside, receivers).expect("the outside");
        (testbed, Self::new(senders, receivers, false))
    }

    fn new(senders: [Socket; 2], receivers: Vec<(Option<u8>, Socket)>, fresh: bool) -> Self {
        let mut wire = Self { senders, receivers, fresh, sent: 0, late: 0 };
        // Neighbours have to be found once.
        wire.stay();
        wire.burst(&[]);
        wire
    }

    /// Keeps the calling thread on one processor. To be called by the thread that sends.
    pub(crate) fn stay(&self) {
        let this = Pid::from_raw(0);
        let allowed = sched_getaffinity(this).expect("asked");
        let current = sched_getcpu().ok().filter(|it| allowed.is_set(*it).unwrap_or(false));
        let first = (0..CpuSet::count()).find(|it| allowed.is_set(*it).unwrap_or(false));
        let mut one = CpuSet::new();
        one.set(current.or(first).expect("a processor")).expect("set");
        sched_setaffinity(this, &one).expect("pinned");
    }

    /// Which of the packets arrive, in their order. Some 100 at most: they have to fit into the
    /// receive buffers.
    pub(crate) fn burst(&mut self, probes: &[Probe]) -> Vec<bool> {
        let first = self.sent;
        let [source, destination] = FENCE.map(IpAddr::from);
        let fence = Probe { source, destination, traffic: Traffic::udp(9) };
        let packets = probes.iter().chain([&fence]).map(|probe| self.send(*probe));
        let mut burst = Burst { first, packets: packets.collect(), arrived: Vec::new() };
        burst.arrived.resize(burst.packets.len(), false);
        let start = Instant::now();
        self.receive(&mut burst);
        self.late += usize::from(!burst.is_over());
        while !burst.is_over() {
            assert!(start.elapsed() < PATIENCE, "a packet that nobody judges does not arrive");
            self.wait();
            self.receive(&mut burst);
        }
        // The fence may have come between the look at one socket and at the other.
        self.receive(&mut burst);
        burst.arrived.pop();
        burst.arrived
    }

    /// Whether the first packet of such a connection arrives.
    pub(crate) fn passes(&mut self, probe: Probe) -> bool {
        self.burst(&[probe]) == [true]
    }

    /// Sends a packet. What has to arrive of it, unless it is dropped where it comes from.
    fn send(&mut self, probe: Probe) -> Option<(u8, Vec<u8>)> {
        let Probe { source, destination, traffic } = probe;
        let id = self.sent;
        self.sent = id.wrapping_add(1);
        let [base, count] = SOURCE_PORTS;
        let port = base + if self.fresh { id % count } else { 0 };
        let port = u16::try_from(port).expect("a port");
        let (protocol, transport) = transport(id, port, source, destination, traffic);
        let packet = packet(source, destination, protocol, &transport);
        let [v4, v6] = &self.senders;
        let sender = if source.is_ipv4() { v4 } else { v6 };
        let to = SockAddr::from(SocketAddr::new(destination, 0));
        match sender.send_to(&packet, &to) {
            Ok(_) => Some((protocol, transport)),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => None,
            Err(error) => panic!("{source} -> {destination}: {error}"),
        }
    }

    /// Finds out what has arrived.
    fn receive(&self, burst: &mut Burst) {
        let mut bytes = [0; 2048];
        for (protocol, receiver) in &self.receivers {
            let mut receiver = receiver;
            while let Ok(length) = receiver.read(&mut bytes) {
                let bytes = &bytes[..length];
                let protocol = protocol.or_else(|| match bytes.first()? >> 4 {
                    4 => bytes.get(9).copied(),
                    _ => bytes.get(6).copied(),
                });
                if let Some(protocol) = protocol {
                    burst.enter(protocol, bytes);
                }
            }
        }
    }

    /// Waits until there is something to receive, for a moment at most.
    fn wait(&self) {
        let mut fds: Vec<_> = self
            .receivers
            .iter()
            .map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        _ = poll(&mut fds, PollTimeout::from(10_u8));
    }
}

/// Packets that are under way together.
struct Burst {
    /// The id of the first of them; the others follow.
    first: u32,
    /// What has to arrive of each, with its protocol. The last is the fence.
    packets: Vec<Option<(u8, Vec<u8>)>>,
    arrived: Vec<bool>,
}

impl Burst {
    /// A packet has arrived.
    fn enter(&mut self, protocol: u8, bytes: &[u8]) {
        let Some(id) = bytes.last_chunk().copied().map(u32::from_be_bytes) else { return };
        let at = id.wrapping_sub(self.first) as usize;
        // Answers and errors may quote what they are about.
        let is_it = self
            .packets
            .get(at)
            .and_then(Option::as_ref)
            .is_some_and(|(of, transport)| protocol == *of && bytes.ends_with(transport));
        if is_it {
            self.arrived[at] = true;
        }
    }

    fn is_over(&self) -> bool {
        self.arrived.last() == Some(&true)
    }
}

fn raw(domain: Domain, protocol: u8) -> Socket {
    let protocol = Some(socket2::Protocol::from(i32::from(protocol)));
    let socket = Socket::new(domain, Type::RAW, protocol).expect("raw socket");
    socket.set_nonblocking(true).expect("non-blocking");
    socket
}

fn senders() -> [Socket; 2] {
    [Domain::IPV4, Domain::IPV6].map(|domain| raw(domain, RAW))
}

/// The first packet of a connection, without its network header; it ends with the id.
fn transport(
    id: u32,
    port: u16,
    source: IpAddr,
    destination: IpAddr,
    traffic: Traffic,
) -> (u8, Vec<u8>) {
    let id = id.to_be_bytes();
    let port = port.to_be_bytes();
    let ports = |to: u16| [port, to.to_be_bytes()].concat();
    let (protocol, mut bytes, checksum_at) = match traffic {
        Traffic::Port(Protocol::Tcp, to) => {
            // Sequence number, no acknowledgement, 20 bytes, SYN, window, checksum, urgent pointer.
            let rest = [0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x20, 0, 0, 0, 0, 0];
            (TCP, [ports(to).as_slice(), &rest, &id].concat(), Some(16))
        }
        Traffic::Port(Protocol::Udp, to) => {
            (UDP, [ports(to).as_slice(), &[0, 12, 0, 0], &id].concat(), Some(6))
        }
        Traffic::Port(Protocol::Sctp, to) => {
            // Verification tag 0, checksum, then an INIT chunk with a parameter to be ignored.
            let init =
                [1, 0, 0, 28, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0xc0, 0xfe, 0, 8];
            let mut bytes = [ports(to).as_slice(), &[0; 8], &init, &id].concat();
            let checksum = crc32c(&bytes);
            bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
            (SCTP, bytes, None)
        }
        Traffic::ICMP => (ICMP, [&[8, 0, 0, 0], &port[..], &[0, 1], &id].concat(), Some(2)),
        Traffic::ICMPV6 => (ICMPV6, [&[128, 0, 0, 0], &port[..], &[0, 1], &id].concat(), Some(2)),
        // No flags, no version, an experimental payload type.
        Traffic::Other(number) => (number, [&[0, 0, 0x88, 0xb5], &id[..]].concat(), None),
    };
    if let Some(at) = checksum_at {
        let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
        let pseudo = match protocol {
            ICMP => Vec::new(),
            _ => {
                let ends = [octets(source), octets(destination)].concat();
                [ends, length.into(), vec![0, 0, 0, protocol]].concat()
            }
        };
        let sum = checksum(&[pseudo, bytes.clone()].concat());
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    (protocol, bytes)
}

fn packet(source: IpAddr, destination: IpAddr, protocol: u8, transport: &[u8]) -> Vec<u8> {
    let length = u16::try_from(transport.len()).expect("short");
    let header = if source.is_ipv4() {
        let [high, low] = (length + 20).to_be_bytes();
        vec![0x45, 0, high, low, 0, 0, 0, 0, 64, protocol, 0, 0]
    } else {
        let [high, low] = length.to_be_bytes();
        vec![0x60, 0, 0, 0, high, low, protocol, 64]
    };
    [header, octets(source), octets(destination), transport.to_vec()].concat()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The Internet checksum.
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let sum: u32 = bytes.chunks(2).map(word).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded")
}

/// The checksum of SCTP (RFC 9260, appendix A).
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

/// The interfaces of the node in between by which packets come in and go out.
pub(crate) fn interfaces(testbed: &Testbed) -> [Interface; 2] {
    let routes = || std::fs::read_to_string("/proc/thread-self/net/route").expect("routes");
    let routes = testbed.in_node("n", routes).expect("a node");
    // Of 198.18.0.1, where fences come from, and of all the others.
    ["010012C6", "00000000"].map(|destination| {
        let mut routes = routes.lines().map(|route| route.split_whitespace());
        let name =
            routes.find_map(|mut route| route.next().filter(|_| route.next() == Some(destination)));
        Interface::new(name.expect("a route")).expect("an interface")
    })
}

/// Makes every address local to the namespace of the calling thread.
pub(crate) fn everything_is_local() -> bool {
    let commands =
        ["link set lo up", "route add local default dev lo", "-6 route add local default dev lo"];
    commands.iter().all(|command| {
        let status = Command::new("ip").args(command.split(' ')).status();
        status.is_ok_and(|status| status.success())
    })
}
