//! Hears of denied packets, where [`Options::log`](crate::Options::log) asks the kernel to report
//! them.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use netpol_core::model::{Direction, Flow, Protocol, Traffic};

use crate::error::Error;
use crate::name::{Comment, Name};
use crate::render::ContentKey;
use crate::socket::{Heard, Socket};
use crate::wire::reader::{Message, be16};
use crate::wire::uapi::{self, ulog};

/// How much of a packet is asked for: the headers of both families with usual extensions.
const SNAP_LENGTH: u32 = 192;
/// The kernel collects reports for so many hundredths of a second.
const TIMEOUT: u32 = 5;
/// The kernel's limit for prefixes, without the terminating zero, is 127; other tools show 63.
const MAX_PREFIX: usize = 63;

/// What became of a packet that is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It opened a connection that the policies allow: only with [`Log::accepted`](crate::Log).
    Allowed,
    /// It was dropped.
    Denied,
    /// It would have been dropped, were the rules not in audit mode
    /// ([`Options::audit`](crate::Options::audit)).
    Audited,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Allowed, Self::Denied, Self::Audited];
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Audited => "audited",
        })
    }
}

/// The text at the beginning of a report: what became of the packet, and by which table, profile and
/// generation. Printed as `netpol: ingress denied 6f1c0a... 691f12c0 `, 63 characters at most, as other
/// tools show it, and read back by [`parse`](Self::parse); [`resolve`](crate::resolve()) tells what the
/// key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    /// The name of the table, cut if it is very long.
    pub table: String,
    /// Which of the two judged: the policies of the source (egress) or of the destination.
    pub direction: Direction,
    /// What became of the packet.
    pub outcome: Outcome,
    /// Names what the profile says in this direction, by content: the same in every process and on
    /// every node, and another as soon as its policies say anything else. None for packets that no
    /// profile judged.
    pub profile: Option<String>,
    /// Since which generation of programs the rules of the profile have said this: the second in which
    /// the first of them was put into force, counted from 1970. Programs that leave the profile as it is
    /// leave the number as well, and so does a process that takes the rules over from another; so every
    /// program that was in force from then on until the packet has this profile. None in rules that have
    /// never been in a kernel.
    pub generation: Option<u32>,
}

impl Prefix {
    /// The digits of a profile's key, and of a generation.
    const KEY: usize = 20;
    const GENERATION: usize = 8;

    pub(crate) fn new(
        table: &Name,
        direction: Direction,
        outcome: Outcome,
        profile: Option<ContentKey>,
        generation: Option<u32>,
    ) -> Self {
        let table = Self::table(table.as_str());
        let profile = profile.map(|key| key.to_string());
        Self { table, direction, outcome, profile, generation }
    }

    fn table(table: &str) -> String {
        let room = MAX_PREFIX - ": ingress audited   ".len() - Self::KEY - Self::GENERATION;
        table.chars().take(room).collect()
    }

    pub(crate) fn text(&self) -> Comment {
        Comment::new(&self.to_string())
    }

    /// Reads the prefix of a report, also from a line of a log that another tool has written.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (table, rest) = text.trim_start().split_once(": ")?;
        let mut words = rest.split(' ');
        let direction = words.next()?;
        let direction = Direction::ALL.into_iter().find(|it| it.to_string() == direction)?;
        let outcome = words.next()?;
        let outcome = Outcome::ALL.into_iter().find(|it| it.to_string() == outcome)?;
        let is_hex = |word: &str, digits| {
            word.len() == digits && word.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let profile = words.next().filter(|it| is_hex(it, Self::KEY)).map(str::to_owned);
        let generation =
            words.next().filter(|it| profile.is_some() && is_hex(it, Self::GENERATION));
        let generation = generation.and_then(|it| u32::from_str_radix(it, 16).ok());
        Some(Self { table: table.to_owned(), direction, outcome, profile, generation })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {} ", self.table, self.direction, self.outcome)?;
        if let Some(profile) = &self.profile {
            write!(f, "{profile} ")?;
        }
        match self.generation {
            Some(generation) => write!(f, "{generation:08x} "),
            None => Ok(()),
        }
    }
}

/// A packet that was reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// What became of it, and by what.
    pub prefix: Prefix,
    /// What it was.
    pub flow: Flow,
}

/// What there was to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A packet.
    Packet(Packet),
    /// Reports were lost, since they came faster than they were read.
    Lost,
}

/// Listens to the reports of one table, in one NFLOG group of the network namespace that the
/// calling thread is in when this is opened.
///
/// The file descriptor becomes readable when there may be something to hear. Needs `CAP_NET_ADMIN`
/// in the user namespace that owns the network namespace.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    table: String,
    heard: VecDeque<Packet>,
}

impl Listener {
    /// Listens to a group for what the rules of this name report: `table` of the
    /// [options](crate::Options), or what another backend calls its own. There is one listener per
    /// group.
    ///
    /// # Errors
    ///
    /// If the kernel has no NFLOG, or somebody else listens to the group.
    pub fn open(group: u16, table: impl AsRef<str>) -> Result<Self, Error> {
        let mut socket = Socket::open()?;
        let mode = [&SNAP_LENGTH.to_be_bytes()[..], &[ulog::COPY_PACKET, 0]].concat();
        let (subsystem, kind) = (uapi::SUBSYS_ULOG, ulog::CONFIG);
        socket.configure(subsystem, kind, 0, group, |w| {
            w.raw(ulog::CONFIG_COMMAND, &[ulog::BIND]);
        })?;
        socket.configure(subsystem, kind, 0, group, |w| {
            w.raw(ulog::CONFIG_MODE, &mode);
            w.be32(ulog::CONFIG_TIMEOUT, TIMEOUT);
        })?;
        let table = Prefix::table(table.as_ref());
        Ok(Self { socket, table, heard: VecDeque::new() })
    }

