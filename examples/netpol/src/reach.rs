//! All ports at once.

use std::collections::BTreeSet;
use std::fmt;

use netpol_core::model::{Direction, PortRange, Protocol, Traffic};
use netpol_core::program::Program;

use crate::world::Way;

/// What is open from one end to another.
#[derive(Debug)]
pub(crate) struct Reach {
    /// Disjoint and ascending per protocol.
    ports: Vec<(Protocol, PortRange)>,
    icmp: bool,
}

impl Reach {
    /// The ports that are open on every one of these ways.
    pub(crate) fn new(program: &Program, ways: &[Way]) -> Self {
        let open = |traffic| ways.iter().all(|way| program.decide(&way.flow(traffic)).is_allowed());
        let mut ports = Vec::new();
        for protocol in Protocol::ALL {
            let starts = Self::starts(program, protocol);
            let mut ends = starts.iter().skip(1).map(|next| next - 1);
            let mut current: Option<(u16, u16)> = None;
            for &first in &starts {
                let last = ends.next().unwrap_or(u16::MAX);
                current = match (current, open(Traffic::Port(protocol, first))) {
                    (Some((begin, _)), true) => Some((begin, last)),
                    (None, true) => Some((first, last)),
                    (closed, false) => {
                        ports.extend(
                            closed.and_then(|(a, b)| Some((protocol, PortRange::new(a, b)?))),
                        );
                        None
                    }
                };
            }
            ports.extend(current.and_then(|(a, b)| Some((protocol, PortRange::new(a, b)?))));
        }
        Self { ports, icmp: open(Traffic::ICMP) }
    }

    /// Where verdicts may change: the beginnings of all intervals that the program tells apart.
    fn starts(program: &Program, protocol: Protocol) -> BTreeSet<u16> {
        let sides = program.profiles().flat_map(|(_, profile)| {
            Direction::ALL.into_iter().filter_map(|direction| profile.side(direction))
        });
        let starts = sides.flat_map(|side| side.intervals(protocol));
        starts.map(|(range, _)| range.first()).chain([0]).collect()
    }

    /// Whether nothing is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.ports.is_empty() && !self.icmp
    }

    /// Whether everything is open.
    pub(crate) fn is_everything(&self) -> bool {
        let all = |protocol| self.ports.contains(&(protocol, PortRange::ALL));
        self.icmp && Protocol::ALL.into_iter().all(all)
    }
}

/// `80/tcp, 8000-8100/tcp, all of udp, icmp`
impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.ports.iter().map(|(protocol, range)| {
            let protocol = protocol.as_str().to_ascii_lowercase();
            match *range == PortRange::ALL {
                true => format!("all of {protocol}"),
                false => format!("{range}/{protocol}"),
            }
        });
        let parts: Vec<String> = ports.chain(self.icmp.then(|| "icmp".to_owned())).collect();
        f.write_str(&parts.join(", "))
    }
}
