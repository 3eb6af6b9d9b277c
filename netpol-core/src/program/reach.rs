use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::hash::{HashMap, HashSet};
use crate::model::{Direction, End, Name, PortRange, Protocol};

use super::members::coalesce;
use super::partition::{address_ranges, append};
use super::{ClassId, IdentityId, NamedEnd, NodeId, ProfileId, Program, TrafficRange, Verdict};

/// Connections that both ends allow: from each of the sources, to each of the destinations, by any of the traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Who may begin them: endpoints in order, then addresses.
    pub sources: Vec<Party>,
    /// To whom.
    pub destinations: Vec<Party>,
    /// By what, in order, never adjacent.
    pub traffic: Vec<TrafficRange>,
}

/// One end of the connections of a [`Reach`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Party {
    /// An endpoint that has its own place in the network.
    Endpoint {
        /// Its namespace.
        namespace: Name,
        /// Its name.
        name: Name,
        /// The address that is meant; `None` for one without any.
        address: Option<IpAddr>,
    },
    /// Addresses that no such endpoint has: of nodes, and outside of the cluster.
    Addresses(RangeInclusive<IpAddr>),
}

/// A party with all that judges it.
struct Place {
    party: Party,
    identity: IdentityId,
    profile: Option<ProfileId>,
    node: Option<NodeId>,
}

/// Parties that differ at most in the node they are on.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Alike {
    profile: Option<ProfileId>,
    identity: IdentityId,
    /// The nodes whose address it is.
    nodes: Vec<NodeId>,
}

/// Parties by their places in the list of all.
type Group = Vec<usize>;

impl Program {
    /// Who may connect to whom by what: all pairs of which at least one end is policed, each in one row at most.
    ///
    /// What is not in any row is denied. An endpoint's or a node's connections with itself are left out, since
    /// policies hardly ever judge them (NP-SELF-1). Families are not told apart. The order of rows depends on nothing
    /// but what the program says.
    ///
    /// Endpoints of one profile and identity are looked at together. Costs about as much as the answer has pairs of such
    /// groups: those that an isolated end does not know are not looked at.
    pub fn reach(&self) -> Vec<Reach> {
        let places = self.places();
        let mut groups: BTreeMap<Alike, Group> = BTreeMap::new();
        for (at, place) in places.iter().enumerate() {
            let (profile, identity) = (place.profile, place.identity);
            let mut nodes = match &place.party {
                Party::Endpoint { .. } => Vec::new(),
                Party::Addresses(range) => self.inner.addresses.nodes_at(*range.start()).to_vec(),
            };
            nodes.sort_unstable();
            groups.entry(Alike { profile, identity, nodes }).or_default().push(at);
        }
        let groups: Vec<(Alike, Group)> = groups.into_iter().collect();
        let mut acquaintances = Acquaintances::new(self, &groups);
        // Sources with all that they reach by the same traffic, and of those all that reach the same.
        let mut rows: HashMap<(Group, Vec<TrafficRange>), Group> = HashMap::default();
        for (from, sources) in &groups {
            let mut reached: BTreeMap<(Group, Vec<TrafficRange>), Group> = BTreeMap::new();
            // All of the sources, by far the most frequent case, without a copy of them for each destination.
            let mut by_all: HashMap<Vec<TrafficRange>, Group> = HashMap::default();
            for at in acquaintances.of(self, from) {
                let Some((to, destinations)) = groups.get(at) else { continue };
                if from.profile.is_none() && to.profile.is_none() {
                    continue;
                }
                if from.nodes.is_empty() && to.nodes.is_empty() {
                    let traffic = self.allowed([from, to], [false, false]);
                    if !traffic.is_empty() {
                        by_all.entry(traffic).or_default().extend(destinations);
                    }
                    continue;
                }
                for (sources, out_of_node) in on_and_off(&places, sources, &to.nodes) {
                    for (destinations, into_node) in on_and_off(&places, destinations, &from.nodes)
                    {
                        let traffic = self.allowed([from, to], [out_of_node, into_node]);
                        if !traffic.is_empty() {
                            let row = reached.entry((sources.clone(), traffic)).or_default();
                            row.extend(destinations);
                        }
                    }
                }
            }
            for (traffic, destinations) in by_all {
                reached.entry((sources.clone(), traffic)).or_default().extend(destinations);
            }
            for ((sources, traffic), mut destinations) in reached {
                destinations.sort_unstable();
                rows.entry((destinations, traffic)).or_default().extend(sources);
            }
        }
        let mut rows: Vec<_> = rows.into_iter().collect();
        rows.iter_mut().for_each(|(_, sources)| sources.sort_unstable());
        // Groups are in the order of numbers that happen to be given; places are not.
        rows.sort_unstable_by(|((to, by), from), ((to2, by2), from2)| {
            (from, to, by).cmp(&(from2, to2, by2))
        });
        let rows = rows.into_iter().map(|((destinations, traffic), sources)| Reach {
            sources: parties(&places, sources),
            destinations: parties(&places, destinations),
            traffic,
        });
        rows.collect()
    }

