//! The way from a sender through a node to a receiver, and the time that packets take on it.
//!
//! Frames are handed to the sender's device in batches, and the kernel carries each of them through the node to the
//! receiver's device before it takes the next: all in the time of the thread that sends. That time is what counts, so
//! that others on the machine disturb caches only. At the receiver's device everything ends: no socket and no stack
//! is part of what is measured.

use std::io::{IoSlice, Write};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netpol_testbed::{Node, Pod, Testbed, Topology};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockType, bind, sendmmsg, socket,
};
use nix::time::{ClockId, clock_gettime};

/// How many frames are handed over together.
const BATCH: usize = 64;
/// The ports that packets come from, each a connection of its own.
const SOURCE_PORTS: std::ops::Range<u16> = 1024..65_000;
/// What may come on top of the packets that were sent: neighbours have to be found.
const NEIGHBOURS: u64 = 100;

/// A sender, a node and a receiver.
#[derive(Debug)]
pub struct Road {
    testbed: Testbed,
    ends: [End; 2],
    conntrack: netlink_sys::Socket,
    /// How many packets have to have arrived by now.
    expected: u64,
    sent: u64,
}

/// The sender's or the receiver's device.
#[derive(Debug)]
struct End {
    socket: OwnedFd,
    address: IpAddr,
    own: [u8; 6],
    /// The node's end of the link.
    gateway: [u8; 6],
}

/// Packets of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packets {
    /// Where they come from; the sender, unless they are of somebody else.
    pub source: IpAddr,
    /// To which TCP port.
    pub port: u16,
    /// The first of a connection each, or all of one that both ends have opened.
    pub kind: Kind,
    /// Whether the rules let them through.
    pub pass: bool,
}

/// What kind of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first packet of a connection each.
    New,
    /// Packets of one connection that both ends have opened.
    Established,
}

impl Road {
    /// Makes the namespaces, as yet without rules on the node.
    pub fn build(sender: IpAddr, receiver: IpAddr) -> Result<Self> {
        let on_node = [IpAddr::from([192, 168, 0, 1]), "fd01::1".parse().context("an address")?];
        let node = Node { name: "node".to_owned(), addresses: on_node.to_vec() };
        let pods = [("sender", sender), ("receiver", receiver)].map(|(name, address)| Pod {
            name: name.to_owned(),
            node: "node".to_owned(),
            addresses: vec![address],
        });
        let topology = Topology { nodes: vec![node], pods: pods.into(), outside: Vec::new() };
        let testbed = Testbed::build(&topology, |_| ())?;
        // What forwards packets to an end finds out its address by these; it must not be dropped.
        let sink = "table netdev sink { chain sink { type filter hook ingress device eth0 priority 0; \
                    meta l4proto tcp drop; }; }";
        let gateways = testbed.in_node("node", pod_links)??;
        let mut ends = Vec::new();
        for ((pod, address), (_, gateway)) in
            [("sender", sender), ("receiver", receiver)].into_iter().zip(gateways)
        {
            let end = testbed.in_pod(pod, || -> Result<End> {
                feed(Command::new("nft").args(["-f", "-"]), sink)?;
                End::open(address, gateway)
            })??;
            ends.push(end);
        }
        let Ok(ends) = <[End; 2]>::try_from(ends) else { bail!("a pod has no link") };
        let conntrack =
            testbed.in_node("node", || netlink_sys::Socket::new(NETLINK_NETFILTER))??;
        Ok(Self { testbed, ends, conntrack, expected: 0, sent: 0 })
    }

