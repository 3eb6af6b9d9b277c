//! What may be connected by one list of connections and not by another.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netpol_core::model::Family;
use netpol_core::program::TrafficRange;

use super::addresses::without;
use super::{Connection, Connectivity, Pod, Side, family_name, join, leave_out_itself};

/// What changes from one list of connections to another.
#[derive(Debug)]
pub(crate) struct Difference {
    /// The pods of both lists, without connections.
    pub(crate) both: Connectivity,
    /// In a fixed order.
    pub(crate) changes: Vec<Change>,
    /// The pods of one list only: of the first one, of the second one.
    pub(crate) pods: [Vec<Pod>; 2],
}

/// From each of the sources to each of the destinations: by what they may connect before and after, which differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) sources: Side,
    pub(crate) destinations: Side,
    pub(crate) before: Vec<TrafficRange>,
    pub(crate) after: Vec<TrafficRange>,
    /// The only address family in which that holds; none if it does whatever the family.
    pub(crate) family: Option<Family>,
}

/// Connections of one family: no pair of ends is in more than one.
type Rectangle = (Side, Side, Vec<TrafficRange>);

impl Difference {
    pub(crate) fn new(lists: [Connectivity; 2]) -> Self {
        let mut pods: Vec<Pod> = lists.iter().flat_map(|it| it.pods.iter().cloned()).collect();
        pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        pods.dedup_by(|later, kept| {
            let same = (&later.namespace, &later.name) == (&kept.namespace, &kept.name);
            if same {
                kept.addresses.append(&mut later.addresses);
            }
            same
        });
        let missing = |list: &Connectivity, of: &Connectivity| {
            let absent = |pod: &&Pod| of.place(&pod.namespace, &pod.name).is_none();
            list.pods.iter().filter(absent).cloned().collect()
        };
        let [first, second] = &lists;
        let only = [missing(first, second), missing(second, first)];
        let nodes = lists.iter().flat_map(|it| it.atlas.nodes.clone()).collect();
        let both = Connectivity::of_pods(pods, nodes);

        let [first, second] = lists.map(|list| both.adopt(list));
        let same: BTreeSet<_> = first.intersection(&second).cloned().collect();
        let [before, after] =
            [first, second].map(|list| list.difference(&same).cloned().collect::<Vec<_>>());
        let mut found: BTreeMap<_, BTreeMap<bool, (Side, Side)>> = BTreeMap::new();
        for family in &both.atlas.families {
            let [before, after] = [&before, &after].map(|list| both.of_family(*family, list));
            for (sources, destinations, told) in compare(&before, &after) {
                let key = (sources.pods.clone(), destinations.pods.clone(), told);
                let v6 = *family == Family::V6;
                found.entry(key).or_default().insert(v6, (sources, destinations));
            }
        }
        let everywhere = both.atlas.families.len();
        let mut changes = Vec::new();
        for ((.., (before, after)), families) in found {
            let whole = families.len() == everywhere;
            let mut sides: Vec<_> = families.into_iter().collect();
            if whole {
                let joined = sides.drain(..).map(|(_, sides)| sides).reduce(|mut a, b| {
                    a.0.join(b.0);
                    a.1.join(b.1);
                    a
                });
                changes.extend(joined.map(|it| (it.0, it.1, (before, after, None))));
            } else {
                for (v6, it) in sides {
                    changes.push((it.0, it.1, (before.clone(), after.clone(), Some(v6))));
                }
            }
        }
        changes.sort();
        let changes = changes.into_iter().filter_map(|(mut from, mut to, (before, after, v6))| {
            let family = v6.map(|v6| if v6 { Family::V6 } else { Family::V4 });
            leave_out_itself(&mut from, &mut to);
            let some = !from.is_empty() && !to.is_empty();
            // Addresses are of one family anyway.
            let family = family.filter(|_| !from.pods.is_empty() && !to.pods.is_empty());
            let change = Change { sources: from, destinations: to, before, after, family };
            some.then_some(change)
        });
        Self { changes: changes.collect(), both, pods: only }
    }
}

impl Connectivity {
    /// The connections of another list, in this one's terms: pods by their places here, addresses that no pod here has
    /// cut wherever any list may cut them.
    fn adopt(&self, list: Connectivity) -> BTreeSet<(Side, Side, Vec<TrafficRange>, Option<bool>)> {
        let Connectivity { pods, connections, .. } = list;
        let places: Vec<Option<usize>> =
            pods.iter().map(|pod| self.place(&pod.namespace, &pod.name)).collect();
        let adopt = |side: Side| Side {
            pods: side.pods.iter().filter_map(|at| *places.get(*at)?).collect(),
            outside: without(side.outside, &self.atlas.pods),
        };
        let connections = connections.into_iter().map(|it| {
            let Connection { sources, destinations, traffic, family } = it;
            (adopt(sources), adopt(destinations), traffic, family.map(|it| it == Family::V6))
        });
        connections.collect()
    }

