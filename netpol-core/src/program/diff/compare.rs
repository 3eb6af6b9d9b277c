use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::hash::HashMap;
use crate::model::{Direction, End};
use crate::program::members::coalesce;
use crate::program::partition::{address_ranges, append, elementary};
use crate::program::{
    ClassId, EndpointId, IdentityId, Known, NodeId, ProfileId, Program, TrafficRange, Verdict,
};

use super::special::{Exceptions, Special};
use super::{Cell, DiffPeer, DiffSubject, Difference, Moved};

/// The traffic that changes for one pair of ends: by direction, and whether it is allowed afterwards.
pub(super) type Changes = BTreeMap<(Direction, bool), Vec<TrafficRange>>;

/// Changes of the same traffic.
type Cut = (Direction, bool, Vec<TrafficRange>);

/// The identity of a peer in either program.
type Kind = [IdentityId; 2];

/// The kinds that two classes judge differently, and whether the second one allows them.
type Changed = Arc<Vec<(Kind, bool)>>;

/// What two profiles differ in, own nodes and the subject itself aside.
#[derive(Default)]
pub(super) struct General {
    pub(super) changes: BTreeMap<Kind, Changes>,
    cuts: BTreeMap<Cut, Vec<Kind>>,
}

pub(super) struct Comparison<'a> {
    pub(super) programs: [&'a Program; 2],
    ranges: Vec<RangeInclusive<IpAddr>>,
    /// One end for each range of addresses, then all names in order.
    pub(super) peers: Vec<End>,
    /// The peers by what they are in both.
    kinds: BTreeMap<Kind, Vec<usize>>,
    pub(super) of_node: [HashMap<NodeId, Vec<usize>>; 2],
    pub(super) of_endpoint: [HashMap<EndpointId, Vec<usize>>; 2],
    general: HashMap<[ProfileId; 2], Arc<General>>,
    /// The kinds for which two classes differ.
    classes: HashMap<[Option<ClassId>; 2], Changed>,
}

/// A subject with where to find it in either program.
pub(super) struct Pair {
    pub(super) subject: DiffSubject,
    pub(super) endpoints: [EndpointId; 2],
}

impl<'a> Comparison<'a> {
    pub(super) fn new(programs: [&'a Program; 2]) -> Self {
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

    pub(super) fn run(mut self) -> Difference {
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
