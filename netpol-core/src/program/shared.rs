//! Containers whose clones share almost everything: how a program is cheap to clone, and the next one is made from it
//! by changing only what an event touches.
//!
//! All are two levels deep: an array of chunks, both behind an [`Arc`]. A look-up costs one more step than in a plain
//! array, which matters little; a change copies one chunk and the array of chunks, some hundred words each, if
//! somebody else still holds the former version, and nothing if nobody does. Trees that share more exist as crates,
//! but their look-ups are several times deeper, and look-ups are what happens for every packet.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

use ahash::{HashMap, RandomState};
use smallvec::SmallVec;

/// A growing array.
#[derive(Clone, Debug)]
pub(crate) struct Table<T, const CHUNK: usize = 128> {
    /// All of the same length.
    chunks: Arc<[Arc<[Option<T>]>]>,
}

/// A growing array of which there are very many values: four levels deep, so that a change copies little, and a look-up
/// takes longer.
#[derive(Clone, Debug)]
pub(crate) struct Pages<T>(Table<Table<T, FEW>, FEW>);

/// Values in a chunk of [`Pages`], and chunks in a page.
const FEW: usize = 32;
/// Values in a page.
const PAGE: u32 = 32 * 32;
const _: () = assert!(PAGE as usize == FEW * FEW, "a page is as many chunks as a chunk is values");

impl<T, const CHUNK: usize> Default for Table<T, CHUNK> {
    fn default() -> Self {
        Self { chunks: Arc::new([]) }
    }
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self(Table::default())
    }
}

impl<T: Clone> Pages<T> {
    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        self.0.get(at / PAGE)?.get(at % PAGE)
    }

    /// Every value with its index, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let pages = self.0.iter();
        pages.flat_map(|(page, values)| values.iter().map(move |(at, it)| (page * PAGE + at, it)))
    }

    /// What two do not share: see [`Table::unshared`].
    pub(crate) fn unshared<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (u32, Option<&'a T>, Option<&'a T>)> {
        self.0.unshared(&before.0).flat_map(|(page, before, now)| {
            let both = before.zip(now).into_iter().flat_map(|(before, now)| now.unshared(before));
            let one = |side: Option<&'a Table<T, FEW>>, other: Option<_>| {
                side.filter(|_| other.is_none()).into_iter().flat_map(Table::iter)
            };
            let gone = one(before, now).map(|(at, value)| (at, Some(value), None));
            let new = one(now, before).map(|(at, value)| (at, None, Some(value)));
            both.chain(gone).chain(new).map(move |(at, a, b)| (page * PAGE + at, a, b))
        })
    }

    pub(crate) fn set(&mut self, at: u32, value: T) {
        let page = self.0.slot(at / PAGE).get_or_insert_default();
        page.set(at % PAGE, value);
    }

    pub(crate) fn clear(&mut self, at: u32) {
        if self.get(at).is_some()
            && let Some(page) = self.0.get_mut(at / PAGE)
        {
            page.clear(at % PAGE);
        }
    }

    /// The value at an index, to be changed.
    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.get(at)?;
        self.0.get_mut(at / PAGE)?.get_mut(at % PAGE)
    }
}

impl<T: Clone, const CHUNK: usize> Table<T, CHUNK> {
    #[inline]
    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        let at = at as usize;
        self.chunks.get(at / CHUNK)?.get(at % CHUNK)?.as_ref()
    }

    /// Every value with its index, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let slots = self.chunks.iter().zip((0..).step_by(CHUNK));
        slots.flat_map(|(chunk, first)| {
            (first..).zip(chunk.iter()).filter_map(|(at, slot)| Some((at, slot.as_ref()?)))
        })
    }

    /// What two tables do not share: the values at the same index before and now, equal ones among them.
    pub(crate) fn unshared<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (u32, Option<&'a T>, Option<&'a T>)> {
        let count = match Arc::ptr_eq(&self.chunks, &before.chunks) {
            true => 0,
            false => self.chunks.len().max(before.chunks.len()),
        };
        let chunks = (0..count).zip((0..).step_by(CHUNK));
        let chunks = chunks.map(|(at, first)| (first, before.chunks.get(at), self.chunks.get(at)));
        let differ = chunks.filter(|(_, before, now)| match (before, now) {
            (Some(before), Some(now)) => !Arc::ptr_eq(before, now),
            _ => true,
        });
        differ.flat_map(|(first, before, now)| {
            let value = |chunk: Option<&'a Arc<[Option<T>]>>, at: usize| chunk?.get(at)?.as_ref();
            (first..)
                .zip(0..CHUNK)
                .map(move |(index, at)| (index, value(before, at), value(now, at)))
                .filter(|(_, before, now)| before.is_some() || now.is_some())
        })
    }

    pub(crate) fn set(&mut self, at: u32, value: T) {
        *self.slot(at) = Some(value);
    }

    pub(crate) fn clear(&mut self, at: u32) {
        if self.get(at).is_some() {
            *self.slot(at) = None;
        }
    }

    /// The value at an index, to be changed.
    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.get(at)?;
        self.slot(at).as_mut()
    }

    fn slot(&mut self, at: u32) -> &mut Option<T> {
        let at = at as usize;
        if self.chunks.len() <= at / CHUNK {
            let missing = at / CHUNK + 1 - self.chunks.len();
            let empty = || std::iter::repeat_n(None, CHUNK).collect();
            let more = std::iter::repeat_with(empty).take(missing);
            self.chunks = self.chunks.iter().cloned().chain(more).collect();
        }
        // Both indexes were made to exist just above.
        #[expect(clippy::indexing_slicing, reason = "extended above")]
        &mut Arc::make_mut(&mut Arc::make_mut(&mut self.chunks)[at / CHUNK])[at % CHUNK]
    }
}

