use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ahash::{HashMap, HashSet};

use crate::model::{Direction, End, Flow, Name, SelfTraffic, Traffic};

use super::members::coalesce;
use super::partition::{address_ranges, append, elementary};
use super::{ClassId, EndpointId, IdentityId, NodeId, ProfileId, Program, TrafficRange, Verdict};

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
}

/// The other end of connections whose verdict changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiffPeer {
    /// Whatever has one of these addresses, other than the subject itself.
    Addresses(RangeInclusive<IpAddr>),
    /// An endpoint asked about by name, other than the subject itself.
    Endpoint {
        /// Its namespace.
        namespace: Name,
        /// Its name.
        name: Name,
    },
    /// The subject itself by one of its addresses or its name, where that is policed (CH-SELF).
    Itself(End),
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
    /// About the product of pairs of classes and pairs of identities, and that of pairs of profiles and changed
    /// identities; endpoints of equal profiles cost little more than one.
    ///
    /// What a policy does is the difference to the program without it:
    ///
    /// ```
    /// use netpol_core::model::*;
    /// use netpol_core::program::{Difference, Scope, Verdict};
    /// use netpol_core::{Cluster, compile};
    ///
    /// fn effect_of(key: &PolicyKey, cluster: &Cluster) -> Difference {
    ///     let mut without = cluster.clone();
    ///     without.remove_policy(key);
    ///     compile(&without, Scope::Cluster).diff(&compile(cluster, Scope::Cluster))
    /// }
    ///
    /// let mut cluster = Cluster::default();
    /// let mut web = Endpoint::new("shop", "web");
    /// web.addresses.push("10.0.0.1".parse()?);
    /// cluster.upsert_endpoint(web);
    /// let kind = PolicyKind::NetworkPolicy;
    /// let key = PolicyKey { kind, namespace: "shop".into(), name: "closed".into() };
    /// let namespaces = NamespaceScope::Named("shop".into());
    /// cluster.upsert_policy(Policy {
    ///     key: key.clone(),
    ///     tier: Tier::NetworkPolicy,
    ///     priority: 0,
    ///     subject: Subject::Pods(PodSelector { namespaces, pods: Selector::everything() }),
    ///     ingress: Some(vec![]),
    ///     egress: None,
    /// });
    /// let effect = effect_of(&key, &cluster);
    /// assert!(effect.cells.iter().all(|cell| cell.verdict == Verdict::Deny));
    /// assert_eq!(&*effect.cells[0].subjects[0].name, "web");
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
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
        let among = self.peers.iter().any(|it| match (it, peer) {
            (DiffPeer::Itself(end), peer) => itself && end == peer,
            (DiffPeer::Addresses(range), End::Address(address)) => {
                !itself && range.contains(address)
            }
            (
                DiffPeer::Endpoint { namespace, name },
                End::Endpoint { namespace: in_, name: called },
            ) => !itself && (namespace, name) == (in_, called),
            _ => false,
        });
        among && self.traffic.iter().any(|it| it.contains(flow.traffic))
    }
}

/// The traffic that changes for one pair of ends: by direction, and whether it is allowed afterwards.
type Changes = BTreeMap<(Direction, bool), Vec<TrafficRange>>;

/// A peer: its place in the list of all, or the subject itself by one of its ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PeerRef {
    Listed(usize),
    Itself(End),
}

/// All changes of one subject, grouped by equal traffic.
type Body = BTreeMap<(Direction, bool, Vec<TrafficRange>), Vec<PeerRef>>;

/// The identity of a peer in either program.
type Kind = [IdentityId; 2];

/// The kinds that two classes judge differently, and whether the second one allows them.
type Changed = Arc<Vec<(Kind, bool)>>;

