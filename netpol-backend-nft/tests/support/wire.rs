//! Packets with any addresses, in a namespace where every address is local.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use netpol_core::model::Traffic;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// Sends packets with any addresses, and sees which of them arrive.
pub(crate) struct Wire {
    /// By family: the sender, and a receiver per protocol.
    families: [(Socket, Vec<(u8, Socket)>); 2],
    /// Makes every packet a connection of its own.
    tag: u16,
}

impl Wire {
    pub(crate) fn new() -> Self {
        let open = |domain, protocol: u8| {
            let protocol = Some(Protocol::from(i32::from(protocol)));
            let socket = Socket::new(domain, Type::RAW, protocol).expect("raw socket");
            socket.set_nonblocking(true).expect("non-blocking");
            socket
        };
        const RAW: u8 = 255;
        let family = |domain, icmp| {
            let receivers =
                [icmp, TCP, UDP, SCTP].map(|protocol| (protocol, open(domain, protocol)));
            (open(domain, RAW), receivers.into())
        };
        Self { families: [family(Domain::IPV4, ICMP), family(Domain::IPV6, ICMPV6)], tag: 20_000 }
    }

    /// Whether the first packet of such a connection arrives.
    pub(crate) fn passes(&mut self, source: IpAddr, destination: IpAddr, traffic: Traffic) -> bool {
        self.tag += 1;
        let (protocol, transport) = transport(self.tag, source, destination, traffic);
        let packet = packet(source, destination, protocol, &transport);
        let [v4, v6] = &self.families;
        let (sender, receivers) = if source.is_ipv4() { v4 } else { v6 };
        let to = SockAddr::from(SocketAddr::new(destination, 0));
        match sender.send_to(&packet, &to) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return false,
            Err(error) => panic!("{source} -> {destination}: {error}"),
        }
        let mut arrived = false;
        for (_, receiver) in receivers.iter().filter(|(number, _)| *number == protocol) {
            let mut bytes = [0; 2048];
            while let Ok(length) = (&*receiver).read(&mut bytes) {
                arrived |= bytes[..length].ends_with(&transport);
            }
        }
        arrived
    }
}

/// The transport header of the first packet of a connection.
fn transport(tag: u16, source: IpAddr, destination: IpAddr, traffic: Traffic) -> (u8, Vec<u8>) {
    let tag = tag.to_be_bytes();
    let ports = |port: u16| [tag, port.to_be_bytes()].concat();
    match traffic {
        Traffic::Port(protocol, port) if protocol.number() == TCP => {
            // Sequence number, no acknowledgement, 20 bytes, SYN, window.
            let rest = [0, 0, tag[0], tag[1], 0, 0, 0, 0, 0x50, 0x02, 0x20, 0, 0, 0, 0, 0];
            (TCP, [ports(port).as_slice(), &rest].concat())
        }
        Traffic::Port(protocol, port) if protocol.number() == UDP => {
            (UDP, [ports(port).as_slice(), &[0, 12, 0, 0], &tag, &[0, 0]].concat())
        }
        Traffic::Port(_, port) => {
            // Verification tag 0, checksum, then an INIT chunk without parameters.
            let init = [1, 0, 0, 20, 0, 0, tag[0], tag[1], 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0];
            (SCTP, [ports(port).as_slice(), &[0; 8], &init].concat())
        }
        Traffic::Other(_) => {
            let (protocol, kind) = if source.is_ipv4() { (ICMP, 8) } else { (ICMPV6, 128) };
            let mut echo = vec![kind, 0, 0, 0, tag[0], tag[1], 0, 1];
            let pseudo = if source.is_ipv4() {
                Vec::new()
            } else {
                [octets(source), octets(destination), vec![0, 0, 0, 8, 0, 0, 0, ICMPV6]].concat()
            };
            let sum = checksum(&[pseudo, echo.clone()].concat());
            echo[2..4].copy_from_slice(&sum.to_be_bytes());
            (protocol, echo)
        }
    }
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
    let sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded")
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

/// Whether packets with this address travel as others do.
pub(crate) fn is_usable(address: IpAddr) -> bool {
    let broadcast = IpAddr::from([255; 4]);
    !address.is_unspecified() && !address.is_multicast() && address != broadcast
}