    /// Waits for the next report, for ever if there is no `timeout`; `None` after the timeout.
    ///
    /// # Errors
    ///
    /// If the socket fails.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<Report>, Error> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            if let Some(packet) = self.heard.pop_front() {
                return Ok(Some(Report::Packet(packet)));
            }
            let left = deadline.map(|it| it.saturating_duration_since(Instant::now()));
            let (table, reports) = (&self.table, &mut self.heard);
            let heard = self.socket.listen(left, |message| {
                reports.extend(packet(message, table));
            })?;
            match heard {
                Heard::Nothing => return Ok(None),
                Heard::Overflow => return Ok(Some(Report::Lost)),
                Heard::Something => {}
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn packet(message: Message<'_>, table: &str) -> Option<Packet> {
    if message.kind != u16::from_be_bytes([uapi::SUBSYS_ULOG, ulog::PACKET]) {
        return None;
    }
    let at = message.attributes();
    let prefix = Prefix::parse(at.text(ulog::PREFIX)?)?;
    let flow = parse(at.get(ulog::PAYLOAD)?)?;
    (prefix.table == table).then_some(Packet { prefix, flow })
}

/// Reads who sends what to whom from the first bytes of a packet.
fn parse(packet: &[u8]) -> Option<Flow> {
    let (source, destination, protocol, rest): (IpAddr, IpAddr, u8, &[u8]) =
        match packet.first()? >> 4 {
            4 => {
                let length = usize::from(packet.first()? & 0xf) * 4;
                let address = |at| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?));
                (address(12)?.into(), address(16)?.into(), *packet.get(9)?, packet.get(length..)?)
            }
            6 => {
                let address = |at| Some(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?));
                let (protocol, rest) = transport(*packet.get(6)?, packet.get(40..)?)?;
                (address(8)?.into(), address(24)?.into(), protocol, rest)
            }
            _ => return None,
        };
    let traffic = match Protocol::ALL.into_iter().find(|it| it.number() == protocol) {
        Some(protocol) => Traffic::Port(protocol, be16(rest.get(2..)?)?),
        None => Traffic::Other(protocol),
    };
    Some(Flow::new(source, destination, traffic))
}

/// Skips the extension headers of IPv6: the protocol, and its header.
fn transport(mut header: u8, mut rest: &[u8]) -> Option<(u8, &[u8])> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION: u8 = 60;
    loop {
        let length = match header {
            HOP_BY_HOP | ROUTING | DESTINATION => (usize::from(*rest.get(1)?) + 1) * 8,
            FRAGMENT => 8,
            AUTHENTICATION => (usize::from(*rest.get(1)?) + 2) * 4,
            _ => return Some((header, rest)),
        };
        header = *rest.first()?;
        rest = rest.get(length..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_read_back_and_fit() {
        for direction in Direction::ALL {
            for outcome in Outcome::ALL {
                for table in ["netpol".to_owned(), "x".repeat(200)] {
                    let key = Some(ContentKey::of("x"));
                    for (profile, generation) in
                        [(None, None), (key, None), (key, Some(0)), (key, Some(u32::MAX))]
                    {
                        let table = Name::known(&table);
                        let prefix = Prefix::new(&table, direction, outcome, profile, generation);
                        let text = prefix.to_string();
                        assert!(text.len() <= MAX_PREFIX, "{text}");
                        assert_eq!(Prefix::parse(&text).as_ref(), Some(&prefix));
                        // Some tools cut spaces at the end, and print more behind.
                        assert_eq!(Prefix::parse(text.trim_end()).as_ref(), Some(&prefix));
                        assert_eq!(Prefix::parse(&format!("{text}IN=eth0")), Some(prefix));
                    }
                }
            }
        }
        for other in ["", "netpol", "netpol: sideways denied ", "netpol: ingress lost "] {
            assert_eq!(Prefix::parse(other), None, "{other}");
        }
    }

    #[test]
    fn packets_are_read_behind_options_and_extensions() {
        let mut v4 = vec![0x46, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0];
        v4.extend([10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 1, 0x30, 0x39, 0, 80]);
        let [a, b]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        assert_eq!(parse(&v4), Some(Flow::new(a, b, Traffic::tcp(80))));

        let mut v6 = vec![0x60, 0, 0, 0, 0, 0, 0, 64];
        let [a, b] = ["fd00::1", "fd00::2"].map(|it| it.parse::<Ipv6Addr>().unwrap());
        v6.extend(a.octets());
        v6.extend(b.octets());
        v6.extend([60, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0x30, 0x39, 0, 53]);
        let flow = Flow::new(a.into(), b.into(), Traffic::udp(53));
        assert_eq!(parse(&v6), Some(flow));

        for length in 0..v4.len() {
            let parsed = parse(&v4[..length]);
            assert_eq!(parsed, None, "{length}");
        }
    }
}