/// A sorted set of small values: in place as long as it is short, in chunks when it is long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SortedSet<T> {
    Short(SmallVec<[T; 6]>),
    Long(Chunks<T>),
}

/// A sorted set in chunks, each with its last value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunks<T>(Arc<[(T, Arc<Vec<T>>)]>);

/// Values in a chunk at most.
const LONGEST: usize = 512;

impl<T> Default for SortedSet<T> {
    fn default() -> Self {
        Self::Short(SmallVec::new_const())
    }
}

impl<T: Copy + Ord> SortedSet<T> {
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Short(values) if values.is_empty())
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Short(values) => values.len(),
            Self::Long(chunks) => chunks.len(),
        }
    }

    /// In ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = T> {
        let (short, long) = match self {
            Self::Short(values) => (values.as_slice(), None),
            Self::Long(chunks) => (&[][..], Some(chunks)),
        };
        short.iter().copied().chain(long.into_iter().flat_map(Chunks::iter))
    }

    /// The values that only one of two sets holds. Chunks that they share are not looked at.
    pub(crate) fn difference(&self, other: &Self) -> Vec<T> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        match (self, other) {
            (Self::Long(a), Self::Long(b)) => {
                let (mut a, mut b) = (a.0.iter().peekable(), b.0.iter().peekable());
                loop {
                    let chunks = match (a.peek(), b.peek()) {
                        (None, None) => break,
                        (Some((_, one)), Some((_, other))) if Arc::ptr_eq(one, other) => {
                            (a.next(), b.next(), true)
                        }
                        (Some((one, _)), Some((other, _))) if one > other => {
                            (None, b.next(), false)
                        }
                        (None, Some(_)) => (None, b.next(), false),
                        (Some(_), _) => (a.next(), None, false),
                    };
                    if let (one, other, false) = chunks {
                        ours.extend(one.into_iter().flat_map(|(_, chunk)| chunk.iter()));
                        theirs.extend(other.into_iter().flat_map(|(_, chunk)| chunk.iter()));
                    }
                }
            }
            (ours_all, theirs_all) => {
                ours.extend(ours_all.iter());
                theirs.extend(theirs_all.iter());
            }
        }
        let missing = |values: &[T], of: &[T]| -> Vec<T> {
            values.iter().copied().filter(|value| of.binary_search(value).is_err()).collect()
        };
        let mut only = missing(&ours, &theirs);
        only.extend(missing(&theirs, &ours));
        only
    }

    /// Adds a value; tells whether it was not there.
    pub(crate) fn insert(&mut self, value: T) -> bool {
        match self {
            Self::Short(values) => {
                let Err(at) = values.binary_search(&value) else { return false };
                if values.len() < values.inline_size() {
                    values.insert(at, value);
                } else {
                    *self = values.iter().copied().chain([value]).collect();
                }
                true
            }
            Self::Long(chunks) => chunks.insert(value),
        }
    }

    /// Takes a value out; tells whether it was there.
    pub(crate) fn remove(&mut self, value: T) -> bool {
        match self {
            Self::Short(values) => {
                let Ok(at) = values.binary_search(&value) else { return false };
                values.remove(at);
                true
            }
            Self::Long(chunks) => {
                let removed = chunks.remove(value);
                if removed && chunks.len() <= 4 {
                    *self = Self::Short(chunks.iter().collect());
                }
                removed
            }
        }
    }
}

