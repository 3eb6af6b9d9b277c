use std::sync::Arc;

/// A set of numbers that takes a bit for each that might be in it, in pages: for sets that hold a good part of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BitSet {
    pages: Arc<[Option<Arc<Page>>]>,
    len: u32,
}

/// A bit for each of some successive numbers.
type Page = [u64; WORDS];

const WORDS: usize = 16;
/// What an [`Arc`] takes beside its content.
const ARC: usize = 2 * size_of::<usize>();
/// Numbers of a page.
const WIDTH: usize = WORDS * u64::BITS as usize;

/// Where the bit of a number is: its page, its word there, and the bit.
#[inline]
fn place(value: u32) -> (usize, usize, u64) {
    let at = value as usize;
    (at / WIDTH, at % WIDTH / u64::BITS as usize, 1 << (value % u64::BITS))
}

/// How much memory so many pages take of which so many are used.
fn room(pages: usize, used: usize) -> usize {
    pages * size_of::<Option<Arc<Page>>>() + used * (size_of::<Page>() + ARC)
}

impl BitSet {
    /// Of values that are sorted and differ.
    pub(crate) fn of(values: &[u32]) -> Self {
        let last = values.last().map_or(0, |last| place(*last).0 + 1);
        let mut pages = vec![None; last];
        for alike in values.chunk_by(|a, b| place(*a).0 == place(*b).0) {
            let mut page = [0; WORDS];
            for value in alike {
                let (_, word, bit) = place(*value);
                if let Some(word) = page.get_mut(word) {
                    *word |= bit;
                }
            }
            let slot = alike.first().and_then(|first| pages.get_mut(place(*first).0));
            slot.into_iter().for_each(|slot| *slot = Some(Arc::new(page)));
        }
        let len = values.len().try_into().unwrap_or(u32::MAX);
        Self { pages: pages.into(), len }
    }

    /// Whether values take less room here than in a list of them; they are sorted and differ.
    pub(crate) fn suits(values: &[u32]) -> bool {
        let last = values.last().map_or(0, |last| place(*last).0 + 1);
        let used = values.chunk_by(|a, b| place(*a).0 == place(*b).0).count();
        room(last, used) < size_of_val(values)
    }

    pub(crate) fn bytes(&self) -> usize {
        room(self.pages.len(), self.pages.iter().flatten().count())
    }

    /// Whether there is hardly more than a value per page, so that a list would do better.
    pub(crate) fn is_sparse(&self) -> bool {
        self.len() <= 2 * self.pages.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    #[inline]
    pub(crate) fn contains(&self, value: u32) -> bool {
        let (page, word, bit) = place(value);
        let page = self.pages.get(page).and_then(Option::as_ref);
        page.and_then(|page| page.get(word)).is_some_and(|word| word & bit != 0)
    }

    /// In ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        let words = self.pages.iter().flat_map(|page| match page {
            Some(page) => &page[..],
            None => &[0; WORDS],
        });
        words.zip(0_u32..).flat_map(|(word, at)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(at * u64::BITS + bit)
            })
        })
    }

    pub(crate) fn insert(&mut self, value: u32) {
        let (page, word, bit) = place(value);
        if self.contains(value) {
            return;
        }
        if page >= self.pages.len() {
            let more = page + 1 - self.pages.len();
            let more = std::iter::repeat_n(None, more);
            self.pages = self.pages.iter().cloned().chain(more).collect();
        }
        let slot = Arc::make_mut(&mut self.pages).get_mut(page);
        let page = slot.map(|slot| Arc::make_mut(slot.get_or_insert_with(Arc::default)));
        if let Some(word) = page.and_then(|page| page.get_mut(word)) {
            *word |= bit;
            self.len += 1;
        }
    }

    /// Takes a value out; tells whether it was there.
    pub(crate) fn remove(&mut self, value: u32) -> bool {
        let (page, word, bit) = place(value);
        if !self.contains(value) {
            return false;
        }
        if let Some(slot) = Arc::make_mut(&mut self.pages).get_mut(page)
            && let Some(page) = slot
        {
            let page = Arc::make_mut(page);
            if let Some(word) = page.get_mut(word) {
                *word &= !bit;
                self.len -= 1;
            }
            if page.iter().all(|word| *word == 0) {
                *slot = None;
            }
        }
        true
    }
}
