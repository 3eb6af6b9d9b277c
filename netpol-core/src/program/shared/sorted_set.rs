use std::sync::Arc;

use smallvec::SmallVec;

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

    pub(crate) fn contains(&self, value: T) -> bool {
        match self {
            Self::Short(values) => values.contains(&value),
            Self::Long(chunks) => chunks.contains(value),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

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
            assert_eq!(set.contains(value), model.contains(&value));
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
}
