use std::hash::Hash;
use std::sync::Arc;

use ahash::RandomState;

use super::Known;

/// The addresses of one family that mean something of their own.
///
/// A packet's fate begins here, twice, so that this map is built for one thing: a look-up costs one step from the array
/// of shards to the slot. Shards are small arrays with open addressing; a change copies one of them and the array, if
/// somebody still holds the former program.
#[derive(Clone, Debug)]
pub(crate) struct AddressMap<K> {
    hasher: RandomState,
    shards: Arc<[Arc<[Slot<K>]>]>,
    len: usize,
}

/// A key is an address as a number.
#[derive(Clone, Copy, Debug)]
struct Slot<K> {
    key: K,
    known: Known,
}

/// Slots of a new shard.
const SLOTS: usize = 64;
/// Entries per shard, on average, at which their number is doubled.
const FULL: usize = 80;

impl<K: Copy + Default> Default for AddressMap<K> {
    fn default() -> Self {
        let shards = Arc::new([empty_shard(SLOTS)]);
        Self { hasher: RandomState::new(), shards, len: 0 }
    }
}

fn empty_shard<K: Copy + Default>(slots: usize) -> Arc<[Slot<K>]> {
    std::iter::repeat_n(Slot { key: K::default(), known: Known::VACANT }, slots).collect()
}

impl<K: Copy + Default + Eq + Hash> AddressMap<K> {
    #[inline]
    pub(crate) fn get(&self, key: K) -> Option<Known> {
        let hash = self.hash(key);
        let shard = self.shards.get(self.shard(hash))?;
        // Never full, so that the search ends.
        let mut at = hash & (shard.len() - 1);
        loop {
            let slot = shard.get(at)?;
            if slot.known.is_vacant() {
                return None;
            }
            if slot.key == key {
                return Some(slot.known);
            }
            at = (at + 1) & (shard.len() - 1);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, Known)> {
        let slots = self.shards.iter().flat_map(|shard| shard.iter());
        slots.filter(|slot| !slot.known.is_vacant()).map(|slot| (slot.key, slot.known))
    }

    pub(crate) fn insert(&mut self, key: K, known: Known) {
        if self.len >= self.shards.len() * FULL {
            self.double();
        }
        let hash = self.hash(key);
        let at = self.shard(hash);
        let Some(shard) = Arc::make_mut(&mut self.shards).get_mut(at) else { return };
        let used = shard.iter().filter(|slot| !slot.known.is_vacant()).count();
        if (used + 1) * 4 > shard.len() * 3 {
            let mut wider = empty_shard(shard.len() * 2);
            let slots = Arc::make_mut(&mut wider);
            for slot in shard.iter().filter(|slot| !slot.known.is_vacant()) {
                // The low bits of the hash choose the slot, the high ones the shard.
                put(slots, hash_of(&self.hasher, slot.key), *slot);
            }
            *shard = wider;
        }
        let slots = Arc::make_mut(shard);
        self.len += usize::from(put(slots, hash, Slot { key, known }));
    }

    pub(crate) fn remove(&mut self, key: K) {
        if self.get(key).is_none() {
            return;
        }
        let hash = self.hash(key);
        let at = self.shard(hash);
        let hasher = &self.hasher;
        let Some(shard) = Arc::make_mut(&mut self.shards).get_mut(at) else { return };
        // The others are put again, so that no gap hides one from its place.
        let mut fresh = empty_shard(shard.len());
        let slots = Arc::make_mut(&mut fresh);
        for slot in shard.iter().filter(|slot| !slot.known.is_vacant() && slot.key != key) {
            put(slots, hash_of(hasher, slot.key), *slot);
        }
        *shard = fresh;
        self.len -= 1;
    }

    #[inline]
    fn hash(&self, key: K) -> usize {
        hash_of(&self.hasher, key)
    }

    #[inline]
    fn shard(&self, hash: usize) -> usize {
        (hash >> (usize::BITS / 2)) & (self.shards.len() - 1)
    }

    fn double(&mut self) {
        let empty = empty_shard(SLOTS * 2);
        let doubled = std::iter::repeat_n(empty, self.shards.len() * 2).collect();
        let old = std::mem::replace(&mut self.shards, doubled);
        self.len = 0;
        for slot in old.iter().flat_map(|shard| shard.iter()) {
            if !slot.known.is_vacant() {
                self.insert(slot.key, slot.known);
            }
        }
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
fn hash_of<K: Hash>(hasher: &RandomState, key: K) -> usize {
    hasher.hash_one(key) as usize
}

/// Puts an entry at its place or the next free one; tells whether its key was not there.
fn put<K: Copy + Eq>(slots: &mut [Slot<K>], hash: usize, entry: Slot<K>) -> bool {
    let mask = slots.len() - 1;
    let mut at = hash & mask;
    while let Some(slot) = slots.get_mut(at) {
        if slot.known.is_vacant() || slot.key == entry.key {
            let is_new = slot.known.is_vacant();
            *slot = entry;
            return is_new;
        }
        at = (at + 1) & mask;
    }
    false
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::program::IdentityId;

    #[test]
    fn behaves_like_a_map() {
        let mut map = AddressMap::<u32>::default();
        let mut model = BTreeMap::new();
        let mut seed = 1_u64;
        for step in 0..60_000_u32 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let key = (seed >> 33) as u32 % 9000;
            let held = map.clone();
            if seed & 4 == 0 && step > 20_000 {
                map.remove(key);
                model.remove(&key);
            } else {
                map.insert(key, Known::new(IdentityId(step)));
                model.insert(key, step);
            }
            if step % 1000 == 0 {
                let identity = |known: Known| known.identity().0;
                let mut all: Vec<_> = map.iter().map(|(key, it)| (key, identity(it))).collect();
                all.sort_unstable();
                assert_eq!(all, model.clone().into_iter().collect::<Vec<_>>());
                for key in 0..9000 {
                    assert_eq!(map.get(key).map(identity), model.get(&key).copied());
                }
            }
            drop(held);
        }
    }
}
