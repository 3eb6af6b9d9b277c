//! Who may talk to whom, as people speak of it: by pod and namespace, not by address.

mod addresses;
mod difference;
mod end;
mod focus;
mod representatives;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use netpol_core::model::{Family, Name, Objects};
use netpol_core::program::{Party, Program, Reach, TrafficRange};

use self::addresses::Atlas;

pub(crate) use self::difference::{Change, Difference};
pub(crate) use self::end::{End, EndJson};
pub(crate) use self::focus::{Focus, Place};
pub(crate) use self::representatives::representatives;

/// All connections that the policies allow.
#[derive(Debug)]
pub(crate) struct Connectivity {
    /// The pods, in the order of their names.
    pub(crate) pods: Vec<Pod>,
    /// What may be connected, in a fixed order.
    pub(crate) connections: Vec<Connection>,
    atlas: Atlas,
    /// How many pods of the input a namespace has; hypothetical ones do not count.
    namespaces: BTreeMap<Name, usize>,
}

/// A pod that the program knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) namespace: Name,
    pub(crate) name: Name,
    pub(crate) addresses: Vec<IpAddr>,
    /// It is not in the input.
    pub(crate) hypothetical: bool,
}

/// From each of the sources, to each of the destinations, by any of the traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) sources: Side,
    pub(crate) destinations: Side,
    pub(crate) traffic: Vec<TrafficRange>,
    /// The only address family in which that holds; none if it does whatever the family.
    pub(crate) family: Option<Family>,
}

/// One end of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Side {
    /// By their places in the list of all.
    pub(crate) pods: BTreeSet<usize>,
    /// Addresses that no pod has, ascending; the bounds of ranges.
    pub(crate) outside: BTreeSet<(IpAddr, IpAddr)>,
}

impl Connectivity {
    /// All that the program allows, which was compiled from these objects.
    pub(crate) fn new(program: &Program, objects: &Objects) -> Self {
        let mut pods: Vec<Pod> = program
            .endpoints()
            .filter(|entry| !entry.is_host())
            .map(|entry| {
                let (namespace, name) = (Name::from(entry.namespace()), Name::from(entry.name()));
                // No object has such a name.
                let hypothetical = name.starts_with('[');
                Pod { namespace, name, addresses: entry.addresses().to_vec(), hypothetical }
            })
            .collect();
        pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        pods.dedup_by(|later, kept| {
            let same = (&later.namespace, &later.name) == (&kept.namespace, &kept.name);
            if same {
                kept.addresses.append(&mut later.addresses);
            }
            same
        });
        let nodes = objects
            .nodes
            .iter()
            .flat_map(|node| node.addresses.iter().map(|address| (*address, node.name.clone())));
        let mut it = Self::of_pods(pods, nodes.collect());
        it.connections = it.connections(program.reach());
        it
    }

    /// Nothing but pods and nodes.
    fn of_pods(pods: Vec<Pod>, nodes: BTreeMap<IpAddr, Name>) -> Self {
        let mut namespaces = BTreeMap::new();
        for pod in pods.iter().filter(|pod| !pod.hypothetical) {
            *namespaces.entry(pod.namespace.clone()).or_insert(0) += 1;
        }
        let addresses: BTreeSet<IpAddr> =
            pods.iter().flat_map(|pod| &pod.addresses).copied().collect();
        let has = |family: &Family| addresses.iter().any(|it| Family::of(*it) == *family);
        let mut families: Vec<Family> = Family::ALL.into_iter().filter(has).collect();
        if families.is_empty() {
            families.extend(Family::ALL);
        }
        let atlas = Atlas { pods: addresses, nodes, families };
        Self { pods, connections: Vec::new(), atlas, namespaces }
    }