    /// Endpoints in the order of their names, and then all other addresses.
    fn places(&self) -> Vec<Place> {
        let (mut endpoints, mut others) = (BTreeMap::new(), Vec::new());
        for range in address_ranges(&[self]) {
            let resolved = self.resolve(&End::Address(*range.start()));
            let entry = resolved.endpoint().and_then(|id| self.entry(id));
            let identity = resolved.identity();
            let profile = entry.and_then(|it| it.profile);
            match entry.filter(|it| !it.host) {
                Some(entry) => {
                    let (namespace, name) = (entry.namespace.clone(), entry.name.clone());
                    let key = (namespace.clone(), name.clone(), Some(*range.start()));
                    let party = Party::Endpoint { namespace, name, address: key.2 };
                    endpoints.insert(key, Place { party, identity, profile, node: entry.node });
                }
                None => {
                    let (party, node) = (Party::Addresses(range), entry.and_then(|it| it.node));
                    others.push(Place { party, identity, profile, node });
                }
            }
        }
        for ((namespace, name), end) in self.inner.all_names() {
            let NamedEnd::Ordinary(id) = end else { continue };
            let Some(entry) = self.entry(id).filter(|it| it.addresses.is_empty()) else {
                continue;
            };
            let (namespace, name) = (namespace.clone(), name.clone());
            let key = (namespace.clone(), name.clone(), None);
            let party = Party::Endpoint { namespace, name, address: None };
            let (identity, profile, node) = (entry.identity, entry.profile, entry.node);
            endpoints.insert(key, Place { party, identity, profile, node });
        }
        endpoints.into_values().chain(others).collect()
    }

    /// The traffic that both ends allow; told for each end whether the other one is its own node.
    fn allowed(&self, [from, to]: [&Alike; 2], own_node: [bool; 2]) -> Vec<TrafficRange> {
        let side = |of: &Alike, direction| self.profile(of.profile?).side(direction);
        let sides = [side(from, Direction::Egress), side(to, Direction::Ingress)];
        let peers = [to.identity, from.identity];
        let allows = |classes: [Option<ClassId>; 2]| {
            let judged = classes.iter().zip(peers).zip(own_node);
            let mut verdicts = judged.map(|((class, peer), own_node)| {
                class.is_none_or(|class| {
                    let class = self.class(class);
                    class.verdict(peer) == Verdict::Allow
                        || (own_node && class.allows_own_node(peer))
                })
            });
            verdicts.all(|allowed| allowed)
        };
        let mut ranges = Vec::new();
        for protocol in Protocol::ALL {
            // Both lists are cut wherever one of them is.
            let [mut egress, mut ingress] =
                sides.map(|side| side.map_or(&[][..], |side| side.intervals(protocol)));
            let mut first = Some(0);
            while let Some(begin) = first {
                let heads = [egress.first(), ingress.first()];
                let ends = heads.map(|head| head.map_or(u16::MAX, |(range, _)| range.last()));
                let last = ends[0].min(ends[1]);
                if allows(heads.map(|head| head.map(|(_, class)| *class)))
                    && let Some(range) = PortRange::new(begin, last)
                {
                    append(&mut ranges, TrafficRange::Ports(protocol, range));
                }
                for (list, end) in [&mut egress, &mut ingress].into_iter().zip(ends) {
                    if end == last {
                        *list = list.get(1..).unwrap_or_default();
                    }
                }
                first = last.checked_add(1);
            }
        }
        if allows(sides.map(|side| side.map(|side| side.other()))) {
            ranges.push(TrafficRange::Other);
        }
        ranges
    }
}

/// Which groups are worth looking at: for most ends that are isolated only few others are allowed on any port.
struct Acquaintances {
    /// The groups of which a glance tells who may connect to them, by these.
    into: HashMap<IdentityId, Vec<usize>>,
    /// The groups that anyone may connect to, as far as a glance tells.
    open: Vec<usize>,
    all: usize,
    /// Of each group the identity, and whether it is a node's.
    identities: Vec<(IdentityId, bool)>,
    /// By profile, whom egress allows at all; `None` if that may be anyone.
    out_of: HashMap<ProfileId, Option<HashSet<IdentityId>>>,
}

