//! Proof that what is in force says what a program says: both are asked about one packet of every kind that either of
//! them can tell apart.
//!
//! A backend tells by which [`Boundaries`] its rules tell packets apart, and judges packets by its rules;
//! [`verify`] knows what the program tells apart, and asks both.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Closed;
use crate::model::{Direction, Family, Flow, Protocol, Traffic};
use crate::program::{ClassId, EndpointEntry, Program, successor};

/// A packet to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes to; of the same family.
    pub destination: IpAddr,
    /// What it carries. ICMP stands for echo requests: neighbour discovery is never judged (NP-PROTO-1).
    pub traffic: Traffic,
    /// What connection tracking makes of it.
    pub standing: Standing,
    /// How it passes the host.
    pub path: Path,
}

/// How a packet stands to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It is the first packet of one.
    New,
    /// It belongs to one that is known already, or is an error about one.
    Established,
    /// It is from the middle of one that nobody knows. Only TCP and SCTP have such packets: those of other protocols
    /// look all the same.
    Stray,
}

/// How a packet passes the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// It is for the host itself.
    ToHost,
    /// It is routed through the host.
    Forwarded,
    /// It is from the host itself.
    FromHost,
}

impl fmt::Display for Path {
    /// As netfilter calls its hooks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ToHost => "input",
            Self::Forwarded => "forward",
            Self::FromHost => "output",
        })
    }
}

/// A kind of packet that rules do not treat as the program would; `U` is why rules give no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch<U> {
    /// It passes although it should not, or the other way round.
    Verdict {
        /// An example.
        flow: Flow,
        /// How it passes the host.
        path: Path,
        /// What the program says.
        allowed: bool,
    },
    /// Packets of a known connection do not pass (NP-CONN-1).
    Established {
        /// An example.
        flow: Flow,
        /// How it passes the host.
        path: Path,
    },
    /// Packets from the middle of a connection that nobody knows pass, although they may be those of a connection that
    /// is denied: this one, or one the other way round.
    Stray {
        /// An example.
        flow: Flow,
        /// How it passes the host.
        path: Path,
    },
    /// There are no rules for the packets of a family.
    NoRules(Family),
    /// There is something that cannot be judged.
    Undecided(U),
}

impl<U: fmt::Display> fmt::Display for Mismatch<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verdict { flow, path, allowed: true } => {
                write!(f, "{flow} is allowed and does not pass the {path} hook")
            }
            Self::Verdict { flow, path, allowed: false } => {
                write!(f, "{flow} is denied and passes the {path} hook")
            }
            Self::Established { flow, path } => {
                write!(f, "{flow} does not pass the {path} hook once it is established")
            }
            Self::Stray { flow, path } => write!(
                f,
                "packets from the middle of {flow} pass the {path} hook, and may be answers of a denied connection"
            ),
            Self::NoRules(family) => write!(f, "there are no rules for {family:?}"),
            Self::Undecided(undecided) => undecided.fmt(f),
        }
    }
}

impl<U: fmt::Display> From<&Mismatch<U>> for super::Mismatch {
    fn from(mismatch: &Mismatch<U>) -> Self {
        let flow = match mismatch {
            Mismatch::Verdict { flow, .. }
            | Mismatch::Established { flow, .. }
            | Mismatch::Stray { flow, .. } => Some(flow.clone()),
            Mismatch::NoRules(_) | Mismatch::Undecided(_) => None,
        };
        Self { flow, text: mismatch.to_string() }
    }
}

/// What makes an address different from others: what of, and which.
type Mark = (Kind, usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    Host,
    Profile,
    OwnProfile,
    Allowed,
    Denied,
    Listed,
    InRange,
}

/// By what rules tell the packets of one family apart.
#[derive(Clone, Debug)]
pub struct Boundaries {
    family: Family,
    /// Addresses that may be special, with what is special about them.
    marks: HashMap<IpAddr, Vec<Mark>>,
    /// Lists that have been told so far.
    lists: usize,
    ranges: Vec<Vec<(IpAddr, IpAddr)>>,
    pairs: BTreeSet<(IpAddr, IpAddr)>,
    ports: BTreeSet<u16>,
    /// Where addresses are denied everything that no endpoint in scope has.
    closed: Closed,
}

impl Boundaries {
    /// None so far, for packets of a family.
    pub fn new(family: Family) -> Self {
        Self {
            family,
            marks: HashMap::new(),
            lists: 0,
            ranges: Vec::new(),
            pairs: BTreeSet::new(),
            ports: BTreeSet::from([0, u16::MAX]),
            closed: Closed::default(),
        }
    }

    /// Addresses that the rules do not tell apart from each other, but from all others.
    pub fn addresses(&mut self, list: impl IntoIterator<Item = IpAddr>) {
        let index = self.lists;
        self.lists += 1;
        list.into_iter().for_each(|address| self.mark(address, (Kind::Listed, index)));
    }