impl<T: Copy + Ord> Chunks<T> {
    /// Of values that are sorted and differ.
    pub(crate) fn of(values: &[T]) -> Self {
        let chunks = values.chunks(LONGEST);
        Self(chunks.filter_map(|chunk| Some((*chunk.last()?, Arc::new(chunk.to_vec())))).collect())
    }

    #[inline]
    pub(crate) fn contains(&self, value: T) -> bool {
        let at = self.0.partition_point(|(last, _)| *last < value);
        self.0.get(at).is_some_and(|(_, chunk)| chunk.binary_search(&value).is_ok())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|(_, chunk)| chunk.len()).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = T> {
        self.0.iter().flat_map(|(_, chunk)| chunk.iter().copied())
    }

    /// Adds a value; tells whether it was not there.
    pub(crate) fn insert(&mut self, value: T) -> bool {
        let last = self.0.len().saturating_sub(1);
        let at = self.0.partition_point(|(last, _)| *last < value).min(last);
        let chunk = self.0.get(at).map_or(&[][..], |(_, chunk)| chunk);
        let Err(place) = chunk.binary_search(&value) else { return false };
        if let Some((last, chunk)) = self.owned(at)
            && chunk.len() < LONGEST
        {
            chunk.insert(place, value);
            *last = value.max(*last);
            return true;
        }
        let chunk = self.0.get(at).map_or(&[][..], |(_, chunk)| chunk);
        let (before, after) = chunk.split_at(place);
        let values = [before, &[value], after].concat();
        // A set that grows at its end keeps its chunks full.
        let most = if after.is_empty() { LONGEST } else { LONGEST / 2 };
        let full = values.len() > LONGEST;
        let parts: Vec<&[T]> = if full { values.chunks(most).collect() } else { vec![&values] };
        self.replace(at, &parts);
        true
    }

    /// Takes a value out; tells whether it was there.
    pub(crate) fn remove(&mut self, value: T) -> bool {
        let at = self.0.partition_point(|(last, _)| *last < value);
        let Some((_, chunk)) = self.0.get(at) else { return false };
        let Ok(place) = chunk.binary_search(&value) else { return false };
        if let Some((last, chunk)) = self.owned(at)
            && let [.., second, end] = chunk.as_slice()
        {
            *last = if value == *end { *second } else { *end };
            chunk.remove(place);
            return true;
        }
        let Some((_, chunk)) = self.0.get(at) else { return false };
        let (before, after) = chunk.split_at(place);
        let values = [before, after.get(1..).unwrap_or_default()].concat();
        let parts: &[&[T]] = if values.is_empty() { &[] } else { &[&values] };
        self.replace(at, parts);
        true
    }

    /// A chunk, to be changed in place if nobody else holds it.
    fn owned(&mut self, at: usize) -> Option<(&mut T, &mut Vec<T>)> {
        let (last, chunk) = Arc::get_mut(&mut self.0)?.get_mut(at)?;
        Some((last, Arc::get_mut(chunk)?))
    }

    /// Puts other chunks in the place of one.
    fn replace(&mut self, at: usize, parts: &[&[T]]) {
        let (before, after) = self.0.split_at(at);
        let parts = parts.iter().filter_map(|part| Some((*part.last()?, Arc::new(part.to_vec()))));
        self.0 = before.iter().cloned().chain(parts).chain(after.iter().skip(1).cloned()).collect();
    }
}

impl<T: Copy + Ord> FromIterator<T> for SortedSet<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut values: Vec<T> = values.into_iter().collect();
        values.sort_unstable();
        values.dedup();
        if values.len() <= SmallVec::<[T; 6]>::new().inline_size() {
            return Self::Short(SmallVec::from_slice(&values));
        }
        Self::Long(Chunks::of(&values))
    }
}

/// A hash map in shards, whose number follows that of the entries.
#[derive(Clone, Debug)]
pub(crate) struct Shards<K, V> {
    hasher: RandomState,
    shards: Pages<Arc<HashMap<K, V>>>,
    /// How many shards there are: a power of two.
    count: u32,
    len: usize,
}