    /// Runs something inside of the node.
    pub fn in_node<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.testbed.in_node("node", work)
    }

    /// The node's ends of the links to the sender and to the receiver.
    pub fn devices(&self) -> Result<[String; 2]> {
        let names = self.in_node(pod_links)??.into_iter().map(|(name, _)| name);
        <[String; 2]>::try_from(names.collect::<Vec<_>>()).ok().context("a pod has no link")
    }

    /// Sends so many packets, or fewer if that takes longer than the time; tells what one took.
    pub fn sample(&mut self, packets: &Packets, count: usize, most: Duration) -> Result<f64> {
        self.forget_connections()?;
        let [from, to] = &self.ends;
        let mut frame = Frame {
            macs: [from.gateway, from.own],
            ends: [packets.source, to.address],
            ports: [SOURCE_PORTS.start, packets.port],
            flags: Flags::Syn,
        };
        let mut frames = vec![frame.bytes(); BATCH];
        let mut headers = MultiHeaders::preallocate(BATCH, None);
        if packets.kind == Kind::Established {
            let answer = Frame {
                macs: [to.gateway, to.own],
                ends: [to.address, packets.source],
                ports: [packets.port, SOURCE_PORTS.start],
                flags: Flags::SynAck,
            };
            from.send(&mut headers, &frames[..1])?;
            to.send(&mut headers, &[answer.bytes()])?;
            frame.flags = Flags::Ack;
            frames.fill(frame.bytes());
        }
        let mut ports = SOURCE_PORTS;
        let mut sent = 0;
        let begun = Instant::now();
        let start = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
        while sent < count && begun.elapsed() < most {
            if packets.kind == Kind::New {
                for (bytes, port) in frames.iter_mut().zip(&mut ports) {
                    frame.come_from(port, bytes);
                }
            }
            from.send(&mut headers, &frames)?;
            sent += BATCH;
        }
        let end = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
        let time = Duration::from(end).saturating_sub(Duration::from(start));
        ensure!(sent <= SOURCE_PORTS.len(), "there are not so many ports");
        let all = sent as u64 + u64::from(packets.kind == Kind::Established);
        self.sent += all;
        self.expected += if packets.pass { all } else { 0 };
        Ok(crate::timing::nanoseconds(time, sent))
    }

    /// Fails unless exactly those packets have arrived that the rules let through.
    pub fn check(&self) -> Result<()> {
        let arrived = self.testbed.in_pod("receiver", || -> Result<u64> {
            let text = std::fs::read_to_string("/proc/thread-self/net/dev")?;
            let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:"));
            let packets = line.and_then(|line| line.split_whitespace().nth(1));
            Ok(packets.context("no eth0")?.parse()?)
        })??;
        let right = self.expected..self.expected + NEIGHBOURS;
        ensure!(
            right.contains(&arrived),
            "of {} packets {arrived} arrive, not {}",
            self.sent,
            self.expected
        );
        Ok(())
    }

    fn forget_connections(&self) -> Result<()> {
        /// Length, delete of conntrack's, request with acknowledgement; for all families.
        const FORGET: [u8; 20] = [20, 0, 0, 0, 2, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        self.conntrack.send(&FORGET, 0)?;
        let (answer, _) = self.conntrack.recv_from_full()?;
        ensure!(answer.get(16..20) == Some(&[0; 4]), "the kernel keeps its connections");
        Ok(())
    }
}

/// The node's ends of the links to the pods, in the order in which they were made.
fn pod_links() -> Result<Vec<(String, [u8; 6])>> {
    let mut links: Vec<(String, LinkAddr)> = getifaddrs()?
        .filter(|it| it.interface_name.starts_with("pod"))
        .filter_map(|it| Some((it.interface_name, *it.address?.as_link_addr()?)))
        .collect();
    links.sort_by_key(|(_, link)| link.ifindex());
    let with_address = links.into_iter().filter_map(|(name, link)| Some((name, link.addr()?)));
    Ok(with_address.collect())
}

impl End {
    fn open(address: IpAddr, gateway: [u8; 6]) -> Result<Self> {
        let link = getifaddrs()?
            .filter(|it| it.interface_name == "eth0")
            .find_map(|it| it.address?.as_link_addr().copied())
            .context("no eth0")?;
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None)?;
        bind(socket.as_raw_fd(), &link)?;
        Ok(Self { socket, address, own: link.addr().context("no address")?, gateway })
    }

    fn send(&self, headers: &mut MultiHeaders<LinkAddr>, frames: &[Vec<u8>]) -> Result<()> {
        let slices: Vec<[IoSlice<'_>; 1]> = frames.iter().map(|it| [IoSlice::new(it)]).collect();
        let nowhere = [None; BATCH];
        sendmmsg(self.socket.as_raw_fd(), headers, &slices, nowhere, [], MsgFlags::empty())?;
        Ok(())
    }
}

