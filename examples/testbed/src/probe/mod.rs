//! Real packets: who can reach whom.

mod icmp;
mod port;
mod raw;
mod sctp;
mod tcp;
mod udp;
mod wave;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::namespace::Namespace;
use crate::topology::Place;

pub(crate) use self::port::Ports;
pub(crate) use self::wave::run;

/// One new connection to try (M1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Where to send from.
    pub from: Place,
    /// The source address, one of those of `from`.
    pub source: IpAddr,
    /// The destination address. If no node and no pod has it, it is outside.
    pub to: IpAddr,
    /// What to send.
    pub traffic: Traffic,
}

/// What a [`Probe`] sends; the numbers are destination ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Traffic {
    /// Opens a connection, and waits for a first byte from the server: so data must pass, too.
    Tcp(u16),
    /// Sends a datagram, which a server sends back.
    Udp(u16),
    /// Sends an INIT chunk and waits for the INIT ACK: the opening of an association, which needs
    /// no support of SCTP in the kernel.
    Sctp(u16),
    /// Sends an echo request, of ICMP or ICMPv6, which the kernel answers.
    Icmp,
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Traffic::Tcp(port) => write!(f, "TCP {port}"),
            Traffic::Udp(port) => write!(f, "UDP {port}"),
            Traffic::Sctp(port) => write!(f, "SCTP {port}"),
            Traffic::Icmp => f.write_str("ICMP"),
        }
    }
}

/// How to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeOptions {
    /// How long silence must last to be a denial. It counts from the moment at which the packets
    /// have been sent, so that a busy machine does not turn an answer into a denial.
    pub timeout: Duration,
}

impl Default for ProbeOptions {
    /// Half a second.
    fn default() -> Self {
        ProbeOptions { timeout: Duration::from_millis(500) }
    }
}

/// What became of a [`Probe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The destination answered.
    Allowed,
    /// Nobody answered until the time-out.
    Denied,
    /// Somebody answered that it must not be.
    Refused(Refusal),
    /// The probe says nothing about policies: it could not be sent, or went wrong in a way that
    /// neither an open path nor a closed one explains.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Allowed => f.write_str("allowed"),
            Outcome::Denied => f.write_str("denied"),
            Outcome::Refused(refusal) => write!(f, "refused by {refusal}"),
            Outcome::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}

/// How a probe was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// With a TCP reset.
    Reset,
    /// With an ICMP or ICMPv6 message "destination unreachable".
    Unreachable {
        /// Who sent it.
        from: IpAddr,
        /// The code of the message; ICMP if `from` is an IPv4 address, else ICMPv6.
        code: u8,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Refusal::Reset => f.write_str("a TCP reset"),
            Refusal::Unreachable { from, code } => {
                let meaning = match (from, code) {
                    (IpAddr::V4(_), 0) => "network unreachable",
                    (IpAddr::V4(_), 1) | (IpAddr::V6(_), 3) => "host unreachable",
                    (IpAddr::V4(_), 2) => "protocol unreachable",
                    (IpAddr::V4(_), 3) | (IpAddr::V6(_), 4) => "port unreachable",
                    (IpAddr::V4(_), 9 | 10 | 13) | (IpAddr::V6(_), 1) => "prohibited",
                    (IpAddr::V6(_), 0) => "no route",
                    _ => "destination unreachable",
                };
                write!(f, "{from} with ICMP code {code}, {meaning}")
            }
        }
    }
}

/// The network namespaces in which a probe starts and ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path<'t> {
    pub(crate) from: &'t Namespace,
    pub(crate) to: &'t Namespace,
}