    /// The part of the connections that is of one family.
    fn of_family(
        &self,
        family: Family,
        list: &[(Side, Side, Vec<TrafficRange>, Option<bool>)],
    ) -> Vec<Rectangle> {
        let of = |address: &IpAddr| Family::of(*address) == family;
        let narrow = |side: &Side| Side {
            pods: side
                .pods
                .iter()
                .copied()
                .filter(|at| {
                    let addresses = self.pods.get(*at).map_or(&[][..], |pod| &pod.addresses);
                    addresses.is_empty() || addresses.iter().any(of)
                })
                .collect(),
            outside: side.outside.iter().copied().filter(|(first, _)| of(first)).collect(),
        };
        let own = list.iter().filter(|(.., v6)| v6.is_none_or(|v6| v6 == (family == Family::V6)));
        let narrowed =
            own.map(|(from, to, traffic, _)| (narrow(from), narrow(to), traffic.clone()));
        narrowed.filter(|(from, to, _)| !from.is_empty() && !to.is_empty()).collect()
    }
}

/// What differs: by what each source may connect to each destination before and after.
#[expect(clippy::type_complexity, reason = "two sides and two sets of traffic")]
fn compare(
    before: &[Rectangle],
    after: &[Rectangle],
) -> Vec<(Side, Side, (Vec<TrafficRange>, Vec<TrafficRange>))> {
    let [before, after] = atoms([before, after]);
    let mut rows = Vec::new();
    for (sources, destinations, traffic) in &before {
        for (also_from, also_to, by) in after.iter().filter(|(.., by)| by != traffic) {
            let both = (sources.common(also_from), destinations.common(also_to));
            if !both.0.is_empty() && !both.1.is_empty() {
                rows.push((both.0, both.1, (traffic.clone(), by.clone())));
            }
        }
    }
    let gone = rest(&before, &after).map(|(from, to, traffic)| (from, to, (traffic, Vec::new())));
    let new = rest(&after, &before).map(|(from, to, traffic)| (from, to, (Vec::new(), traffic)));
    rows.extend(gone.chain(new));
    join(rows.into_iter())
}

/// What of one list is in no rectangle of the other.
fn rest<'a>(list: &'a [Rectangle], other: &'a [Rectangle]) -> impl Iterator<Item = Rectangle> + 'a {
    list.iter().flat_map(|(sources, destinations, traffic)| {
        let mut left: BTreeMap<Side, Side> = BTreeMap::new();
        let overlapping: Vec<_> = other
            .iter()
            .filter(|(from, to, _)| {
                !from.common(sources).is_empty() && !to.common(destinations).is_empty()
            })
            .collect();
        for source in sources.each() {
            let mut to = destinations.clone();
            for (from, taken, _) in &overlapping {
                if !from.common(&source).is_empty() {
                    to.pods.retain(|at| !taken.pods.contains(at));
                    to.outside.retain(|range| !taken.outside.contains(range));
                }
            }
            if !to.is_empty() {
                left.entry(to).or_default().join(source);
            }
        }
        left.into_iter().map(|(to, from)| (from, to, traffic.clone()))
    })
}

/// The same with all addresses cut where any of them are, so that two ranges are equal or have nothing in common.
fn atoms(lists: [&[Rectangle]; 2]) -> [Vec<Rectangle>; 2] {
    let sides = lists.iter().flat_map(|list| list.iter().flat_map(|it| [&it.0, &it.1]));
    let ranges: BTreeSet<_> = sides.flat_map(|side| side.outside.iter().copied()).collect();
    let cuts = super::addresses::cuts(&ranges);
    let cut = |side: &Side| Side {
        pods: side.pods.clone(),
        outside: super::addresses::cut(&side.outside, &cuts),
    };
    lists.map(|list| {
        list.iter().map(|(from, to, traffic)| (cut(from), cut(to), traffic.clone())).collect()
    })
}

impl Side {
    fn common(&self, other: &Self) -> Self {
        Self { pods: &self.pods & &other.pods, outside: &self.outside & &other.outside }
    }

    /// Its parts, each as a side of its own.
    fn each(&self) -> impl Iterator<Item = Self> {
        let pods = self.pods.iter().map(|at| Self { pods: [*at].into(), ..Self::default() });
        let outside =
            self.outside.iter().map(|range| Self { outside: [*range].into(), ..Self::default() });
        pods.chain(outside)
    }
}

impl Change {
    /// `added`, `removed` or `changed`.
    pub(crate) fn word(&self) -> &'static str {
        match (self.before.is_empty(), self.after.is_empty()) {
            (true, _) => "added",
            (_, true) => "removed",
            _ => "changed",
        }
    }

    /// The only address family in which it holds.
    pub(crate) fn family_name(&self) -> Option<&'static str> {
        self.family.map(family_name)
    }
}