    /// The same for ranges of addresses from the first to the last, which are disjoint and ascending.
    pub fn ranges(&mut self, list: impl IntoIterator<Item = (IpAddr, IpAddr)>) {
        self.ranges.push(list.into_iter().collect());
    }

    /// A source and a destination that are special together.
    pub fn pair(&mut self, source: IpAddr, destination: IpAddr) {
        self.pairs.insert((source, destination));
    }

    /// Destination ports from the first to the last.
    pub fn ports(&mut self, first: u16, last: u16) {
        let neighbours = [first.checked_sub(1), last.checked_add(1)];
        self.ports.extend([first, last].into_iter().chain(neighbours.into_iter().flatten()));
    }

    /// Addresses that the rules are to deny if no endpoint in the program's scope has them
    /// ([`Backend::deny_unknown`](super::Backend::deny_unknown)): the program does not know of that.
    pub fn closed(&mut self, closed: &Closed) {
        let family = self.family;
        let ranges = closed.ranges.iter().filter(|it| Family::of(it.addr()) == family);
        let except = closed.except.iter().filter(|it| Family::of(**it) == family);
        self.closed =
            Closed { ranges: ranges.copied().collect(), except: except.copied().collect() };
        let ranges = self.closed.ranges.iter();
        self.ranges.extend(ranges.map(|it| vec![(it.network(), it.broadcast())]));
        self.addresses(self.closed.except.clone());
    }

    fn mark(&mut self, address: IpAddr, mark: Mark) {
        self.marks.entry(address).or_default().push(mark);
    }

    /// Adds what a program tells apart.
    fn of_program(&mut self, program: &Program, entries: &[&EndpointEntry]) {
        let family = self.family;
        for entry in entries {
            let own: Vec<IpAddr> = addresses(entry, family).collect();
            for address in &own {
                let hosts = program.same_host(*address).filter(|it| Family::of(*it) == family);
                let hosts = hosts.filter(|_| entry.is_host());
                let same = own.iter().copied().chain(hosts);
                self.pairs.extend(same.flat_map(|it| [(*address, it), (it, *address)]));
            }
            let [profile, own_profile] = [Some(entry.profile()), entry.own_profile()]
                .map(|id| id.map_or(0, |id| std::ptr::from_ref(program.profile(id)).addr()));
            for address in own {
                self.mark(address, (Kind::Host, usize::from(entry.is_host())));
                self.mark(address, (Kind::Profile, profile));
                self.mark(address, (Kind::OwnProfile, own_profile));
            }
        }
        let profiles =
            entries.iter().flat_map(|entry| [Some(entry.profile()), entry.own_profile()]);
        let mut classes: BTreeSet<ClassId> = BTreeSet::new();
        for profile in profiles.flatten().collect::<BTreeSet<_>>() {
            let profile = program.profile(profile);
            for side in Direction::ALL.into_iter().filter_map(|it| profile.side(it)) {
                classes.insert(side.other());
                for (range, class) in Protocol::ALL.into_iter().flat_map(|it| side.intervals(it)) {
                    classes.insert(*class);
                    self.ports(range.first(), range.last());
                }
            }
        }
        for (index, class) in classes.into_iter().enumerate() {
            let members = program.members(class, family);
            for (kind, list) in [(Kind::Allowed, members.allow), (Kind::Denied, members.deny)] {
                list.into_iter().for_each(|address| self.mark(address, (kind, index)));
            }
            self.ranges(members.ranges.iter().map(|range| (*range.start(), *range.end())));
        }
    }

    /// Two addresses of every kind that there is, since an address may be special to itself.
    fn representatives(&mut self) -> Vec<IpAddr> {
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
        let mut kinds: HashMap<Vec<Mark>, Vec<IpAddr>> = HashMap::new();
        let mut points: Vec<_> = std::mem::take(&mut self.marks).into_iter().collect();
        points.sort_unstable();
        for (address, mut marks) in points {
            for (index, ranges) in self.ranges.iter().enumerate() {
                let behind = ranges.partition_point(|(start, _)| *start <= address);
                let range = behind.checked_sub(1).and_then(|at| ranges.get(at));
                if range.is_some_and(|(_, end)| address <= *end) {
                    marks.push((Kind::InRange, index));
                }
            }
            marks.sort_unstable();
            let kind = kinds.entry(marks).or_default();
            if kind.len() < 2 {
                kind.push(address);
            }
        }
        let mut all: Vec<IpAddr> = kinds.into_values().flatten().collect();
        all.sort_unstable();
        all
    }
}