/// Entries per shard, on average, at which their number is doubled.
const FULL: usize = 24;

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        Self { hasher: RandomState::default(), shards: Pages::default(), count: 1, len: 0 }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Shards<K, V> {
    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> u32 {
        // The maps inside use the low bits of a hash of their own.
        let high = (self.hasher.hash_one(key) >> 32) as u32;
        high & (self.count - 1)
    }

    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards.get(self.shard(key))?.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|(_, shard)| shard.iter())
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.len >= self.count as usize * FULL {
            self.double();
        }
        let at = self.shard(&key);
        if self.shards.get(at).is_none() {
            self.shards.set(at, Arc::default());
        }
        if let Some(shard) = self.shards.get_mut(at) {
            self.len += usize::from(Arc::make_mut(shard).insert(key, value).is_none());
        }
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if self.get(key).is_none() {
            return;
        }
        let at = self.shard(key);
        if let Some(shard) = self.shards.get_mut(at) {
            self.len -= usize::from(Arc::make_mut(shard).remove(key).is_some());
        }
    }

    fn double(&mut self) {
        let old = std::mem::take(&mut self.shards);
        self.count *= 2;
        self.len = 0;
        for (key, value) in old.iter().flat_map(|(_, shard)| shard.iter()) {
            self.insert(key.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Pages are like a map from numbers to values, and know what two of them do not share.
    #[test]
    fn pages_behave_like_a_map() {
        let mut pages = Pages::default();
        let mut model = BTreeMap::new();
        let mut seed = 1_u64;
        for round in 0..40_u32 {
            let (before, model_before) = (pages.clone(), model.clone());
            for step in 0..50 {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                // Over several of the chunks that pages are in.
                let at = (seed >> 33) as u32 % if round < 20 { 200_000 } else { 3 * PAGE };
                if seed & 4 == 0 {
                    pages.clear(at);
                    model.remove(&at);
                } else {
                    pages.set(at, round * 1000 + step);
                    model.insert(at, round * 1000 + step);
                }
                assert_eq!(pages.get(at), model.get(&at));
                assert_eq!(pages.get_mut(at).copied(), model.get(&at).copied());
            }
            let all: Vec<_> = pages.iter().map(|(at, value)| (at, *value)).collect();
            assert_eq!(all, model.clone().into_iter().collect::<Vec<_>>());
            for (earlier, later, from, to) in
                [(&before, &pages, &model_before, &model), (&pages, &before, &model, &model_before)]
            {
                let unshared: BTreeMap<_, _> =
                    later.unshared(earlier).map(|(at, a, b)| (at, (a, b))).collect();
                for at in from.keys().chain(to.keys()) {
                    let both = (from.get(at), to.get(at));
                    assert!(both.0 == both.1 || unshared.get(at) == Some(&both), "{at}: {both:?}");
                }
            }
            assert_eq!(pages.unshared(&pages.clone()).count(), 0);
        }
    }

    /// Sets of any size are sets, and know in what they differ from what they were.
    #[test]
    fn sets_behave_like_sets() {
        let mut set = SortedSet::default();
        let mut model = BTreeSet::new();
        let mut earlier = vec![(set.clone(), model.clone())];
        let mut seed = 1_u64;
        for step in 0..30_000_u32 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let value = (seed >> 33) as u32 % 5000;
            // Up to thousands, and down to a few.
            let grows = (step / 6000) % 2 == 0;
            if grows {
                assert_eq!(set.insert(value), model.insert(value));
            } else {
                let near = model.range(value..).next().copied().unwrap_or(value);
                let value = if seed & 4 == 0 { value } else { near };
                assert_eq!(set.remove(value), model.remove(&value));
            }
            assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
            if step % 200 == 0 || (model.len() < 9 && step % 3 == 0) {
                assert!(set.iter().eq(model.iter().copied()));
                for (held, of_held) in &earlier {
                    assert!(held.iter().eq(of_held.iter().copied()), "what is held has changed");
                    let differs: Vec<u32> = model.symmetric_difference(of_held).copied().collect();
                    for mut found in [set.difference(held), held.difference(&set)] {
                        found.sort_unstable();
                        assert_eq!(found, differs);
                    }
                }
                earlier.push((set.clone(), model.clone()));
                let oldest = earlier.len().saturating_sub(4);
                earlier.drain(..oldest);
            }
        }
    }

    #[test]
    fn shards_behave_like_a_map() {
        let mut shards = Shards::default();
        let mut model = BTreeMap::new();
        for key in 0..10_000_u32 {
            let held = shards.clone();
            shards.insert(key, key);
            model.insert(key, key);
            if key % 3 == 0 {
                shards.remove(&(key / 2));
                model.remove(&(key / 2));
            }
            drop(held);
        }
        let mut all: Vec<_> = shards.iter().map(|(key, value)| (*key, *value)).collect();
        all.sort_unstable();
        assert_eq!(all, model.clone().into_iter().collect::<Vec<_>>());
        assert!((0..10_000).all(|key| shards.get(&key) == model.get(&key)));
    }
}
