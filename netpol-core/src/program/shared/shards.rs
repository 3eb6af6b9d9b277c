use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use crate::hash::{HashMap, RandomState};

use super::Pages;

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
        if self.len == 0 {
            return None;
        }
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
    use std::collections::BTreeMap;

    use super::*;

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
