use std::hash::BuildHasher;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::hash::RandomState;

use super::shared::Pages;
use super::{EndpointEntry, EndpointId};

/// Which endpoint goes by a name: numbers of endpoints by the hashes of their names.
///
/// The names themselves are with the endpoints. So a shard is plain numbers, and what an event copies of it is memory
/// that lies together, without reference counts all over the heap.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    hasher: RandomState,
    /// A power of two of them, chosen by the low bits of a hash.
    shards: Arc<[Arc<Vec<Slot>>]>,
    len: usize,
}

/// The hash of a name and who goes by it. Sorted in each shard.
type Slot = (u32, EndpointId);

/// Names per shard, on average, at which their number is doubled.
const FULL: usize = 256;

impl Default for Names {
    fn default() -> Self {
        Self { hasher: RandomState::default(), shards: Arc::new([Arc::default()]), len: 0 }
    }
}

impl Names {
    /// Who goes by a name.
    pub(crate) fn get(
        &self,
        namespace: &str,
        name: &str,
        endpoints: &Pages<Arc<EndpointEntry>>,
    ) -> Option<EndpointId> {
        let hash = self.hash(namespace, name);
        let goes_by = |id: &EndpointId| {
            endpoints.get(id.0).is_some_and(|entry| entry.goes_by(namespace, name))
        };
        self.alike(hash).iter().map(|(_, id)| *id).find(goes_by)
    }

    /// Who goes by any name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = EndpointId> {
        self.shards.iter().flat_map(|shard| shard.iter().map(|(_, id)| *id))
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Says who goes by a name now. To be called after the endpoints have changed, for each name that an endpoint had
    /// or has: whoever went by it may be gone, and the number somebody else's.
    pub(crate) fn set(
        &mut self,
        namespace: &str,
        name: &str,
        id: Option<EndpointId>,
        endpoints: &Pages<Arc<EndpointEntry>>,
    ) {
        let hash = self.hash(namespace, name);
        let is_other = |(_, id): &Slot| {
            endpoints.get(id.0).is_some_and(|entry| {
                !entry.goes_by(namespace, name) && self.hash(&entry.namespace, &entry.name) == hash
            })
        };
        let before = self.alike(hash);
        let others = before.iter().copied().filter(is_other);
        let mut now: SmallVec<[Slot; 1]> = others.chain(id.map(|id| (hash, id))).collect();
        now.sort_unstable();
        if before == now.as_slice() {
            return;
        }
        self.len = self.len + now.len() - before.len();
        let at = self.shard(hash);
        if let Some(shard) = Arc::make_mut(&mut self.shards).get_mut(at) {
            let shard = Arc::make_mut(shard);
            let range = range_of(shard, hash);
            shard.splice(range, now);
        }
        if self.len > self.shards.len() * FULL {
            self.double();
        }
    }

    fn double(&mut self) {
        let bit = self.shards.len();
        let half = |upper: bool| {
            move |shard: &Arc<Vec<Slot>>| {
                let is_in = |(hash, _): &&Slot| (*hash as usize & bit != 0) == upper;
                Arc::new(shard.iter().filter(is_in).copied().collect())
            }
        };
        let lower = self.shards.iter().map(half(false));
        self.shards = lower.chain(self.shards.iter().map(half(true))).collect();
    }

    #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash will do")]
    fn hash(&self, namespace: &str, name: &str) -> u32 {
        self.hasher.hash_one((namespace, name)) as u32
    }

    fn shard(&self, hash: u32) -> usize {
        hash as usize & (self.shards.len() - 1)
    }

    /// All whose names have this hash.
    fn alike(&self, hash: u32) -> &[Slot] {
        let shard = self.shards.get(self.shard(hash)).map_or(&[][..], |shard| shard);
        shard.get(range_of(shard, hash)).unwrap_or_default()
    }
}

fn range_of(shard: &[Slot], hash: u32) -> std::ops::Range<usize> {
    let first = shard.partition_point(|(it, _)| *it < hash);
    let alike = shard.iter().skip(first).take_while(|(it, _)| *it == hash).count();
    first..first + alike
}

