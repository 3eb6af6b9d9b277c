use super::IdentityId;
use super::shared::Chunks;

/// A set of identities, made to be asked: in place as long as it is short, which most are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdentitySet {
    /// In ascending order; lanes that are not in use hold [`NOBODY`].
    Few([IdentityId; FEW]),
    Many(Chunks<IdentityId>),
}

const FEW: usize = 11;
/// Never given to anybody, so that nobody asks for it.
const NOBODY: IdentityId = IdentityId(u32::MAX);

impl IdentitySet {
    pub(crate) const EMPTY: Self = Self::Few([NOBODY; FEW]);

    #[inline]
    pub(crate) fn contains(&self, id: IdentityId) -> bool {
        match self {
            // All are looked at, so that no branch can be guessed wrongly.
            Self::Few(ids) => ids.iter().fold(false, |found, it| found | (*it == id)),
            Self::Many(chunks) => chunks.contains(id),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Few(ids) => few(ids).count(),
            Self::Many(chunks) => chunks.len(),
        }
    }

    /// In ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = IdentityId> {
        let (ids, chunks) = match self {
            Self::Few(ids) => (&ids[..], None),
            Self::Many(chunks) => (&[][..], Some(chunks)),
        };
        few(ids).chain(chunks.into_iter().flat_map(Chunks::iter))
    }

    pub(crate) fn insert(&mut self, id: IdentityId) {
        match self {
            Self::Many(chunks) => drop(chunks.insert(id)),
            Self::Few(ids) if !ids.contains(&id) => *self = few(ids).chain([id]).collect(),
            Self::Few(_) => {}
        }
    }

    pub(crate) fn remove(&mut self, id: IdentityId) {
        match self {
            Self::Many(chunks) => {
                if chunks.remove(id) && chunks.len() <= FEW {
                    *self = chunks.iter().collect();
                }
            }
            Self::Few(ids) if ids.contains(&id) => {
                *self = few(ids).filter(|it| *it != id).collect();
            }
            Self::Few(_) => {}
        }
    }
}

fn few(ids: &[IdentityId]) -> impl Iterator<Item = IdentityId> {
    ids.iter().copied().filter(|id| *id != NOBODY)
}

impl FromIterator<IdentityId> for IdentitySet {
    fn from_iter<I: IntoIterator<Item = IdentityId>>(ids: I) -> Self {
        let mut ids: Vec<IdentityId> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() > FEW {
            return Self::Many(Chunks::of(&ids));
        }
        let mut lanes = [NOBODY; FEW];
        lanes.iter_mut().zip(ids).for_each(|(lane, id)| *lane = id);
        Self::Few(lanes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn behaves_like_a_set_on_both_sides_of_its_size() {
        let mut set = IdentitySet::EMPTY;
        let mut model = BTreeSet::new();
        let mut seed = 1_u64;
        for step in 0..20_000_u32 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let id = (seed >> 33) as u32 % 1500;
            // Now it grows, now it shrinks.
            let grows = (step / 5000) % 2 == 0;
            let at_hand = model.iter().next().copied().unwrap_or(id);
            // Now somebody holds the set as it was, now nobody does.
            let held = (step % 3 == 0).then(|| (set.clone(), model.clone()));
            match (grows, seed & 4 == 0) {
                (true, _) => {
                    set.insert(IdentityId(id));
                    model.insert(id);
                }
                (false, any) => {
                    let id = if any { id } else { at_hand };
                    set.remove(IdentityId(id));
                    model.remove(&id);
                }
            }
            if let Some((set, model)) = held {
                assert!(set.iter().map(|id| id.0).eq(model));
            }
            assert_eq!(set.contains(IdentityId(id)), model.contains(&id));
            assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
            if step % 100 == 0 || model.len() < 20 {
                let all: Vec<u32> = set.iter().map(|id| id.0).collect();
                assert_eq!(all, model.iter().copied().collect::<Vec<_>>());
                let again: IdentitySet = model.iter().copied().map(IdentityId).collect();
                assert!(set.iter().eq(again.iter()));
                let in_place = [&set, &again].map(|it| matches!(it, IdentitySet::Few(_)));
                assert_eq!(in_place, [model.len() <= FEW; 2]);
            }
        }
    }
}
