use std::hash::BuildHasher;
use std::sync::Arc;

use crate::hash::RandomState;

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
    /// How many buckets most shards have.
    buckets: usize,
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

/// Buckets of a shard while there are few of them: a change that touches many addresses copies many shards.
const BUCKETS: usize = 8;
/// Shards from which on they get larger and not more: whatever is changed, their array is copied.
const SHARDS: usize = 512;
/// Buckets of a shard from which on they get more again.
const LARGEST: usize = 32 * BUCKETS;
/// Entries per bucket, on average, at which the room is doubled: few enough for most to be in the first bucket that is
/// looked at.
const FULL: usize = LANES / 2;
/// Buckets that are looked at for an address at most; a shard with no place in so many gets wider.
const FAR: usize = 8;

impl<K: Copy + Default> Default for AddressMap<K> {
    fn default() -> Self {
        let random = RandomState::default();
        let seeds = [random.hash_one(0_u64), random.hash_one(1_u64)];
        Self { seeds, shards: Arc::new([empty_shard(4)]), buckets: BUCKETS, len: 0 }
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
        let bucket = shard.get(hash & (shard.len() - 1))?;
        match bucket.known.get(bucket.lane(key)) {
            Some(known) => (!known.is_vacant()).then_some(*known),
            None if bucket.has_room() => None,
            None => get_further(shard, hash, key),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, Known)> {
        self.shards.iter().flat_map(|shard| entries(shard))
    }

    pub(crate) fn insert(&mut self, key: K, known: Known) {
        if self.len >= self.shards.len() * self.buckets * FULL {
            self.double();
        }
        let hash = hash_of(self.seeds, key);
        let at = self.shard(hash);
        let seeds = self.seeds;
        let Some(shard) = Arc::make_mut(&mut self.shards).get_mut(at) else { return };
        let is_new = loop {
            match put(Arc::make_mut(shard), hash, key, known) {
                Some(is_new) => break is_new,
                None => *shard = wider(shard, seeds),
            }
        };
        self.len += usize::from(is_new);
    }

    pub(crate) fn remove(&mut self, key: K) {
        if self.get(key).is_none() {
            return;
        }
        let hash = hash_of(self.seeds, key);
        let at = self.shard(hash);
        let seeds = self.seeds;
        if let Some(shard) = Arc::make_mut(&mut self.shards).get_mut(at) {
            take(Arc::make_mut(shard), hash, key, seeds);
            self.len -= 1;
        }
    }

    #[inline]
    fn shard(&self, hash: usize) -> usize {
        // The low bits of the hash choose the bucket, the high ones the shard.
        (hash >> (usize::BITS / 2)) & (self.shards.len() - 1)
    }

    fn double(&mut self) {
        let mut count = self.shards.len();
        match count >= SHARDS && self.buckets < LARGEST {
            true => self.buckets *= 2,
            false => count *= 2,
        }
        let doubled = std::iter::repeat_with(|| empty_shard(self.buckets)).take(count).collect();
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

    /// Takes out what a lane holds and closes the gap; tells whether there was no room before.
    fn vacate(&mut self, lane: usize) -> bool {
        let was_full = !self.has_room();
        let last = self.known.iter().filter(|known| !known.is_vacant()).count().saturating_sub(1);
        if let (Some(key), Some(known)) = (self.keys.get(last).copied(), self.known.get_mut(last)) {
            let known = std::mem::replace(known, Known::VACANT);
            if lane != last
                && let (Some(at), Some(slot)) = (self.keys.get_mut(lane), self.known.get_mut(lane))
            {
                (*at, *slot) = (key, known);
            }
        }
        was_full
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

/// Looks into the buckets after the first one.
#[cold]
fn get_further<K: Copy + Eq>(shard: &[Bucket<K>], hash: usize, key: K) -> Option<Known> {
    for step in 1..FAR {
        let bucket = shard.get(hash.wrapping_add(step) & (shard.len() - 1))?;
        if let Some(known) = bucket.known.get(bucket.lane(key)) {
            return (!known.is_vacant()).then_some(*known);
        }
        if bucket.has_room() {
            break;
        }
    }
    None
}

/// The same entries with twice the room, or more if that does not do.
fn wider<K: Copy + Default + Eq + Into<u128>>(shard: &Shard<K>, seeds: [u64; 2]) -> Shard<K> {
    let mut buckets = shard.len();
    loop {
        buckets *= 2;
        let mut wider = empty_shard(buckets);
        let slots = Arc::make_mut(&mut wider);
        let mut placed = entries(shard).map(|(key, it)| put(slots, hash_of(seeds, key), key, it));
        if placed.all(|is_new| is_new.is_some()) {
            return wider;
        }
    }
}

/// How many buckets an entry may be in, from the one that its hash leads to.
fn reach<K>(buckets: &[Bucket<K>]) -> usize {
    FAR.min(buckets.len() - 1)
}

/// Puts an entry at its place or the next free one; tells whether its key was not there, or `None` if there is no free
/// place near.
fn put<K: Copy + Eq>(buckets: &mut [Bucket<K>], hash: usize, key: K, known: Known) -> Option<bool> {
    let mask = buckets.len() - 1;
    for step in 0..reach(buckets) {
        let bucket = buckets.get_mut((hash.wrapping_add(step)) & mask)?;
        for (lane, slot) in bucket.keys.iter_mut().zip(&mut bucket.known) {
            if slot.is_vacant() || *lane == key {
                let is_new = slot.is_vacant();
                (*lane, *slot) = (key, known);
                return Some(is_new);
            }
        }
    }
    None
}

/// Takes out an entry that is there, and lets those that had to go further come nearer.
fn take<K: Copy + Eq + Into<u128>>(
    buckets: &mut [Bucket<K>],
    hash: usize,
    key: K,
    seeds: [u64; 2],
) -> Option<()> {
    let mask = buckets.len() - 1;
    let mut gap = hash & mask;
    while buckets.get(gap)?.lane(key) == LANES {
        gap = (gap + 1) & mask;
    }
    let bucket = buckets.get_mut(gap)?;
    if !bucket.vacate(bucket.lane(key)) {
        return Some(());
    }
    let mut next = gap;
    loop {
        next = (next + 1) & mask;
        if next.wrapping_sub(gap) & mask >= reach(buckets) {
            return Some(());
        }
        let bucket = buckets.get(next)?;
        let full = !bucket.has_room();
        // What belongs between the gap and here has to stay.
        let may_move = |key: K| {
            let home = hash_of(seeds, key) & mask;
            next.wrapping_sub(home) & mask >= next.wrapping_sub(gap) & mask
        };
        let mut lanes = bucket.keys.iter().zip(&bucket.known);
        let moved = lanes.position(|(key, known)| !known.is_vacant() && may_move(*key));
        if let Some(lane) = moved {
            let (key, known) = (*bucket.keys.get(lane)?, *bucket.known.get(lane)?);
            let at = buckets.get_mut(gap)?;
            (*at.keys.last_mut()?, *at.known.last_mut()?) = (key, known);
            buckets.get_mut(next)?.vacate(lane);
            gap = next;
        }
        if !full {
            return Some(());
        }
    }
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

    /// As long as there is one shard of a few buckets, all of them may be full.
    #[test]
    fn a_full_map_can_be_emptied() {
        for _ in 0..200 {
            let mut map = AddressMap::<u32>::default();
            (1..=16).for_each(|key| map.insert(key, Known::new(IdentityId(key))));
            for gone in 1..=16 {
                map.remove(gone);
                assert!((1..=gone).all(|key| map.get(key).is_none()));
                assert!(
                    (gone + 1..=16).all(|key| map.get(key).is_some()),
                    "{gone} went with others"
                );
            }
        }
    }

    /// Networks that number their hosts alike, and hosts of one network.
    #[test]
    fn every_bit_of_an_address_counts() {
        for shift in [0, 16, 48, 64, 96, 112] {
            let mut map = AddressMap::<u128>::default();
            let keys = || (1..=2000_u32).map(|it| (it, u128::from(it) << shift | 1 << 127));
            keys().for_each(|(it, key)| map.insert(key, Known::new(IdentityId(it))));
            assert!(keys().all(|(it, key)| map.get(key).map(|it| it.identity().0) == Some(it)));
            let buckets: usize = map.shards.iter().map(|shard| shard.len()).sum();
            assert!(buckets <= 2560, "{buckets} buckets, with {shift}");
        }
    }

    /// Ever more room, in ever more shards, in larger ones, and in more again.
    #[test]
    fn room_is_doubled_in_two_ways() {
        let mut map = AddressMap::<u32>::default();
        let mut sizes = Vec::new();
        for key in 0..270_000 {
            map.insert(key, Known::new(IdentityId(key)));
            let size = (map.shards.len(), map.buckets);
            if sizes.last() != Some(&size) {
                sizes.push(size);
            }
        }
        let shards = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512].map(|shards| (shards, 8));
        let larger = [16, 32, 64, 128, 256].map(|buckets| (512, buckets));
        assert_eq!(sizes, [&shards[..], &larger, &[(1024, 256)]].concat());
        assert!((0..270_000).all(|key| map.get(key).map(|it| it.identity().0) == Some(key)));
    }
}
