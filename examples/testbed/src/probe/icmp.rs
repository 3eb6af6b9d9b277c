//! ICMP and ICMPv6: echo requests, and the messages by which probes of any kind are refused.

use std::io;
use std::net::IpAddr;

use socket2::Protocol;

use super::raw::{RawSocket, after_ipv4_header};
use super::wave::{Answers, Flow};
use super::{Outcome, Refusal};

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO_REQUEST: u8 = 8;
const V6_UNREACHABLE: u8 = 1;
const V6_ECHO_REQUEST: u8 = 128;
const V6_ECHO_REPLY: u8 = 129;

/// The length of an ICMP header, of both families.
const HEADER: usize = 8;
/// The length of an IPv6 header, and where it names the protocol.
const V6_HEADER: usize = 40;
const V6_NEXT_HEADER: usize = 6;
/// Where an IPv4 header names the protocol.
const V4_PROTOCOL: usize = 9;

/// All echo requests from one address, and the ears for what is refused to it.
#[derive(Debug)]
pub(crate) struct Client {
    socket: RawSocket,
    is_ipv4: bool,
}

impl Client {
    pub(crate) fn open(address: IpAddr) -> io::Result<Self> {
        let is_ipv4 = address.is_ipv4();
        let protocol = if is_ipv4 { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
        Ok(Client { socket: RawSocket::open(address, protocol)?, is_ipv4 })
    }

    /// Sends an echo request.
    pub(crate) fn send(&self, id: u16, to: IpAddr) -> io::Result<()> {
        let kind = if self.is_ipv4 { ECHO_REQUEST } else { V6_ECHO_REQUEST };
        let [id0, id1] = id.to_be_bytes();
        let mut message = [kind, 0, 0, 0, id0, id1, 0, 1];
        if self.is_ipv4 {
            // The kernel computes that of ICMPv6, but not this one.
            let checksum = checksum(&message);
            message[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
        self.socket.send(to, &message)
    }

    pub(crate) fn ready(&self, answers: &mut Answers) {
        self.socket.drain(|from, message| {
            let Some(&[kind, code, _, _, id0, id1, _, _]) = message.first_chunk() else { return };
            let refused = match (self.is_ipv4, kind) {
                (true, ECHO_REPLY) | (false, V6_ECHO_REPLY) => {
                    let id = u16::from_be_bytes([id0, id1]);
                    return answers.give(Flow::Echo(id), Outcome::Allowed);
                }
                (true, UNREACHABLE) => flow_of_ipv4(&message[HEADER..]),
                (false, V6_UNREACHABLE) => flow_of_ipv6(&message[HEADER..]),
                _ => return,
            };
            if let Some(flow) = refused {
                let refusal = Refusal::Unreachable { from, code };
                answers.give(flow, Outcome::Refused(refusal));
            }
        });
    }

    pub(crate) fn socket(&self) -> &RawSocket {
        &self.socket
    }
}

/// Which probe the beginning of an IPv4 packet belongs to.
fn flow_of_ipv4(packet: &[u8]) -> Option<Flow> {
    flow(*packet.get(V4_PROTOCOL)?, after_ipv4_header(packet)?)
}

/// Which probe the beginning of an IPv6 packet belongs to; probes have no extension headers.
fn flow_of_ipv6(packet: &[u8]) -> Option<Flow> {
    flow(*packet.get(V6_NEXT_HEADER)?, packet.get(V6_HEADER..)?)
}

fn flow(protocol: u8, payload: &[u8]) -> Option<Flow> {
    let number = |at: usize| Some(u16::from_be_bytes(payload.get(at..at + 2)?.try_into().ok()?));
    match Protocol::from(i32::from(protocol)) {
        Protocol::TCP => number(0).map(Flow::Tcp),
        Protocol::UDP => number(0).map(Flow::Udp),
        Protocol::SCTP => number(0).map(Flow::Sctp),
        Protocol::ICMPV4 | Protocol::ICMPV6 => number(4).map(Flow::Echo),
        _ => None,
    }
}

/// The checksum of the Internet protocols (RFC 1071) over an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let sum = bytes
        .chunks_exact(2)
        .fold(0_u32, |sum, pair| sum + u32::from(pair[0]) * 256 + u32::from(pair[1]));
    !((sum & 0xffff) + (sum >> 16)) as u16
}