/// A TCP packet on an Ethernet.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// To whom, and from whom.
    macs: [[u8; 6]; 2],
    /// From where, and to where.
    ends: [IpAddr; 2],
    ports: [u16; 2],
    flags: Flags,
}

/// Where in a connection a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flags {
    Syn,
    SynAck,
    Ack,
}

const TCP: u8 = 6;
const TCP_LENGTH: u8 = 20;

impl Frame {
    fn bytes(&self) -> Vec<u8> {
        let (flags, sequence, acknowledged): (u8, u32, u32) = match self.flags {
            Flags::Syn => (0x02, 1, 0),
            Flags::SynAck => (0x12, 1, 2),
            Flags::Ack => (0x10, 2, 2),
        };
        let [to, from] = self.macs;
        let mut bytes = [to, from].concat();
        match self.ends {
            [IpAddr::V4(source), IpAddr::V4(destination)] => {
                bytes.extend([8, 0]);
                let head = [0x45, 0, 0, 20 + TCP_LENGTH, 0, 0, 0, 0, 64, TCP, 0, 0];
                let mut head = [&head[..], &source.octets(), &destination.octets()].concat();
                let sum = checksum(&head);
                head[10..12].copy_from_slice(&sum);
                bytes.extend(head);
            }
            [source, destination] => {
                bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, TCP_LENGTH, TCP, 64]);
                bytes.extend(octets(source));
                bytes.extend(octets(destination));
            }
        }
        bytes.extend([0, 0]);
        bytes.extend(self.ports[1].to_be_bytes());
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(acknowledged.to_be_bytes());
        bytes.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
        self.come_from(self.ports[0], &mut bytes);
        bytes
    }

    /// Makes the frame of another connection of it.
    fn come_from(&self, port: u16, bytes: &mut [u8]) {
        let at = bytes.len() - usize::from(TCP_LENGTH);
        bytes[at..at + 2].copy_from_slice(&port.to_be_bytes());
        bytes[at + 16..at + 18].fill(0);
        let pseudo = [0, TCP, 0, TCP_LENGTH];
        // Both addresses are just before the ports.
        let addresses = if self.ends[0].is_ipv4() { 8 } else { 32 };
        let sum = fold(sum(&pseudo) + sum(&bytes[at - addresses..]));
        bytes[at + 16..at + 18].copy_from_slice(&sum);
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The Internet checksum.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    fold(sum(bytes))
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum()
}

fn fold(sum: u32) -> [u8; 2] {
    let once = (sum & 0xffff) + (sum >> 16);
    let twice = (once & 0xffff) + (once >> 16);
    let [.., high, low] = (!twice).to_be_bytes();
    [high, low]
}

/// Runs a tool in the namespace of the calling thread and feeds it a script.
pub fn feed(command: &mut Command, script: &str) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("running {command:?}"))?;
    child.stdin.take().context("no input")?.write_all(script.as_bytes())?;
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {error}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum over everything that a checksum covers, itself included, is all ones.
    #[test]
    fn checksums_are_right() {
        let v4 = [[10, 0, 0, 1], [10, 9, 200, 2]].map(IpAddr::from);
        let v6 = [[0xfd00, 0, 0, 0, 0, 0, 0, 1], [0xfd00, 0, 0, 7, 0, 0, 0, 2]].map(IpAddr::from);
        for (ends, addresses) in [(v4, 8), (v6, 32)] {
            let frame = Frame { macs: [[1; 6], [2; 6]], ends, ports: [1, 5432], flags: Flags::Syn };
            let mut bytes = frame.bytes();
            for port in [1, 4711, 65_535] {
                frame.come_from(port, &mut bytes);
                let covered = &bytes[bytes.len() - usize::from(TCP_LENGTH) - addresses..];
                assert_eq!(fold(sum(&[0, TCP, 0, TCP_LENGTH]) + sum(covered)), [0, 0], "{port}");
            }
            if ends[0].is_ipv4() {
                assert_eq!(checksum(&bytes[14..34]), [0, 0]);
            }
        }
    }
}
