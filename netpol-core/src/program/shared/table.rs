use std::sync::Arc;

/// A growing array.
#[derive(Clone, Debug)]
pub(crate) struct Table<T, const CHUNK: usize = 128> {
    chunks: Arc<[Chunk<T, CHUNK>]>,
}

type Chunk<T, const CHUNK: usize> = Arc<[Option<T>; CHUNK]>;

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
            let value = |chunk: Option<&'a Chunk<T, CHUNK>>, at: usize| chunk?.get(at)?.as_ref();
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
            let empty = || Arc::new([const { None }; CHUNK]);
            let more = std::iter::repeat_with(empty).take(missing);
            self.chunks = self.chunks.iter().cloned().chain(more).collect();
        }
        // Both indexes were made to exist just above.
        #[expect(clippy::indexing_slicing, reason = "extended above")]
        &mut Arc::make_mut(&mut Arc::make_mut(&mut self.chunks)[at / CHUNK])[at % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
}
