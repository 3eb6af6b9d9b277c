//! Proof that a ruleset says what a program says: both are asked about one packet of every kind
//! that either of them can tell apart.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netpol_core::model::{Direction, Family, Flow, Protocol, Traffic};
use netpol_core::program::{ClassId, EndpointEntry, Program};

use crate::ruleset::{Elements, Hook, Packet, Ruleset, Standing, Table, Transport, Undecided};

/// A kind of packet that a ruleset does not treat as the program would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// It passes although it should not, or the other way round.
    Verdict {
        /// An example.
        flow: Flow,
        /// Where in the packet path.
        hook: Hook,
        /// What the program says.
        allowed: bool,
    },
    /// Packets of a known connection do not pass (NP-CONN-1).
    Established {
        /// An example.
        flow: Flow,
        /// Where in the packet path.
        hook: Hook,
    },
    /// Packets from the middle of a connection that nobody knows pass, although they may be those
    /// of a connection that is denied: this one, or one the other way round.
    Stray {
        /// An example.
        flow: Flow,
        /// Where in the packet path.
        hook: Hook,
    },
    /// There is no table for the packets of a family.
    NoTable(Family),
    /// The tables hold something that cannot be judged.
    Undecided(Undecided),
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verdict { flow, hook, allowed: true } => {
                write!(f, "{flow} is allowed and does not pass the {hook} hook")
            }
            Self::Verdict { flow, hook, allowed: false } => {
                write!(f, "{flow} is denied and passes the {hook} hook")
            }
            Self::Established { flow, hook } => {
                write!(f, "{flow} does not pass the {hook} hook once it is established")
            }
            Self::Stray { flow, hook } => {
                write!(
                    f,
                    "packets from the middle of {flow} pass the {hook} hook, and may be answers of \
                     a denied connection"
                )
            }
            Self::NoTable(family) => write!(f, "there is no table for {family:?}"),
            Self::Undecided(undecided) => undecided.fmt(f),
        }
    }
}

/// Compares a ruleset with the program that it should carry out, for what can be told apart by
/// either: addresses by the sets that they are in and the classes that know them, ports by both
/// sides of every boundary. One example of every kind that differs is returned; nothing is, if the
/// ruleset is right.
///
/// The program must be of the node that the ruleset is for. Takes some microseconds per kind; there
/// are about (kinds of addresses)² × (ports that policies mention).
#[must_use]
pub fn verify(ruleset: &Ruleset, program: &Program) -> Vec<Mismatch> {
    let mut mismatches = Vec::new();
    for family in Family::ALL {
        let local = program.endpoints().any(|it| addresses(it, family).next().is_some());
        match ruleset.tables.get(&family) {
            Some(table) => {
                let cells = Cells::new(program, table, family);
                cells.compare(ruleset, program, &mut mismatches);
            }
            None if local => mismatches.push(Mismatch::NoTable(family)),
            None => {}
        }
    }
    mismatches
}

fn addresses(entry: &EndpointEntry, family: Family) -> impl Iterator<Item = IpAddr> {
    entry.addresses().iter().copied().filter(move |address| Family::of(*address) == family)
}

/// What makes an address different from others.
type Signature = Vec<(u8, usize)>;

/// Addresses that may be special, with what is special about them.
struct Points {
    family: Family,
    marks: HashMap<IpAddr, Signature>,
    ranges: Vec<Vec<(IpAddr, IpAddr)>>,
}

impl Points {
    fn new(family: Family) -> Self {
        Self { family, marks: HashMap::new(), ranges: Vec::new() }
    }

    fn mark(&mut self, address: IpAddr, mark: (u8, usize)) {
        self.marks.entry(address).or_default().push(mark);
    }

    /// Two addresses of every kind that there is.
    fn representatives(mut self) -> Vec<IpAddr> {
        const IN_RANGE: u8 = u8::MAX;
        let first: IpAddr = match self.family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        // A kind without marks begins where a range begins or ends, or behind an address with some.
        let mut starts = vec![first];
        starts.extend(self.marks.keys().copied().filter_map(successor));
        for (start, end) in self.ranges.iter().flatten() {
            starts.extend([*start, *end].into_iter().chain(successor(*end)));
        }
        starts.into_iter().for_each(|address| _ = self.marks.entry(address).or_default());
        let mut kinds: HashMap<Signature, Vec<IpAddr>> = HashMap::new();
        let mut points: Vec<_> = self.marks.into_iter().collect();
        points.sort_unstable();
        for (address, mut signature) in points {
            for (index, ranges) in self.ranges.iter().enumerate() {
                let behind = ranges.partition_point(|(start, _)| *start <= address);
                let range = behind.checked_sub(1).and_then(|at| ranges.get(at));
                if range.is_some_and(|(_, end)| address <= *end) {
                    signature.push((IN_RANGE, index));
                }
            }
            signature.sort_unstable();
            let kind = kinds.entry(signature).or_default();
            if kind.len() < 2 {
                kind.push(address);
            }
        }
        let mut all: Vec<IpAddr> = kinds.into_values().flatten().collect();
        all.sort_unstable();
        all
    }
}

