use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ahash::HashMap;

use crate::model::{Direction, End, Flow, Name, SelfTraffic, Traffic};

use super::members::coalesce;
use super::partition::{address_ranges, append, elementary};
use super::{
    ClassId, EndpointId, IdentityId, Known, NodeId, ProfileId, Program, TrafficRange, Verdict,
};

/// What becomes allowed and what becomes denied from one program to another, whatever their policies look like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The verdicts that change, of endpoints that both programs police.
    pub cells: Vec<Cell>,
    /// Namespace and name of the endpoints that only the second program polices.
    pub added: Vec<(Name, Name)>,
    /// Namespace and name of the endpoints that only the first program polices.
    pub removed: Vec<(Name, Name)>,
    /// Addresses and names that stand for another endpoint, as far as this does not follow from the two lists above.
    pub moved: Vec<Moved>,
}

/// Connections whose verdict changes: of each of the subjects, with each of the peers, by any of the traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Whose side of the connections it is.
    pub direction: Direction,
    /// What the second program says; the first says the opposite.
    pub verdict: Verdict,
    /// The endpoints whose policies are asked.
    pub subjects: Vec<DiffSubject>,
    /// The other ends: addresses in ascending order, then names.
    pub peers: Vec<DiffPeer>,
    /// Protocols and destination ports, in order, never adjacent.
    pub traffic: Vec<TrafficRange>,
}

/// An endpoint that both programs police.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiffSubject {
    /// Its namespace; empty for the host-network pods of a node.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
    /// What it goes by in both programs: its addresses and its name.
    pub ends: Vec<End>,
    /// The addresses of the node that it is on, in either program, and the names that stand for them.
    pub own_node: Vec<End>,
}

/// The other end of connections whose verdict changes.
///
/// A subject and its own node are judged as nobody else is, and are told of apart, so that cells may have many
/// subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiffPeer {
    /// Whatever has one of these addresses, other than the subject itself and its own node.
    Addresses(RangeInclusive<IpAddr>),
    /// An endpoint asked about by name, other than those.
    Endpoint {
        /// Its namespace.
        namespace: Name,
        /// Its name.
        name: Name,
    },
    /// The subject's own node (NP-NODE-1): by this address or name, or by any.
    OwnNode(Option<End>),
    /// The subject itself, where that is policed (CH-SELF): by this address or name, or by any.
    Itself(Option<End>),
}

/// An address or a name that stands for another endpoint than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The address or the name.
    pub end: End,
    /// Whose it was, by namespace and name, if it was that of a policed endpoint.
    pub from: Option<(Name, Name)>,
    /// Whose it is now.
    pub to: Option<(Name, Name)>,
}

impl Program {
    /// What another program changes: exactly the verdicts of all possible connections that differ.
    ///
    /// Both are compared over the finite partition of addresses, names, protocols and ports that they induce together.
    /// Left out are ends of a name that neither program knows. The order of the answer depends on nothing but what
    /// the programs say.
    ///
    /// About the product of pairs of classes and pairs of identities; endpoints of equal profiles cost little more
    /// than one. The answer lists peers one by one, so that it is long where many profiles change for many peers.
    ///
    /// What one policy does is [`effect_of`](crate::effect_of).
    pub fn diff(&self, other: &Self) -> Difference {
        if Arc::ptr_eq(&self.inner, &other.inner) {
            return Difference::default();
        }
        Comparison::new([self, other]).run()
    }
}

impl Difference {
    /// Whether both programs mean the same, while `==` on them compares what is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Cell {
    /// Whether it includes this connection, seen from its [direction](Self::direction).
    pub fn covers(&self, flow: &Flow) -> bool {
        let (subject, peer) = match self.direction {
            Direction::Egress => (&flow.source, &flow.destination),
            Direction::Ingress => (&flow.destination, &flow.source),
        };
        let Some(of) = self.subjects.iter().find(|it| it.ends.contains(subject)) else {
            return false;
        };
        let itself = of.ends.contains(peer);
        let own_node = !itself && of.own_node.contains(peer);
        let among = self.peers.iter().any(|it| match (it, peer) {
            (DiffPeer::Itself(end), peer) => itself && end.as_ref().is_none_or(|it| it == peer),
            (DiffPeer::OwnNode(end), peer) => own_node && end.as_ref().is_none_or(|it| it == peer),
            (DiffPeer::Addresses(range), End::Address(address)) => {
                !itself && !own_node && range.contains(address)
            }
            (
                DiffPeer::Endpoint { namespace, name },
                End::Endpoint { namespace: in_, name: called },
            ) => !itself && !own_node && (namespace, name) == (in_, called),
            _ => false,
        });
        among && self.traffic.iter().any(|it| it.contains(flow.traffic))
    }
}

