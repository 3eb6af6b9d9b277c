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
    !bytes.chunks_exact(2).fold(0_u16, |sum, pair| {
        let (sum, carry) = sum.overflowing_add(u16::from_be_bytes([pair[0], pair[1]]));
        sum + u16::from(carry)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071, section 3.
    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn the_flow_of_a_refused_packet_is_found_behind_ip_options() {
        let mut packet = [0; 32];
        packet[0] = 0x46; // six words of header
        packet[V4_PROTOCOL] = 17;
        packet[24..26].copy_from_slice(&10_000_u16.to_be_bytes());
        assert_eq!(flow_of_ipv4(&packet), Some(Flow::Udp(10_000)));
    }

    #[test]
    fn a_refusal_that_is_cut_short_belongs_to_no_probe() {
        assert_eq!(flow_of_ipv4(&[0x45; 20]), None);
        assert_eq!(flow_of_ipv6(&[0x60; 41]), None);
    }
}