impl EndpointEntry {
    fn goes_by(&self, namespace: &str, name: &str) -> bool {
        !self.host && *self.namespace == *namespace && *self.name == *name
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::name;
    use crate::program::Addresses;

    fn entry(called: &str) -> Arc<EndpointEntry> {
        Arc::new(EndpointEntry {
            namespace: name("x"),
            name: name(called),
            addresses: SmallVec::new(),
            node: None,
            profile: None,
            own: None,
            identity: Addresses::NOTHING,
            host: false,
        })
    }

    /// Names come and go, and their numbers are given to others at once; whoever holds the former names keeps them.
    #[test]
    fn names_behave_like_a_map() {
        let (mut names, mut endpoints) = (Names::default(), Pages::default());
        let mut model = BTreeMap::<String, u32>::new();
        let mut seed = 1_u64;
        for step in 0..20_000_u32 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let called = format!("pod-{}", (seed >> 33) % 3000);
            let held = (step % 500 == 0).then(|| (names.clone(), endpoints.clone(), model.clone()));
            match model.remove(&called) {
                // Another one takes its number.
                Some(id) if seed & 4 == 0 => {
                    let other = format!("later-{step}");
                    endpoints.set(id, entry(&other));
                    names.set("x", &called, None, &endpoints);
                    names.set("x", &other, Some(EndpointId(id)), &endpoints);
                    model.insert(other, id);
                }
                Some(id) => {
                    endpoints.clear(id);
                    names.set("x", &called, None, &endpoints);
                }
                None => {
                    endpoints.set(step, entry(&called));
                    names.set("x", &called, Some(EndpointId(step)), &endpoints);
                    model.insert(called, step);
                }
            }
            assert_eq!(names.len(), model.len());
            if let Some((names, endpoints, model)) = held {
                let mut all: Vec<u32> = names.iter().map(|id| id.0).collect();
                all.sort_unstable();
                let mut expected: Vec<u32> = model.values().copied().collect();
                expected.sort_unstable();
                assert_eq!(all, expected);
                for (called, id) in &model {
                    assert_eq!(names.get("x", called, &endpoints), Some(EndpointId(*id)));
                    assert_eq!(names.get("y", called, &endpoints), None);
                }
            }
        }
        assert!(names.len() > 2 * FULL && names.shards.len() > 2, "{}", names.len());
    }

    /// Two names that one hash stands for, whoever of them comes, goes, or takes the other's number.
    #[test]
    fn names_of_one_hash_are_told_apart() {
        let (mut names, mut endpoints) = (Names::default(), Pages::default());
        let mut called = BTreeMap::new();
        let pairs: Vec<[String; 2]> = (0..400_000)
            .map(|number| format!("pod-{number}"))
            .filter_map(|second| {
                let first = called.insert(names.hash("x", &second), second.clone())?;
                Some([first, second])
            })
            .collect();
        assert!(!pairs.is_empty(), "some 18 are to be expected");
        for (at, [first, second]) in (0..).step_by(2).zip(&pairs) {
            let [one, other] = [at, at + 1].map(EndpointId);
            endpoints.set(one.0, entry(first));
            names.set("x", first, Some(one), &endpoints);
            assert_eq!(names.get("x", second, &endpoints), None);
            endpoints.set(other.0, entry(second));
            names.set("x", second, Some(other), &endpoints);
            let found = |names: &Names, endpoints: &_| {
                [first, second].map(|it| names.get("x", it, endpoints))
            };
            assert_eq!(found(&names, &endpoints), [Some(one), Some(other)]);
            // Nothing changes, and nothing is lost.
            names.set("x", first, Some(one), &endpoints);
            assert_eq!((found(&names, &endpoints), names.len()), ([Some(one), Some(other)], 2));
            // The first goes, and the second is at its number then.
            endpoints.clear(one.0);
            names.set("x", first, None, &endpoints);
            assert_eq!((found(&names, &endpoints), names.len()), ([None, Some(other)], 1));
            endpoints.set(one.0, entry(second));
            endpoints.clear(other.0);
            names.set("x", second, Some(one), &endpoints);
            assert_eq!((found(&names, &endpoints), names.len()), ([None, Some(one)], 1));
            endpoints.clear(one.0);
            names.set("x", second, None, &endpoints);
            assert_eq!((found(&names, &endpoints), names.len()), ([None, None], 0));
        }
    }
}