    fn connections(&self, rows: Vec<Reach>) -> Vec<Connection> {
        let places: BTreeMap<_, _> = self
            .pods
            .iter()
            .enumerate()
            .map(|(at, pod)| ((&*pod.namespace, &*pod.name), at))
            .collect();
        let mut found = Vec::new();
        for Reach { sources, destinations, traffic } in rows {
            let ends = [&sources, &destinations].map(|parties| Parties::new(parties, &places));
            let complete = ends.iter().all(|it| it.is_complete(&self.pods));
            let families: &[Option<Family>] =
                if complete { &[None] } else { &[Some(Family::V4), Some(Family::V6)] };
            for family in families {
                let [sources, destinations] =
                    ends.each_ref().map(|it| it.side(*family, &self.atlas.families));
                let one =
                    Connection { sources, destinations, traffic: traffic.clone(), family: *family };
                found.extend(self.possible(one));
            }
        }
        merge(found)
    }

    /// Without a pod's connections with itself, which policies do not judge, and without ends that have no address
    /// family in common.
    fn possible(&self, mut it: Connection) -> Option<Connection> {
        leave_out_itself(&mut it.sources, &mut it.destinations);
        let families = |side: &Side| {
            let by_name = side
                .pods
                .iter()
                .any(|at| self.pods.get(*at).is_some_and(|pod| pod.addresses.is_empty()));
            Family::ALL.map(|family| {
                let of = |address: &IpAddr| Family::of(*address) == family;
                let outside = side.outside.iter().any(|(first, _)| of(first));
                let pods = || side.pods.iter().filter_map(|at| self.pods.get(*at));
                by_name || outside || pods().any(|pod| pod.addresses.iter().any(of))
            })
        };
        let [from, to] = [&it.sources, &it.destinations].map(families);
        let meet = from.iter().zip(to).any(|(from, to)| *from && to);
        (meet && !it.sources.is_empty() && !it.destinations.is_empty()).then_some(it)
    }

    /// Keeps what has one of these ends, and of it only these ends.
    pub(crate) fn narrow(&mut self, from: Option<&Focus>, to: Option<&Focus>) {
        let connections = std::mem::take(&mut self.connections);
        let narrowed = connections.into_iter().filter_map(|mut it| {
            for (side, focus) in [(&mut it.sources, from), (&mut it.destinations, to)] {
                if let Some(focus) = focus {
                    *side = focus.narrow(side, &self.pods);
                }
            }
            self.possible(it)
        });
        self.connections = merge(narrowed.collect());
    }

    /// Keeps what crosses the border of the input: between its pods on one end, and addresses or pods that are not in it
    /// on the other.
    pub(crate) fn keep_exposure(&mut self) {
        let connections = std::mem::take(&mut self.connections);
        let mut kept = Vec::new();
        for it in connections {
            let split = |side: &Side| {
                let hypothetical =
                    |at: &usize| self.pods.get(*at).is_some_and(|it| it.hypothetical);
                let (strange, own) = side.pods.iter().copied().partition(hypothetical);
                let own = Side { pods: own, outside: BTreeSet::new() };
                (own, Side { pods: strange, outside: side.outside.clone() })
            };
            let ((from, strange_from), (to, strange_to)) =
                (split(&it.sources), split(&it.destinations));
            for (sources, destinations) in [(strange_from, to), (from, strange_to)] {
                let crossing = Connection { sources, destinations, ..it.clone() };
                kept.extend(self.possible(crossing));
            }
        }
        self.connections = merge(kept);
    }

    /// What sources and destinations are called: all pods of the input, or of a namespace, as one. Where there is one
    /// pod on the other side, it does not matter that this one is missing, since nobody asks for its connections with
    /// itself.
    pub(crate) fn names(&self, sides: [&Side; 2]) -> [Vec<End>; 2] {
        let [sources, destinations] = sides;
        [self.names_of(sources, destinations), self.names_of(destinations, sources)]
    }

