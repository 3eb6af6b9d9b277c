use std::fmt;
use std::net::IpAddr;

use super::{Name, Protocol};

/// One new connection to judge (M1): who begins it, with whom, and by what.
///
/// Addresses and port are those after service translation to the endpoint and before source translation (M5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The end that begins the connection.
    pub source: End,
    /// The end it is made to.
    pub destination: End,
    /// Protocol and destination port.
    pub traffic: Traffic,
    /// It is made to the address of a service, which leads to the destination. That makes a difference only where an
    /// endpoint reaches itself that way (C-HAIR-2), which two addresses do not tell from direct traffic (C-HAIR-1).
    pub via_service: bool,
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// Whatever has this address.
    Address(IpAddr),
    /// An endpoint by name, judged without regard to its addresses: how to ask before it has any.
    Endpoint {
        /// The endpoint's namespace.
        namespace: Name,
        /// The endpoint's name.
        name: Name,
    },
}

/// The protocol of a packet and, where it has one, its destination port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Traffic {
    /// One of the protocols that policies name, to this port.
    Port(Protocol, u16),
    /// Any other IP protocol by its number, such as ICMP.
    Other(u8),
}

/// The side of a connection, seen from the pod that a policy selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From the subject.
    Egress,
    /// To the subject.
    Ingress,
}

impl Flow {
    /// A direct connection between two addresses. An IPv4 address in IPv6 clothing, as sockets for both families tell
    /// it, is the IPv4 address.
    pub fn new(source: IpAddr, destination: IpAddr, traffic: Traffic) -> Self {
        let end = |address: IpAddr| End::Address(address.to_canonical());
        Self::between(end(source), end(destination), traffic)
    }

    /// A direct connection.
    pub fn between(source: End, destination: End, traffic: Traffic) -> Self {
        Self { source, destination, traffic, via_service: false }
    }

    /// The same connection, made to the address of a service.
    #[must_use]
    pub fn through_service(self) -> Self {
        Self { via_service: true, ..self }
    }
}

impl Traffic {
    /// IP protocol number of ICMP.
    pub const ICMP: Self = Self::Other(1);
    /// IP protocol number of ICMPv6.
    pub const ICMPV6: Self = Self::Other(58);

    /// To a TCP port.
    pub fn tcp(port: u16) -> Self {
        Self::Port(Protocol::Tcp, port)
    }

    /// To a UDP port.
    pub fn udp(port: u16) -> Self {
        Self::Port(Protocol::Udp, port)
    }

    /// To an SCTP port.
    pub fn sctp(port: u16) -> Self {
        Self::Port(Protocol::Sctp, port)
    }
}

impl Direction {
    /// Both, in the order in which a connection passes them.
    pub const ALL: [Self; 2] = [Self::Egress, Self::Ingress];
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Endpoint { namespace, name } => write!(f, "{namespace}/{name}"),
        }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(protocol, port) => {
                write!(f, "{port}/{}", protocol.as_str().to_ascii_lowercase())
            }
            Self::Other(1) => f.write_str("icmp"),
            Self::Other(58) => f.write_str("icmpv6"),
            Self::Other(number) => write!(f, "protocol {number}"),
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}:{}", self.source, self.destination, self.traffic)?;
        f.write_str(if self.via_service { " via a service" } else { "" })
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        })
    }
}
