//! SCTP: the first two packets of an association (RFC 9260, sections 3.3.2 and 3.3.3).
//!
//! Many kernels are built without SCTP, so both ends speak it over raw sockets. Connection tracking
//! sees what it would see of a real association: it checks the checksum, the chunk types and the
//! verification tags.

use std::io;
use std::net::IpAddr;

use socket2::Protocol;

use super::Outcome;
use super::raw::RawSocket;
use super::wave::{Answers, Flow};

/// The length of the common header.
const COMMON: usize = 12;

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;

/// The parameter that an INIT ACK must have, with one word of content.
const STATE_COOKIE: [u8; 8] = [0, 7, 0, 8, b'n', b'p', b't', b'b'];

/// Answers the INIT chunks for every port of one address.
#[derive(Debug)]
pub(crate) struct Server(RawSocket);

impl Server {
    pub(crate) fn open(address: IpAddr) -> io::Result<Self> {
        RawSocket::open(address, Protocol::SCTP).map(Server)
    }

    pub(crate) fn ready(&self) {
        self.0.drain(|client, packet| {
            if let Some(init) = Packet::parse(packet)
                && init.chunk == INIT
            {
                let answer = Packet {
                    source: init.destination,
                    destination: init.source,
                    verification_tag: init.initiate_tag,
                    chunk: INIT_ACK,
                    initiate_tag: init.initiate_tag.wrapping_add(1).max(1),
                };
                // An answer that is dropped here is a denial for the client, which sends again.
                let _ = self.0.send(client, &answer.to_bytes());
            }
        });
    }

    pub(crate) fn socket(&self) -> &RawSocket {
        &self.0
    }
}

/// All probes from one address.
#[derive(Debug)]
pub(crate) struct Client(RawSocket);

impl Client {
    pub(crate) fn open(address: IpAddr) -> io::Result<Self> {
        RawSocket::open(address, Protocol::SCTP).map(Client)
    }

    pub(crate) fn send(&self, source: u16, to: IpAddr, port: u16) -> io::Result<()> {
        let init = Packet {
            source,
            destination: port,
            verification_tag: 0,
            chunk: INIT,
            initiate_tag: tag(source),
        };
        self.0.send(to, &init.to_bytes())
    }

    pub(crate) fn ready(&self, answers: &mut Answers) {
        self.0.drain(|_, packet| {
            // A kernel with SCTP knows nothing of our server and aborts what it did not open; that
            // is an answer from the destination as well.
            if let Some(answer) = Packet::parse(packet)
                && matches!(answer.chunk, INIT_ACK | ABORT)
                && answer.verification_tag == tag(answer.destination)
            {
                answers.give(Flow::Sctp(answer.destination), Outcome::Allowed);
            }
        });
    }

    pub(crate) fn socket(&self) -> &RawSocket {
        &self.0
    }
}

/// The tag by which a client wants to be addressed; never zero.
fn tag(source: u16) -> u32 {
    0x6e70_0000 | u32::from(source)
}

/// A packet with one chunk.
#[derive(Debug, PartialEq, Eq)]
struct Packet {
    source: u16,
    destination: u16,
    verification_tag: u32,
    chunk: u8,
    /// Zero in chunks that have none.
    initiate_tag: u32,
}

impl Packet {
    fn parse(bytes: &[u8]) -> Option<Packet> {
        let field = |at: usize| bytes.get(at..at + 4)?.try_into().ok();
        let [s0, s1, d0, d1] = field(0)?;
        Some(Packet {
            source: u16::from_be_bytes([s0, s1]),
            destination: u16::from_be_bytes([d0, d1]),
            verification_tag: u32::from_be_bytes(field(4)?),
            chunk: *bytes.get(COMMON)?,
            initiate_tag: field(COMMON + 4).map_or(0, u32::from_be_bytes),
        })
    }

    /// The packet of an INIT or INIT ACK chunk.
    fn to_bytes(&self) -> Vec<u8> {
        let (length, parameters): (u16, &[u8]) = match self.chunk {
            INIT_ACK => (28, &STATE_COOKIE),
            _ => (20, &[]),
        };
        let mut bytes = Vec::with_capacity(COMMON + usize::from(length));
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(self.verification_tag.to_be_bytes());
        bytes.extend([0; 4]); // checksum
        bytes.extend([self.chunk, 0]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(self.initiate_tag.to_be_bytes());
        bytes.extend(65_535_u32.to_be_bytes()); // receiver window
        bytes.extend(1_u16.to_be_bytes()); // outbound streams
        bytes.extend(1_u16.to_be_bytes()); // inbound streams
        bytes.extend(self.initiate_tag.to_be_bytes()); // initial TSN
        bytes.extend(parameters);
        let checksum = crc32c(&bytes);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

/// The checksum of SCTP (RFC 9260, appendix A), bit by bit: the packets are few and short.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn what_is_written_can_be_read() {
        for chunk in [INIT, INIT_ACK] {
            let packet = Packet {
                source: 10_000,
                destination: 80,
                verification_tag: 7,
                chunk,
                initiate_tag: tag(10_000),
            };
            assert_eq!(Packet::parse(&packet.to_bytes()), Some(packet));
        }
    }

    #[test]
    fn a_short_packet_is_no_packet() {
        assert_eq!(Packet::parse(&[0; COMMON]), None);
    }
}