    fn names_of(&self, side: &Side, other: &Side) -> Vec<End> {
        let itself = match other.pods.first() {
            Some(at) if other.pods.len() == 1 && other.outside.is_empty() => {
                self.pods.get(*at).filter(|pod| !pod.hypothetical && !side.pods.contains(at))
            }
            _ => None,
        };
        let own = |pod: &&Pod| !pod.hypothetical;
        let pods: Vec<&Pod> = side.pods.iter().filter_map(|at| self.pods.get(*at)).collect();
        let all: usize = self.namespaces.values().sum();
        let count = pods.iter().copied().filter(own).count() + usize::from(itself.is_some());
        let whole = count == all && all > 2 && self.namespaces.len() > 1;
        let mut ends: Vec<End> = Vec::new();
        if whole {
            ends.push(End::AllPods);
        }
        for pods in pods.chunk_by(|a, b| a.namespace == b.namespace) {
            let Some(first) = pods.first() else { continue };
            let (own, made_up): (Vec<&Pod>, Vec<&Pod>) = pods.iter().copied().partition(own);
            let itself = itself.is_some_and(|it| it.namespace == first.namespace);
            let count = own.len() + usize::from(itself);
            let all = self.namespaces.get(&first.namespace).copied().unwrap_or_default();
            match whole {
                true => {}
                false if count == all && own.len() > 1 => {
                    ends.push(End::PodsOf(first.namespace.clone()));
                }
                false => ends.extend(own.iter().map(|pod| pod.end())),
            }
            ends.extend(made_up.iter().map(|pod| pod.end()));
        }
        let ranges: Vec<RangeInclusive<IpAddr>> =
            side.outside.iter().map(|(first, last)| *first..=*last).collect();
        ends.extend(self.atlas.names(&ranges));
        ends
    }

    /// The addresses that no pod has, by what they may connect to and be connected from; most of them come first.
    pub(crate) fn strangers(&self) -> Vec<Stranger> {
        let sides = self.connections.iter().flat_map(Connection::sides).collect::<Vec<_>>();
        let ranges = sides.iter().flat_map(|side| side.outside.iter().copied()).collect();
        let cuts = addresses::cuts(&ranges);
        let mut alike: BTreeMap<Vec<usize>, BTreeSet<(IpAddr, IpAddr)>> = BTreeMap::new();
        for range in addresses::cut(&ranges, &cuts) {
            let holds = |side: &Side| {
                side.outside.iter().any(|(first, last)| *first <= range.0 && range.1 <= *last)
            };
            let signature = sides.iter().enumerate().filter(|(_, side)| holds(side));
            alike.entry(signature.map(|(at, _)| at).collect()).or_default().insert(range);
        }
        let mut strangers: Vec<Stranger> = alike
            .into_values()
            .map(|outside| {
                let of = |family: &Family| {
                    outside.iter().map(|it| it.0).find(|it| Family::of(*it) == *family)
                };
                let examples = Family::ALL.iter().filter_map(of).collect();
                let side = Side { pods: BTreeSet::new(), outside: outside.clone() };
                let ends = self.names_of(&side, &Side::default());
                let names: Vec<String> = ends.iter().map(ToString::to_string).collect();
                Stranger { name: names.join(", "), examples }
            })
            .collect();
        strangers.sort_by_key(|it| (!it.name.starts_with("world"), it.name.clone()));
        strangers
    }

    /// The place of the pod of this name.
    pub(crate) fn place(&self, namespace: &str, name: &str) -> Option<usize> {
        let key = |pod: &Pod| (pod.namespace.clone(), pod.name.clone());
        let wanted = (Name::from(namespace), Name::from(name));
        self.pods.binary_search_by(|pod| key(pod).cmp(&wanted)).ok()
    }
}