/// The traffic that changes for one pair of ends: by direction, and whether it is allowed afterwards.
type Changes = BTreeMap<(Direction, bool), Vec<TrafficRange>>;

/// Changes of the same traffic.
type Cut = (Direction, bool, Vec<TrafficRange>);

/// A peer that is not judged, or not told of, as others of its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Special {
    Listed(usize),
    OwnNode(Option<End>),
    Itself(Option<End>),
}

/// Instead of what is general: special peers with their changes, possibly none.
type Exceptions = Vec<(Special, Changes)>;

/// The identity of a peer in either program.
type Kind = [IdentityId; 2];

/// The kinds that two classes judge differently, and whether the second one allows them.
type Changed = Arc<Vec<(Kind, bool)>>;

/// What two profiles differ in, own nodes and the subject itself aside.
#[derive(Default)]
struct General {
    changes: BTreeMap<Kind, Changes>,
    cuts: BTreeMap<Cut, Vec<Kind>>,
}

struct Comparison<'a> {
    programs: [&'a Program; 2],
    ranges: Vec<RangeInclusive<IpAddr>>,
    /// One end for each range of addresses, then all names in order.
    peers: Vec<End>,
    /// The peers by what they are in both.
    kinds: BTreeMap<Kind, Vec<usize>>,
    of_node: [HashMap<NodeId, Vec<usize>>; 2],
    of_endpoint: [HashMap<EndpointId, Vec<usize>>; 2],
    general: HashMap<[ProfileId; 2], Arc<General>>,
    /// The kinds for which two classes differ.
    classes: HashMap<[Option<ClassId>; 2], Changed>,
}

/// A subject with where to find it in either program.
struct Pair {
    subject: DiffSubject,
    endpoints: [EndpointId; 2],
}

