use super::IdentityId;
use super::shared::{BitSet, Chunks};

/// A set of identities, made to be asked: in place as long as it is short, which most are, and a list or a bit for each,
/// whichever is smaller, when it is long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdentitySet {
    /// In ascending order; lanes that are not in use hold [`NOBODY`].
    Few([IdentityId; FEW]),
    Many(Chunks<IdentityId>),
    Most(BitSet),
}

const FEW: usize = 11;
/// A list is reviewed whenever it has grown by so many.
const REVIEWED: usize = 256;
/// Never given to anybody, so that nobody asks for it.
const NOBODY: IdentityId = IdentityId(u32::MAX);

impl Default for IdentitySet {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl IdentitySet {
    pub(crate) const EMPTY: Self = Self::Few([NOBODY; FEW]);

    #[inline]
    pub(crate) fn contains(&self, id: IdentityId) -> bool {
        match self {
            // All are looked at, so that no branch can be guessed wrongly.
            Self::Few(ids) => ids.iter().fold(false, |found, it| found | (*it == id)),
            Self::Many(_) | Self::Most(_) => self.contains_among_many(id),
        }
    }

    /// Kept out of the way of those that are short.
    #[inline(never)]
    fn contains_among_many(&self, id: IdentityId) -> bool {
        match self {
            Self::Few(_) => false,
            Self::Many(chunks) => chunks.contains(id),
            Self::Most(bits) => bits.contains(id.0),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Few(ids) => few(ids).count(),
            Self::Many(chunks) => chunks.len(),
            Self::Most(bits) => bits.len(),
        }
    }

    /// About how much memory it takes beside itself.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Few(_) => 0,
            Self::Many(chunks) => chunks.len() * size_of::<IdentityId>(),
            Self::Most(bits) => bits.bytes(),
        }
    }

    /// In ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = IdentityId> {
        let (ids, chunks, bits) = match self {
            Self::Few(ids) => (&ids[..], None, None),
            Self::Many(chunks) => (&[][..], Some(chunks), None),
            Self::Most(bits) => (&[][..], None, Some(bits)),
        };
        let bits = bits.into_iter().flat_map(BitSet::iter).map(IdentityId);
        few(ids).chain(chunks.into_iter().flat_map(Chunks::iter)).chain(bits)
    }

    pub(crate) fn insert(&mut self, id: IdentityId) {
        match self {
            Self::Many(chunks) => {
                // Now and then it is looked at whether it has become many enough.
                if chunks.insert(id) && chunks.len().is_multiple_of(REVIEWED) {
                    *self = chunks.iter().collect();
                }
            }
            Self::Most(bits) => bits.insert(id.0),
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
            Self::Most(bits) => {
                if bits.remove(id.0) && (bits.is_sparse() || bits.len() <= FEW) {
                    *self = bits.iter().map(IdentityId).collect();
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
        let mut ids: Vec<u32> = ids.into_iter().map(|id| id.0).collect();
        ids.sort_unstable();
        ids.dedup();
        let as_ids = ids.iter().copied().map(IdentityId);
        if ids.len() <= FEW {
            let mut lanes = [NOBODY; FEW];
            lanes.iter_mut().zip(as_ids).for_each(|(lane, id)| *lane = id);
            return Self::Few(lanes);
        }
        match BitSet::suits(&ids) {
            true => Self::Most(BitSet::of(&ids)),
            false => Self::Many(Chunks::of(&as_ids.collect::<Vec<_>>())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn behaves_like_a_set_in_every_form() {
        // Numbers that are close together, and numbers that are far apart.
        let seen: [BTreeSet<&str>; 2] = [1500, 1 << 20].map(behaves_like_a_set);
        assert_eq!(seen[0], BTreeSet::from(["few", "many", "most"]));
        assert_eq!(seen[1], BTreeSet::from(["few", "many"]));
    }

    fn behaves_like_a_set(numbers: u32) -> BTreeSet<&'static str> {
        let mut seen = BTreeSet::new();
        let mut set = IdentitySet::EMPTY;
        let mut model = BTreeSet::new();
        let mut seed = 1_u64;
        for step in 0..20_000_u32 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let id = (seed >> 33) as u32 % numbers;
            // Now it grows, now it shrinks.
            let grows = (step / 5000) % 2 == 0;
            let at_hand = model.range(id..).next().or(model.first()).copied().unwrap_or(id);
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
            let form = |set: &IdentitySet| match set {
                IdentitySet::Few(_) => "few",
                IdentitySet::Many(_) => "many",
                IdentitySet::Most(_) => "most",
            };
            seen.insert(form(&set));
            if step % 100 == 0 || model.len() < 20 {
                let all: Vec<u32> = set.iter().map(|id| id.0).collect();
                assert_eq!(all, model.iter().copied().collect::<Vec<_>>());
                let again: IdentitySet = model.iter().copied().map(IdentityId).collect();
                assert!(set.iter().eq(again.iter()));
                let in_place = [&set, &again].map(|it| form(it) == "few");
                assert_eq!(in_place, [model.len() <= FEW; 2]);
            }
        }
        seen
    }

    /// Whichever form a set takes, it takes no more room than the other would by much.
    #[test]
    fn sets_take_the_form_that_is_smaller() {
        let form = |ids: &mut dyn Iterator<Item = u32>| {
            matches!(ids.map(IdentityId).collect(), IdentitySet::Most(_))
        };
        assert!(form(&mut (0..100)), "one page");
        assert!(form(&mut (5000..90_000)), "all but the first");
        assert!(form(&mut (0..90_000).step_by(25)), "40 of each page");
        assert!(!form(&mut (0..90_000).step_by(50)), "20 of each page");
        assert!(!form(&mut (90_000..90_100)), "one page, far away");
    }
}
