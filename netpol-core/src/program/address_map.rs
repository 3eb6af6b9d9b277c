use std::sync::Arc;

use ahash::RandomState;

use super::Known;

/// The addresses of one family that mean something of their own.
///
/// A packet's fate begins here, twice, so that this map is built for one thing: a look-up touches one cache line
/// beside the array of shards. Shards are small arrays of buckets with open addressing; a change copies one of them
/// and the array, if somebody still holds the former program.
#[derive(Clone, Debug)]
pub(crate) struct AddressMap<K> {
    seeds: [u64; 2],
    shards: Arc<[Shard<K>]>,
    len: usize,
}

type Shard<K> = Arc<[Bucket<K>]>;

/// As many addresses as a cache line holds; those that are there come first. A key is an address as a number.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Bucket<K> {
    keys: [K; LANES],
    known: [Known; LANES],
}

const LANES: usize = 4;
const _: () = assert!(size_of::<Bucket<u32>>() == 64, "a bucket is one cache line");

/// Buckets of a new shard.
const BUCKETS: usize = 128;
/// Entries per shard, on average, at which their number is doubled: half of what there is room for.
const FULL: usize = BUCKETS * LANES;

impl<K: Copy + Default> Default for AddressMap<K> {
    fn default() -> Self {
        let random = RandomState::new();
        let seeds = [random.hash_one(0), random.hash_one(1)];
        Self { seeds, shards: Arc::new([empty_shard(4)]), len: 0 }
    }
}

fn empty_shard<K: Copy + Default>(buckets: usize) -> Shard<K> {
    let empty = Bucket { keys: [K::default(); LANES], known: [Known::VACANT; LANES] };
    std::iter::repeat_n(empty, buckets).collect()
}

impl<K: Copy + Default + Eq + Into<u128>> AddressMap<K> {
    #[inline(always)]
    pub(crate) fn get(&self, key: K) -> Option<Known> {
        let hash = hash_of(self.seeds, key);
        let shard = self.shards.get(self.shard(hash))?;
        // Never full, so that the search ends.
        let mut at = hash & (shard.len() - 1);
        loop {
            let bucket = shard.get(at)?;
            if let Some(known) = bucket.known.get(bucket.lane(key)) {
                return (!known.is_vacant()).then_some(*known);
            }
            if bucket.has_room() {
                return None;
            }
            at = (at + 1) & (shard.len() - 1);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, Known)> {
        self.shards.iter().flat_map(|shard| entries(shard))
    }

    pub(crate) fn insert(&mut self, key: K, known: Known) {
        if self.len >= self.shards.len() * FULL {
            self.double();
        }
        let hash = hash_of(self.seeds, key);
        let at = self.shard(hash);
        let seeds = self.seeds;
        let Some(shard) = Arc::make_mut(&mut self.shards).get_mut(at) else { return };
        if entries(shard).count() * 4 >= shard.len() * LANES * 3 {
            let mut wider = empty_shard(shard.len() * 2);
            refill(&mut wider, entries(shard), seeds);
            *shard = wider;
        }
        self.len += usize::from(put(Arc::make_mut(shard), hash, key, known));
    }

    pub(crate) fn remove(&mut self, key: K) {
        if self.get(key).is_none() {
            return;
        }
        let at = self.shard(hash_of(self.seeds, key));
        let seeds = self.seeds;
        let Some(shard) = Arc::make_mut(&mut self.shards).get_mut(at) else { return };
        // The others are put again, so that no gap hides one from its place.
        let mut fresh = empty_shard(shard.len());
        refill(&mut fresh, entries(shard).filter(|(other, _)| *other != key), seeds);
        *shard = fresh;
        self.len -= 1;
    }

    #[inline]
    fn shard(&self, hash: usize) -> usize {
        // The low bits of the hash choose the bucket, the high ones the shard.
        (hash >> (usize::BITS / 2)) & (self.shards.len() - 1)
    }

    fn double(&mut self) {
        let doubled = std::iter::repeat_with(|| empty_shard(BUCKETS));
        let doubled = doubled.take(self.shards.len() * 2).collect();
        let old = std::mem::replace(&mut self.shards, doubled);
        self.len = 0;
        for (key, known) in old.iter().flat_map(|shard| entries(shard)) {
            self.insert(key, known);
        }
    }
}

impl<K: Copy + Eq> Bucket<K> {
    /// The first lane with a key; none of the lanes if there is none. No branch depends on what is there.
    #[inline]
    fn lane(&self, key: K) -> usize {
        let lanes = (0..LANES).zip(&self.keys).rev();
        lanes.fold(LANES, |found, (lane, it)| if *it == key { lane } else { found })
    }

    #[inline]
    fn has_room(&self) -> bool {
        self.known.last().is_some_and(|known| known.is_vacant())
    }
}

fn entries<K: Copy>(shard: &[Bucket<K>]) -> impl Iterator<Item = (K, Known)> {
    let lanes = shard.iter().flat_map(|bucket| bucket.keys.iter().zip(&bucket.known));
    lanes.filter(|(_, known)| !known.is_vacant()).map(|(key, known)| (*key, *known))
}

/// An address times a secret, folded: whoever does not know the secret cannot choose addresses that collide.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "halves are taken, and any bits of the hash will do"
)]
fn hash_of<K: Into<u128>>([low, high]: [u64; 2], key: K) -> usize {
    let key: u128 = key.into();
    let product = u128::from(key as u64 ^ low) * u128::from((key >> 64) as u64 ^ high);
    (product as u64 ^ (product >> 64) as u64) as usize
}

fn refill<K: Copy + Eq + Into<u128>>(
    shard: &mut Shard<K>,
    entries: impl Iterator<Item = (K, Known)>,
    seeds: [u64; 2],
) {
    if let Some(buckets) = Arc::get_mut(shard) {
        for (key, known) in entries {
            put(buckets, hash_of(seeds, key), key, known);
        }
    }
}

/// Puts an entry at its place or the next free one; tells whether its key was not there.
fn put<K: Copy + Eq>(buckets: &mut [Bucket<K>], hash: usize, key: K, known: Known) -> bool {
    let mask = buckets.len() - 1;
    let mut at = hash & mask;
    while let Some(bucket) = buckets.get_mut(at) {
        for (lane, slot) in bucket.keys.iter_mut().zip(&mut bucket.known) {
            if slot.is_vacant() || *lane == key {
                let is_new = slot.is_vacant();
                (*lane, *slot) = (key, known);
                return is_new;
            }
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