impl<'a> Comparison<'a> {
    fn new(programs: [&'a Program; 2]) -> Self {
        let ranges = address_ranges(&programs);
        let names: BTreeSet<_> =
            programs.iter().flat_map(|it| it.inner.all_names().map(|(name, _)| name)).collect();
        let names = names.into_iter().map(|(namespace, name)| {
            let (namespace, name) = (namespace.clone(), name.clone());
            End::Endpoint { namespace, name }
        });
        let addresses = ranges.iter().map(|range| End::Address(*range.start()));
        let peers: Vec<End> = addresses.chain(names).collect();
        let mut it = Self {
            programs,
            ranges,
            peers: Vec::new(),
            kinds: BTreeMap::new(),
            of_node: Default::default(),
            of_endpoint: Default::default(),
            general: HashMap::default(),
            classes: HashMap::default(),
        };
        for (at, end) in peers.iter().enumerate() {
            let resolved = programs.map(|program| program.resolve(end));
            it.kinds.entry(resolved.map(Known::identity)).or_default().push(at);
            for (side, resolved) in resolved.iter().enumerate() {
                let (Some(of_node), Some(of_endpoint), Some(program)) =
                    (it.of_node.get_mut(side), it.of_endpoint.get_mut(side), programs.get(side))
                else {
                    continue;
                };
                if let Some(id) = resolved.endpoint() {
                    of_endpoint.entry(id).or_default().push(at);
                }
                let address = program.address_of(end).into_iter();
                for node in address.flat_map(|it| program.inner.addresses.nodes_at(it)) {
                    of_node.entry(*node).or_default().push(at);
                }
            }
        }
        it.peers = peers;
        it
    }

    fn run(mut self) -> Difference {
        let (pairs, mut difference) = self.subjects();
        let mut alike: BTreeMap<([ProfileId; 2], Exceptions), Vec<DiffSubject>> = BTreeMap::new();
        for pair in pairs {
            let entries = self.programs.iter().zip(pair.endpoints);
            let mut profiles = entries.map(|(program, id)| program.entry(id)?.profile);
            let (Some(Some(first)), Some(Some(second))) = (profiles.next(), profiles.next()) else {
                continue;
            };
            let general = self.general([first, second]);
            let exceptions = self.exceptions(&pair, &general);
            alike.entry(([first, second], exceptions)).or_default().push(pair.subject);
        }
        // Different profiles may differ in the same.
        let mut merged: BTreeMap<_, Vec<DiffSubject>> = BTreeMap::new();
        for ((profiles, exceptions), subjects) in alike {
            let cuts = self.general(profiles).cuts.clone();
            merged.entry((cuts, exceptions)).or_default().extend(subjects);
        }
        let mut merged: Vec<_> = merged.into_iter().collect();
        merged.iter_mut().for_each(|(_, subjects)| subjects.sort_unstable());
        merged.sort_by(|(_, one), (_, two)| one.cmp(two));
        for ((cuts, exceptions), subjects) in merged {
            for ((direction, allowed, traffic), peers) in self.told(cuts, exceptions) {
                let verdict = if allowed { Verdict::Allow } else { Verdict::Deny };
                let subjects = subjects.clone();
                difference.cells.push(Cell { direction, verdict, subjects, peers, traffic });
            }
        }
        difference
    }

    /// The endpoints that both police, and what is to be told of the others.
    fn subjects(&self) -> (Vec<Pair>, Difference) {
        let policed = self.programs.map(|program| {
            let names = program.endpoints().map(|it| (it.namespace.clone(), it.name.clone()));
            names.collect::<BTreeSet<_>>()
        });
        let [first, second] = &policed;
        let added: Vec<_> = second.difference(first).cloned().collect();
        let removed: Vec<_> = first.difference(second).cloned().collect();
        let mut moved = Vec::new();
        // Addresses of one host are told apart by the nodes that have them, since these are not policed with themselves.
        let mut groups: BTreeMap<_, Vec<End>> = BTreeMap::new();
        for end in &self.peers {
            let owners = self.programs.map(|program| {
                let resolved = program.resolve(end);
                let entry = program.entry(resolved.endpoint()?)?;
                entry.profile?;
                let host = program.address_of(end).filter(|_| entry.host);
                let mut nodes = host.map(|it| program.inner.addresses.nodes_at(it).to_vec());
                nodes.iter_mut().for_each(|nodes| nodes.sort_unstable());
                let name = (entry.namespace.clone(), entry.name.clone());
                Some((name, resolved.endpoint()?, nodes))
            });
            match owners {
                [Some((name, first, at)), Some((same, second, also_at))] if name == same => {
                    let ends = groups.entry((name, [first, second], [at, also_at])).or_default();
                    ends.push(end.clone());
                }
                owners => {
                    let [from, to] = owners.map(|owner| owner.map(|(name, ..)| name));
                    let follows = from.as_ref().is_none_or(|it| removed.binary_search(it).is_ok())
                        && to.as_ref().is_none_or(|it| added.binary_search(it).is_ok());
                    if !follows {
                        moved.push(Moved { end: end.clone(), from, to });
                    }
                }
            }
        }
        let pairs = groups.into_iter().map(|(((namespace, name), endpoints, _), ends)| {
            let own_node = self.own_node(endpoints, &ends);
            Pair { subject: DiffSubject { namespace, name, ends, own_node }, endpoints }
        });
        (pairs.collect(), Difference { cells: Vec::new(), added, removed, moved })
    }

    /// What the nodes that an endpoint is on go by, other than the endpoint itself.
    fn own_node(&self, endpoints: [EndpointId; 2], ends: &[End]) -> Vec<End> {
        let sides = self.programs.iter().zip(endpoints).zip(&self.of_node);
        let peers = sides.flat_map(|((program, id), of_node)| {
            let node = program.entry(id).and_then(|entry| entry.node);
            node.and_then(|node| of_node.get(&node)).into_iter().flatten()
        });
        let peers: BTreeSet<usize> = peers.copied().collect();
        let peers = peers.into_iter().filter_map(|at| self.peers.get(at));
        peers.filter(|end| !ends.contains(end)).cloned().collect()
    }

    fn general(&mut self, profiles: [ProfileId; 2]) -> Arc<General> {
        if let Some(known) = self.general.get(&profiles) {
            return known.clone();
        }
        let [before, after] = self.programs;
        let [first, second] = profiles;
        let mut general = General::default();
        for direction in Direction::ALL {
            let sides =
                [before.profile(first).side(direction), after.profile(second).side(direction)];
            for traffic in elementary(sides.into_iter().flatten()) {
                let classes = sides.map(|side| side.map(|it| it.class_of(traffic.example())));
                for (kind, allowed) in self.changed(classes).iter() {
                    let changes = general.changes.entry(*kind).or_default();
                    append(changes.entry((direction, *allowed)).or_default(), traffic);
                }
            }
        }
        for (kind, changes) in &general.changes {
            for ((direction, allowed), traffic) in changes {
                let cut = (*direction, *allowed, traffic.clone());
                general.cuts.entry(cut).or_default().push(*kind);
            }
        }
        let general = Arc::new(general);
        self.general.insert(profiles, general.clone());
        general
    }

    /// The kinds that two classes judge differently, and whether the second one allows them.
    fn changed(&mut self, classes: [Option<ClassId>; 2]) -> Changed {
        let ([before, after], [first, second]) = (self.programs, classes);
        let kinds = &self.kinds;
        let compared = self.classes.entry(classes).or_insert_with(|| {
            let of = |program: &Program, class: Option<ClassId>, identity| {
                class.map_or(Verdict::Allow, |id| program.class(id).verdict(identity))
            };
            let changed = kinds.keys().filter_map(|&[one, two]| {
                let (then, now) = (of(before, first, one), of(after, second, two));
                (then != now).then_some(([one, two], now == Verdict::Allow))
            });
            Arc::new(changed.collect())
        });
        compared.clone()
    }

    /// What is different for one subject: where its own node or it itself is concerned.
    fn exceptions(&self, pair: &Pair, general: &General) -> Exceptions {
        let subject = &pair.subject;
        let Some(end) = subject.ends.first() else { return Vec::new() };
        let cuts = self.cuts(pair);
        // A peer may be the same endpoint in one of the programs only.
        let mut special: BTreeSet<usize> = BTreeSet::new();
        let places = self.of_node.iter().zip(&self.of_endpoint);
        let sides = self.programs.iter().zip(pair.endpoints).zip(places);
        for ((program, id), (of_node, of_endpoint)) in sides {
            special.extend(of_endpoint.get(&id).into_iter().flatten());
            if program.entry(id).is_some_and(|entry| entry.host) {
                // Two addresses of one node may be known as those of different ones.
                special.extend(of_node.values().flatten());
            }
        }
        let mut exceptions = Vec::new();
        for at in special {
            let Some(peer) = self.peers.get(at) else { continue };
            if subject.ends.contains(peer) || subject.own_node.contains(peer) {
                continue;
            }
            let changes = self.decided(end, peer, &cuts);
            let kind = self.programs.map(|program| program.resolve(peer).identity());
            if general.changes.get(&kind).map_or(!changes.is_empty(), |usual| *usual != changes) {
                exceptions.push((Special::Listed(at), changes));
            }
        }
        let changes = subject.own_node.iter().map(|it| (it, self.decided(end, it, &cuts)));
        exceptions.extend(apart(changes.collect(), Special::OwnNode));
        let policed = |it: &&Program| it.options().self_traffic == SelfTraffic::Policed;
        if self.programs.iter().any(policed) {
            let changes = subject.ends.iter().map(|it| (it, self.decided(end, it, &cuts)));
            exceptions.extend(apart(changes.collect(), Special::Itself));
        }
        exceptions
    }

    /// Where any profile that may judge a subject cuts the traffic.
    fn cuts(&self, pair: &Pair) -> [(Direction, Vec<TrafficRange>); 2] {
        Direction::ALL.map(|direction| {
            let entries = self.programs.iter().zip(pair.endpoints);
            let sides = entries.flat_map(|(program, id)| {
                let entry = program.entry(id);
                let profiles = [entry.and_then(|it| it.profile), entry.and_then(|it| it.own)];
                let profiles = profiles.into_iter().flatten();
                profiles.filter_map(move |id| program.profile(id).side(direction))
            });
            let sides: Vec<_> = sides.collect();
            (direction, elementary(sides.iter().copied()).collect())
        })
    }

    /// What changes between two ends, asked as everybody asks.
    fn decided(
        &self,
        subject: &End,
        peer: &End,
        cuts: &[(Direction, Vec<TrafficRange>)],
    ) -> Changes {
        let mut changes = Changes::new();
        for (direction, ranges) in cuts {
            for range in ranges {
                let flow = directed(*direction, subject, peer, range.example());
                let [then, now] = self.programs.map(|program| {
                    let decision = program.decide(&flow);
                    let verdict = match direction {
                        Direction::Egress => decision.egress,
                        Direction::Ingress => decision.ingress,
                    };
                    verdict != Some(Verdict::Deny)
                });
                if then != now {
                    append(changes.entry((*direction, now)).or_default(), *range);
                }
            }
        }
        changes
    }

    /// The peers of each cut as they are told of, neighbouring addresses joined.
    fn told(
        &self,
        cuts: BTreeMap<Cut, Vec<Kind>>,
        exceptions: Exceptions,
    ) -> BTreeMap<Cut, Vec<DiffPeer>> {
        let except: BTreeSet<usize> = exceptions
            .iter()
            .filter_map(|(special, _)| match special {
                Special::Listed(at) => Some(*at),
                Special::OwnNode(_) | Special::Itself(_) => None,
            })
            .collect();
        let mut listed: BTreeMap<Cut, (BTreeSet<usize>, Vec<DiffPeer>)> = BTreeMap::new();
        for (cut, kinds) in cuts {
            let members = kinds.iter().filter_map(|kind| self.kinds.get(kind)).flatten();
            let members = members.copied().filter(|at| !except.contains(at));
            listed.entry(cut).or_default().0.extend(members);
        }
        for (special, changes) in exceptions {
            for ((direction, allowed), traffic) in changes {
                let (members, apart) = listed.entry((direction, allowed, traffic)).or_default();
                match &special {
                    Special::Listed(at) => drop(members.insert(*at)),
                    Special::Itself(end) => apart.push(DiffPeer::Itself(end.clone())),
                    Special::OwnNode(end) => apart.push(DiffPeer::OwnNode(end.clone())),
                }
            }
        }
        let listed = listed
            .into_iter()
            .filter(|(_, (members, apart))| !members.is_empty() || !apart.is_empty());
        listed.map(|(cut, (members, apart))| (cut, self.named(&members, apart))).collect()
    }

    fn named(&self, members: &BTreeSet<usize>, apart: Vec<DiffPeer>) -> Vec<DiffPeer> {
        let ranges = members.iter().filter_map(|at| self.ranges.get(*at)).cloned().collect();
        let ranges = coalesce(ranges).into_iter().map(DiffPeer::Addresses);
        let names = members.range(self.ranges.len()..).filter_map(|at| self.peers.get(*at));
        let names = names.filter_map(|end| match end {
            End::Endpoint { namespace, name } => {
                let (namespace, name) = (namespace.clone(), name.clone());
                Some(DiffPeer::Endpoint { namespace, name })
            }
            End::Address(_) => None,
        });
        ranges.chain(names).chain(apart).collect()
    }
}

/// Ends with their changes: as one where all change alike, and without those that do not change.
fn apart(changes: Vec<(&End, Changes)>, special: fn(Option<End>) -> Special) -> Exceptions {
    let alike = changes.windows(2).all(|it| matches!(it, [(_, one), (_, two)] if one == two));
    if alike && let Some((_, all)) = changes.first() {
        return if all.is_empty() { Vec::new() } else { vec![(special(None), all.clone())] };
    }
    let changed = changes.into_iter().filter(|(_, changes)| !changes.is_empty());
    changed.map(|(end, changes)| (special(Some(end.clone())), changes)).collect()
}

fn directed(direction: Direction, subject: &End, peer: &End, traffic: Traffic) -> Flow {
    let (source, destination) = match direction {
        Direction::Egress => (subject.clone(), peer.clone()),
        Direction::Ingress => (peer.clone(), subject.clone()),
    };
    Flow::between(source, destination, traffic)
}

impl fmt::Display for DiffPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(range) if range.start() == range.end() => {
                write!(f, "{}", range.start())
            }
            Self::Addresses(range) => write!(f, "{}-{}", range.start(), range.end()),
            Self::Endpoint { namespace, name } => write!(f, "{namespace}/{name}"),
            Self::OwnNode(None) => f.write_str("its own node"),
            Self::OwnNode(Some(end)) => write!(f, "its own node ({end})"),
            Self::Itself(None) => f.write_str("itself"),
            Self::Itself(Some(end)) => write!(f, "itself ({end})"),
        }
    }
}