/// What two profiles differ in, own nodes and the subject itself aside.
#[derive(Default)]
struct General {
    changes: BTreeMap<Kind, Changes>,
    body: Body,
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
            programs.iter().flat_map(|it| it.inner.names.iter().map(|(name, _)| name)).collect();
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
            it.kinds.entry(resolved.map(|it| it.identity)).or_default().push(at);
            for (side, resolved) in resolved.iter().enumerate() {
                let (Some(of_node), Some(of_endpoint), Some(program)) =
                    (it.of_node.get_mut(side), it.of_endpoint.get_mut(side), programs.get(side))
                else {
                    continue;
                };
                if let Some(id) = resolved.endpoint {
                    of_endpoint.entry(id).or_default().push(at);
                }
                let address = resolved.address.into_iter();
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
        let mut shared: BTreeMap<[ProfileId; 2], Vec<DiffSubject>> = BTreeMap::new();
        let mut bodies: BTreeMap<Body, Vec<DiffSubject>> = BTreeMap::new();
        for pair in pairs {
            let [before, after] = self.programs;
            let [first, second] = pair.endpoints;
            let profiles = [before.entry(first), after.entry(second)];
            let [Some(Some(first)), Some(Some(second))] =
                profiles.map(|entry| entry.map(|entry| entry.profile))
            else {
                continue;
            };
            let general = self.general([first, second]);
            match self.exceptional(&pair, &general) {
                None => shared.entry([first, second]).or_default().push(pair.subject),
                Some(body) => bodies.entry(body).or_default().push(pair.subject),
            }
        }
        for (profiles, subjects) in shared {
            let body = self.general(profiles).body.clone();
            bodies.entry(body).or_default().extend(subjects);
        }
        let mut bodies: Vec<_> = bodies.into_iter().collect();
        bodies.iter_mut().for_each(|(_, subjects)| subjects.sort_unstable());
        bodies.sort_by(|(_, one), (_, two)| one.cmp(two));
        for (body, subjects) in bodies {
            difference.cells.extend(body.into_iter().map(
                |((direction, allowed, traffic), peers)| {
                    let verdict = if allowed { Verdict::Allow } else { Verdict::Deny };
                    let peers = self.named(peers);
                    Cell { direction, verdict, subjects: subjects.clone(), peers, traffic }
                },
            ));
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
                let entry = program.entry(resolved.endpoint?)?;
                entry.profile?;
                let host = resolved.address.filter(|_| entry.host);
                let mut nodes = host.map(|it| program.inner.addresses.nodes_at(it).to_vec());
                nodes.iter_mut().for_each(|nodes| nodes.sort_unstable());
                let name = (entry.namespace.clone(), entry.name.clone());
                Some((name, resolved.endpoint?, nodes))
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
        let pairs = groups.into_iter().map(|(((namespace, name), endpoints, _), ends)| Pair {
            subject: DiffSubject { namespace, name, ends },
            endpoints,
        });
        (pairs.collect(), Difference { cells: Vec::new(), added, removed, moved })
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
        general.body = self.body(&general, &HashSet::default());
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

    /// The changes of a subject, if they are not those of its profiles: where its own node or it itself is concerned.
    fn exceptional(&self, pair: &Pair, general: &General) -> Option<Body> {
        let end = pair.subject.ends.first()?;
        let cuts = self.cuts(pair);
        let mut special: BTreeSet<usize> = BTreeSet::new();
        let places = self.of_node.iter().zip(&self.of_endpoint);
        for ((program, id), (of_node, of_endpoint)) in
            self.programs.iter().zip(pair.endpoints).zip(places)
        {
            let Some(entry) = program.entry(id) else { continue };
            special.extend(of_endpoint.get(&id).into_iter().flatten());
            special.extend(entry.node.and_then(|it| of_node.get(&it)).into_iter().flatten());
            if entry.host {
                // Two addresses of one node may be known as those of different ones.
                special.extend(of_node.values().flatten());
            }
        }
        let mut body: Vec<(PeerRef, Changes)> = Vec::new();
        let mut excluded = HashSet::default();
        let policed =
            self.programs.iter().any(|it| it.options().self_traffic == SelfTraffic::Policed);
        for at in special {
            let Some(peer) = self.peers.get(at) else { continue };
            if pair.subject.ends.contains(peer) {
                // Cells do not include a subject among its own peers, so that others may share them.
                let changes = if policed { self.decided(end, peer, &cuts) } else { Changes::new() };
                if !changes.is_empty() {
                    body.push((PeerRef::Itself(peer.clone()), changes));
                }
                continue;
            }
            let changes = self.decided(end, peer, &cuts);
            let kind = self.programs.map(|program| program.resolve(peer).identity);
            if general.changes.get(&kind).map_or(!changes.is_empty(), |usual| *usual != changes) {
                excluded.insert(at);
                body.push((PeerRef::Listed(at), changes));
            }
        }
        if body.is_empty() {
            return None;
        }
        let mut all = self.body(general, &excluded);
        for (peer, changes) in body {
            for ((direction, allowed), traffic) in changes {
                all.entry((direction, allowed, traffic)).or_default().push(peer.clone());
            }
        }
        all.values_mut().for_each(|peers| peers.sort_unstable());
        Some(all)
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

    fn body(&self, general: &General, excluded: &HashSet<usize>) -> Body {
        let mut body = Body::new();
        for (kind, changes) in &general.changes {
            let members = self.kinds.get(kind).into_iter().flatten();
            let members: Vec<_> = members.filter(|at| !excluded.contains(at)).collect();
            if members.is_empty() {
                continue;
            }
            for ((direction, allowed), traffic) in changes {
                let peers = body.entry((*direction, *allowed, traffic.clone())).or_default();
                peers.extend(members.iter().map(|at| PeerRef::Listed(**at)));
            }
        }
        body.values_mut().for_each(|peers| peers.sort_unstable());
        body
    }

    /// Sorted peers as they are told of, neighbours joined.
    fn named(&self, peers: Vec<PeerRef>) -> Vec<DiffPeer> {
        let (mut ranges, mut others) = (Vec::new(), Vec::new());
        for peer in peers {
            match peer {
                PeerRef::Itself(end) => others.push(DiffPeer::Itself(end)),
                PeerRef::Listed(at) => match (self.ranges.get(at), self.peers.get(at)) {
                    (Some(range), _) => ranges.push(range.clone()),
                    (None, Some(End::Endpoint { namespace, name })) => {
                        let (namespace, name) = (namespace.clone(), name.clone());
                        others.push(DiffPeer::Endpoint { namespace, name });
                    }
                    (None, _) => {}
                },
            }
        }
        let ranges = coalesce(ranges).into_iter().map(DiffPeer::Addresses);
        ranges.chain(others).collect()
    }
}

fn directed(direction: Direction, subject: &End, peer: &End, traffic: Traffic) -> Flow {
    let (source, destination) = match direction {
        Direction::Egress => (subject.clone(), peer.clone()),
        Direction::Ingress => (peer.clone(), subject.clone()),
    };
    Flow { source, destination, traffic }
}

impl fmt::Display for DiffPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(range) if range.start() == range.end() => {
                write!(f, "{}", range.start())
            }
            Self::Addresses(range) => write!(f, "{}-{}", range.start(), range.end()),
            Self::Endpoint { namespace, name } => write!(f, "{namespace}/{name}"),
            Self::Itself(end) => write!(f, "itself ({end})"),
        }
    }
}
