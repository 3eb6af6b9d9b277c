//! Hash maps in which nobody can choose names and addresses that collide: every map has secret keys of its own, which
//! the standard library draws from the operating system.

use std::hash::{BuildHasher, Hash};

/// A map with keys of its own.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;

/// A set with keys of its own.
pub(crate) type HashSet<T> = std::collections::HashSet<T, RandomState>;

/// A hasher with keys that differ from those of every other.
///
/// Without an operating system, as on wasm32-unknown-unknown, they can be guessed.
#[derive(Clone, Debug)]
pub(crate) struct RandomState(ahash::RandomState);

impl Default for RandomState {
    fn default() -> Self {
        // Different each time, and a pseudo-random function: what it makes of known numbers is as secret as its keys.
        let random = std::hash::RandomState::new();
        let [a, b, c, d] = [0, 1, 2, 3].map(|number: u64| random.hash_one(number));
        Self(ahash::RandomState::with_seeds(a, b, c, d))
    }
}

impl BuildHasher for RandomState {
    type Hasher = ahash::AHasher;

    #[inline]
    fn build_hasher(&self) -> ahash::AHasher {
        self.0.build_hasher()
    }

    #[inline]
    fn hash_one<T: Hash>(&self, value: T) -> u64 {
        self.0.hash_one(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names that collide in one map are no hint of those that do in another, in this process or the next.
    #[test]
    fn every_map_hashes_in_its_own_way() {
        let hashes: HashSet<u64> =
            (0..1000).map(|_| RandomState::default().hash_one("a")).collect();
        assert_eq!(hashes.len(), 1000);
        let one = RandomState::default();
        assert_eq!(one.hash_one("a"), one.hash_one("a"));
    }
}