/// Asks a program, and by `judge` the rules that should carry it out whether they let a packet pass, about one packet
/// of every kind. One example of every kind that differs is returned; nothing is, if the rules are right. By what the
/// rules tell the packets of a family apart is asked of `boundaries`; there are none if there are no rules.
///
/// The program must be of the node that the rules are for. There are about (kinds of addresses)² × (ports that policies
/// mention) packets. Of a family with something that cannot be judged, the rest is left out.
pub fn verify<U>(
    program: &Program,
    mut boundaries: impl FnMut(Family) -> Option<Boundaries>,
    mut judge: impl FnMut(&Packet) -> Result<bool, U>,
) -> Vec<Mismatch<U>> {
    let mut mismatches = Vec::new();
    for family in Family::ALL {
        if let Some(boundaries) = boundaries(family) {
            let compared =
                compare(program, boundaries, &mut judge, |mismatch| mismatches.push(mismatch));
            mismatches.extend(compared.err().map(Mismatch::Undecided));
        } else if program.endpoints().any(|entry| addresses(entry, family).next().is_some()) {
            mismatches.push(Mismatch::NoRules(family));
        }
    }
    mismatches
}

fn compare<U>(
    program: &Program,
    mut boundaries: Boundaries,
    mut judge: impl FnMut(&Packet) -> Result<bool, U>,
    mut found: impl FnMut(Mismatch<U>),
) -> Result<(), U> {
    let family = boundaries.family;
    let entries: Vec<_> = program.endpoints().collect();
    boundaries.of_program(program, &entries);
    let endpoints: HashMap<IpAddr, &EndpointEntry> = entries
        .iter()
        .flat_map(|entry| addresses(entry, family).map(|address| (address, *entry)))
        .collect();
    let representatives = boundaries.representatives();
    let of_protocols = |port: &u16| Protocol::ALL.map(|protocol| Traffic::Port(protocol, *port));
    let others = [Traffic::ICMP, Traffic::ICMPV6, Traffic::Other(47)];
    let traffic: Vec<Traffic> =
        boundaries.ports.iter().flat_map(of_protocols).chain(others).collect();

    let closed = std::mem::take(&mut boundaries.closed);
    let hosts = endpoints.iter().filter(|(_, entry)| entry.is_host());
    let hosts: BTreeSet<IpAddr> = hosts.flat_map(|(own, _)| program.same_host(*own)).collect();
    let is_closed = |address: &IpAddr| {
        let known = endpoints.contains_key(address) || hosts.contains(address);
        !known && closed.contains(*address)
    };
    let judged = |address| endpoints.contains_key(address) || is_closed(address);
    let across = representatives.iter().flat_map(|source| {
        let rest = representatives.iter();
        rest.filter(move |destination| judged(source) || judged(destination))
            .map(move |destination| (*source, *destination))
    });
    let ordinary = |address| endpoints.get(&address).is_some_and(|entry| !entry.is_host());
    for (source, destination) in across.chain(boundaries.pairs.iter().copied()) {
        // Packets of ordinary endpoints are forwarded, those of others may be the host's own as well.
        let (from, to) = (ordinary(source), ordinary(destination));
        let paths = [(Path::Forwarded, true), (Path::ToHost, !to), (Path::FromHost, !from)];
        let paths = paths.into_iter().filter(|(_, applies)| *applies).map(|(path, _)| path);
        for (index, carried) in traffic.iter().enumerate() {
            let flow = Flow::new(source, destination, *carried);
            let decided = program.decide(&flow).is_allowed();
            for path in paths.clone() {
                // Of the two ends the host's own is nobody who could be unknown.
                let unknown = path != Path::FromHost && is_closed(&source)
                    || path != Path::ToHost && is_closed(&destination);
                let allowed = decided && !unknown;
                let mut passes = |standing| {
                    judge(&Packet { source, destination, traffic: *carried, standing, path })
                };
                if passes(Standing::New)? != allowed {
                    found(Mismatch::Verdict { flow: flow.clone(), path, allowed });
                }
                // Rules do not look at ports then, unless somebody else wrote them.
                if index == 0 && !passes(Standing::Established)? {
                    found(Mismatch::Established { flow: flow.clone(), path });
                }
                if let Some(protocol) = with_beginnings(*carried)
                    && passes(Standing::Stray)?
                    && !(allowed && allows_all(program, [destination, source], protocol, &traffic))
                {
                    found(Mismatch::Stray { flow: flow.clone(), path });
                }
            }
        }
    }
    Ok(())
}

/// The protocol, if the first packet of a connection differs from those that follow.
fn with_beginnings(traffic: Traffic) -> Option<Protocol> {
    match traffic {
        Traffic::Port(protocol @ (Protocol::Tcp | Protocol::Sctp), _) => Some(protocol),
        Traffic::Port(Protocol::Udp, _) | Traffic::Other(_) => None,
    }
}

/// Whether every connection from the one address to the other is allowed.
fn allows_all(
    program: &Program,
    [from, to]: [IpAddr; 2],
    protocol: Protocol,
    traffic: &[Traffic],
) -> bool {
    let of_protocol = |it: &&Traffic| matches!(it, Traffic::Port(other, _) if *other == protocol);
    let mut flows = traffic.iter().filter(of_protocol).map(|it| Flow::new(from, to, *it));
    flows.all(|flow| program.decide(&flow).is_allowed())
}

fn addresses(entry: &EndpointEntry, family: Family) -> impl Iterator<Item = IpAddr> {
    entry.addresses().iter().copied().filter(move |address| Family::of(*address) == family)
}