impl Acquaintances {
    fn new(program: &Program, groups: &[(Alike, Group)]) -> Self {
        let mut ingress: HashMap<ProfileId, Option<HashSet<IdentityId>>> = HashMap::default();
        let (mut into, mut open): (HashMap<_, Vec<usize>>, _) = (HashMap::default(), Vec::new());
        for (at, (to, _)) in groups.iter().enumerate() {
            let few = to.profile.and_then(|id| {
                let admitted = || program.admitted(id, Direction::Ingress);
                ingress.entry(id).or_insert_with(admitted).as_ref()
            });
            match few {
                None => open.push(at),
                Some(few) => few.iter().for_each(|id| into.entry(*id).or_default().push(at)),
            }
        }
        let identities = groups.iter().map(|(it, _)| (it.identity, !it.nodes.is_empty()));
        let identities = identities.collect();
        Self { into, open, all: groups.len(), identities, out_of: HashMap::default() }
    }

    /// The groups that may be connected to from this one.
    fn of(&mut self, program: &Program, from: &Alike) -> Vec<usize> {
        // A node reaches its own pods whatever they say.
        let mut found: Vec<usize> = match from.nodes.is_empty() {
            false => (0..self.all).collect(),
            true => {
                let known = self.into.get(&from.identity).into_iter().flatten();
                self.open.iter().chain(known).copied().collect()
            }
        };
        if let Some(id) = from.profile {
            let admitted = || program.admitted(id, Direction::Egress);
            if let Some(few) = self.out_of.entry(id).or_insert_with(admitted) {
                let identities = &self.identities;
                found.retain(|at| {
                    identities.get(*at).is_some_and(|(id, node)| *node || few.contains(id))
                });
            }
        }
        found
    }
}

impl Program {
    /// The identities that a profile allows on any port, own nodes aside; `None` if these may be all but a few.
    fn admitted(&self, id: ProfileId, direction: Direction) -> Option<HashSet<IdentityId>> {
        let side = self.profile(id).side(direction)?;
        let intervals = Protocol::ALL.into_iter().flat_map(|it| side.intervals(it));
        let classes = intervals.map(|(_, class)| *class).chain([side.other()]);
        let mut few = HashSet::default();
        for class in classes.map(|id| self.class(id)) {
            if class.default == Verdict::Allow {
                return None;
            }
            few.extend(class.exceptions.iter());
        }
        Some(few)
    }
}

/// Those of a group that are on one of these nodes, and those that are not; neither if there is none.
fn on_and_off(places: &[Place], group: &Group, nodes: &[NodeId]) -> Vec<(Group, bool)> {
    if nodes.is_empty() {
        return vec![(group.clone(), false)];
    }
    let is_on = |at: &usize| {
        let node = places.get(*at).and_then(|place| place.node);
        node.is_some_and(|node| nodes.contains(&node))
    };
    let (on, off): (Group, Group) = group.iter().copied().partition(is_on);
    [(on, true), (off, false)].into_iter().filter(|(group, _)| !group.is_empty()).collect()
}

/// The parties at ascending places, neighbouring addresses joined.
fn parties(places: &[Place], at: impl IntoIterator<Item = usize>) -> Vec<Party> {
    let (mut endpoints, mut ranges) = (Vec::new(), Vec::new());
    for place in at.into_iter().filter_map(|at| places.get(at)) {
        match &place.party {
            Party::Addresses(range) => ranges.push(range.clone()),
            endpoint @ Party::Endpoint { .. } => endpoints.push(endpoint.clone()),
        }
    }
    endpoints.into_iter().chain(coalesce(ranges).into_iter().map(Party::Addresses)).collect()
}

impl Party {
    /// Whether it is meant by this end of a connection. An endpoint that has addresses is meant by those only.
    pub fn is(&self, end: &End) -> bool {
        match (self, end) {
            (Self::Endpoint { address: Some(own), .. }, End::Address(address)) => own == address,
            (
                Self::Endpoint { namespace, name, address: None },
                End::Endpoint { namespace: in_, name: called },
            ) => (namespace, name) == (in_, called),
            (Self::Addresses(range), End::Address(address)) => range.contains(address),
            _ => false,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint { namespace, name, address: None } => write!(f, "{namespace}/{name}"),
            Self::Endpoint { namespace, name, address: Some(address) } => {
                write!(f, "{namespace}/{name} ({address})")
            }
            Self::Addresses(range) if range.start() == range.end() => {
                write!(f, "{}", range.start())
            }
            Self::Addresses(range) => write!(f, "{}-{}", range.start(), range.end()),
        }
    }
}