impl Pod {
    pub(crate) fn end(&self) -> End {
        End::Pod { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    pub(crate) fn label(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl Side {
    pub(crate) fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.outside.is_empty()
    }

    fn join(&mut self, other: Self) {
        self.pods.extend(other.pods);
        self.outside.extend(other.outside);
    }
}

/// Addresses that no pod has and that the connections do not tell apart.
#[derive(Debug)]
pub(crate) struct Stranger {
    pub(crate) name: String,
    /// One for each family.
    pub(crate) examples: Vec<IpAddr>,
}

/// What is on one side of a [`Reach`].
struct Parties {
    /// The pods with those of their addresses that are meant.
    pods: BTreeMap<usize, Vec<Option<IpAddr>>>,
    outside: Vec<(IpAddr, IpAddr)>,
}

impl Parties {
    fn new(parties: &[Party], places: &BTreeMap<(&str, &str), usize>) -> Self {
        let mut it = Self { pods: BTreeMap::new(), outside: Vec::new() };
        for party in parties {
            match party {
                Party::Endpoint { namespace, name, address } => {
                    if let Some(at) = places.get(&(&**namespace, &**name)) {
                        it.pods.entry(*at).or_default().push(*address);
                    }
                }
                Party::Addresses(range) => it.outside.push((*range.start(), *range.end())),
            }
        }
        it
    }

    /// Whether every pod is meant by all its addresses.
    fn is_complete(&self, pods: &[Pod]) -> bool {
        self.pods.iter().all(|(at, meant)| {
            pods.get(*at).is_some_and(|pod| meant.len() >= pod.addresses.len().max(1))
        })
    }

    /// What is meant in one family, or in any of those that there are.
    fn side(&self, family: Option<Family>, existing: &[Family]) -> Side {
        let fits = |address: &IpAddr| match family {
            Some(family) => Family::of(*address) == family,
            None => existing.contains(&Family::of(*address)),
        };
        let meant = self
            .pods
            .iter()
            .filter(|(_, meant)| meant.iter().any(|address| address.as_ref().is_none_or(fits)));
        Side {
            pods: meant.map(|(at, _)| *at).collect(),
            outside: self.outside.iter().filter(|(first, _)| fits(first)).copied().collect(),
        }
    }
}

/// As [`join`].
fn merge(connections: Vec<Connection>) -> Vec<Connection> {
    let rows = connections.into_iter().map(|it| {
        (it.sources, it.destinations, (it.traffic, it.family.map(|family| family == Family::V6)))
    });
    let merged = join(rows).into_iter().map(|(sources, destinations, (traffic, v6))| {
        let family = v6.map(|v6| if v6 { Family::V6 } else { Family::V4 });
        Connection { sources, destinations, traffic, family }
    });
    merged.collect()
}

/// Takes a pod's connections with itself out of those of a single pod.
fn leave_out_itself(sources: &mut Side, destinations: &mut Side) {
    if sources.pods.len() == 1 && sources.outside.is_empty() {
        destinations.pods.retain(|pod| !sources.pods.contains(pod));
    }
    if destinations.pods.len() == 1 && destinations.outside.is_empty() {
        sources.pods.retain(|pod| !destinations.pods.contains(pod));
    }
}

/// Joins what is told of the same sources or of the same destinations, and puts it in order.
fn join<T: Clone + Ord>(rows: impl Iterator<Item = (Side, Side, T)>) -> Vec<(Side, Side, T)> {
    let mut forward: BTreeMap<(Side, T), Side> = BTreeMap::new();
    for (sources, destinations, told) in rows {
        forward.entry((sources, told)).or_default().join(destinations);
    }
    let mut backward: BTreeMap<(Side, T), Side> = BTreeMap::new();
    for ((sources, told), destinations) in forward {
        backward.entry((destinations, told)).or_default().join(sources);
    }
    let joined = backward.into_iter().map(|((to, told), from)| (from, to, told));
    let mut joined: Vec<_> = joined.collect();
    joined.sort();
    joined
}

impl Connection {
    /// Sources and destinations.
    pub(crate) fn sides(&self) -> [&Side; 2] {
        [&self.sources, &self.destinations]
    }

    /// The only address family in which it holds.
    pub(crate) fn family_name(&self) -> Option<&'static str> {
        self.family.map(family_name)
    }
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