fn successor(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(address) => address.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

/// The addresses and ports of one family, one of each kind.
struct Cells<'p> {
    family: Family,
    endpoints: HashMap<IpAddr, &'p EndpointEntry>,
    /// Two of a kind where there are, since an address may be special to itself.
    representatives: Vec<IpAddr>,
    /// Addresses of one endpoint, and pairs that the ruleset mentions.
    pairs: BTreeSet<(IpAddr, IpAddr)>,
    traffic: Vec<Traffic>,
}

impl<'p> Cells<'p> {
    fn new(program: &'p Program, table: &Table, family: Family) -> Self {
        let entries: Vec<_> = program.endpoints().collect();
        let endpoints: HashMap<IpAddr, &EndpointEntry> = entries
            .iter()
            .flat_map(|entry| addresses(entry, family).map(|address| (address, *entry)))
            .collect();
        let mut pairs = BTreeSet::new();
        for entry in &entries {
            let own: Vec<IpAddr> = addresses(entry, family).collect();
            pairs.extend(own.iter().flat_map(|a| own.iter().map(|b| (*a, *b))));
        }
        let mut points = Points::new(family);
        for entry in &entries {
            let [profile, own] = [Some(entry.profile()), entry.own_profile()]
                .map(|id| id.map_or(0, |id| std::ptr::from_ref(program.profile(id)).addr()));
            for address in addresses(entry, family) {
                points.mark(address, (0, usize::from(entry.is_host())));
                points.mark(address, (1, profile));
                points.mark(address, (2, own));
            }
        }
        for (index, class) in classes(program, &entries).into_iter().enumerate() {
            let members = program.members(class, family);
            for (kind, list) in [(4, members.allow), (5, members.deny)] {
                list.into_iter().for_each(|address| points.mark(address, (kind, index)));
            }
            let ranges = members.ranges.iter().map(|range| (*range.start(), *range.end()));
            points.ranges.push(ranges.collect());
        }
        let mut ports = BTreeSet::from([0, u16::MAX]);
        let mut boundary = |first: u16, last: u16| {
            let neighbours = [first.checked_sub(1), last.checked_add(1)];
            ports.extend([first, last].into_iter().chain(neighbours.into_iter().flatten()));
        };
        for (index, set) in table.sets.values().enumerate() {
            match &set.elements {
                Elements::Addresses(list) => {
                    list.iter().for_each(|address| points.mark(*address, (6, index)));
                }
                Elements::AddressVerdicts(list) => {
                    let mut verdicts = BTreeMap::new();
                    for element in list {
                        let count = verdicts.len();
                        let verdict = *verdicts.entry(&element.verdict).or_insert(count);
                        points.mark(element.address, (7, index << 32 | verdict));
                    }
                }
                Elements::AddressRanges(list) => points.ranges.push(list.clone()),
                Elements::AddressPairs(list) => pairs.extend(list),
                Elements::PairVerdicts(list) => pairs.extend(list.iter().map(|(pair, _)| *pair)),
                Elements::PortVerdicts(list) => {
                    list.iter().for_each(|(port, _)| boundary(*port, *port));
                }
                Elements::PortRangeVerdicts(list) => {
                    list.iter().for_each(|((first, last), _)| boundary(*first, *last));
                }
            }
        }
        let profiles =
            entries.iter().flat_map(|entry| [Some(entry.profile()), entry.own_profile()]);
        for id in profiles.flatten().collect::<BTreeSet<_>>() {
            let profile = program.profile(id);
            for side in Direction::ALL.into_iter().filter_map(|it| profile.side(it)) {
                let intervals = Protocol::ALL.into_iter().flat_map(|it| side.intervals(it));
                intervals.for_each(|(range, _)| boundary(range.first(), range.last()));
            }
        }
        let of_protocols = |port| Protocol::ALL.map(|protocol| Traffic::Port(protocol, port));
        let others = [Traffic::ICMP, Traffic::ICMPV6, Traffic::Other(47)];
        let traffic = ports.into_iter().flat_map(of_protocols).chain(others).collect();
        Self { family, endpoints, representatives: points.representatives(), pairs, traffic }
    }

    fn compare(&self, ruleset: &Ruleset, program: &Program, mismatches: &mut Vec<Mismatch>) {
        let across = self.representatives.iter().flat_map(|source| {
            let judged = |address| self.endpoints.contains_key(address);
            let rest = self.representatives.iter();
            rest.filter(move |destination| judged(source) || judged(destination))
                .map(move |destination| (*source, *destination))
        });
        for (source, destination) in across.chain(self.pairs.iter().copied()) {
            for (index, traffic) in self.traffic.iter().enumerate() {
                let flow = Flow::new(source, destination, *traffic);
                let allowed = program.decide(&flow).is_allowed();
                for hook in self.hooks(source, destination) {
                    let packet = self.packet(source, destination, *traffic, Standing::New);
                    match ruleset.passes(hook, &packet) {
                        Ok(passes) if passes == allowed => {}
                        Ok(_) => {
                            let flow = flow.clone();
                            mismatches.push(Mismatch::Verdict { flow, hook, allowed });
                        }
                        Err(undecided) => {
                            mismatches.push(Mismatch::Undecided(undecided));
                            return;
                        }
                    }
                    // Rules do not look at ports then, unless somebody else wrote them.
                    let packet = self.packet(source, destination, *traffic, Standing::Established);
                    if index == 0 && ruleset.passes(hook, &packet) != Ok(true) {
                        let flow = flow.clone();
                        mismatches.push(Mismatch::Established { flow, hook });
                    }
                    let packet = self.packet(source, destination, *traffic, Standing::Stray);
                    if let Some(protocol) = with_beginnings(*traffic)
                        && ruleset.passes(hook, &packet) == Ok(true)
                        && !(allowed && self.allows_all(program, [destination, source], protocol))
                    {
                        let flow = flow.clone();
                        mismatches.push(Mismatch::Stray { flow, hook });
                    }
                }
            }
        }
    }

    /// Whether every connection from the one address to the other is allowed.
    fn allows_all(&self, program: &Program, [from, to]: [IpAddr; 2], protocol: Protocol) -> bool {
        let of_protocol =
            |it: &&Traffic| matches!(it, Traffic::Port(other, _) if *other == protocol);
        let flows = self.traffic.iter().filter(of_protocol).map(|it| Flow::new(from, to, *it));
        flows.into_iter().all(|flow| program.decide(&flow).is_allowed())
    }

    /// The hooks by which such packets come: those of ordinary endpoints are forwarded, the others
    /// are for or from the host as well.
    fn hooks(&self, source: IpAddr, destination: IpAddr) -> impl Iterator<Item = Hook> + use<> {
        let ordinary = |address| self.endpoints.get(&address).is_some_and(|it| !it.is_host());
        let (from, to) = (ordinary(source), ordinary(destination));
        [(Hook::Forward, true), (Hook::Input, !to), (Hook::Output, !from)]
            .into_iter()
            .filter(|(_, applies)| *applies)
            .map(|(hook, _)| hook)
    }

    fn packet(
        &self,
        source: IpAddr,
        destination: IpAddr,
        traffic: Traffic,
        standing: Standing,
    ) -> Packet {
        let transport = match traffic {
            Traffic::Port(protocol, port) => Transport::Port(protocol.number(), port),
            // Echo requests; neighbour discovery is never judged (NP-PROTO-1).
            Traffic::ICMP => Transport::Icmp(1, 8),
            Traffic::ICMPV6 => Transport::Icmp(58, 128),
            Traffic::Other(number) => Transport::Other(number),
        };
        debug_assert_eq!(Family::of(source), self.family);
        Packet { source, destination, transport, standing }
    }
}

/// The protocol, if the first packet of a connection differs from those that follow.
fn with_beginnings(traffic: Traffic) -> Option<Protocol> {
    match traffic {
        Traffic::Port(protocol @ (Protocol::Tcp | Protocol::Sctp), _) => Some(protocol),
        Traffic::Port(Protocol::Udp, _) | Traffic::Other(_) => None,
    }
}

/// The classes that the endpoints' profiles refer to.
fn classes(program: &Program, entries: &[&EndpointEntry]) -> BTreeSet<ClassId> {
    let profiles = entries.iter().flat_map(|entry| [Some(entry.profile()), entry.own_profile()]);
    let mut classes = BTreeSet::new();
    for profile in profiles.flatten().map(|id| program.profile(id)) {
        for side in Direction::ALL.into_iter().filter_map(|it| profile.side(it)) {
            let intervals = Protocol::ALL.into_iter().flat_map(|it| side.intervals(it));
            classes.extend(intervals.map(|(_, class)| *class).chain([side.other()]));
        }
    }
    classes
}
