use std::borrow::Borrow;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use crate::hash::HashMap;

/// Gives equal values one number, for as long as somebody uses it.
///
/// A number is born when its value is first used and dies when it is no longer used, but both are only announced by
/// [`settle`](Self::settle): what is given up and taken up again in between has never changed. A dead number is given
/// to another value after [`sweep`](Self::sweep) only, so that whoever still has it can say so in peace.
#[derive(Debug)]
pub(super) struct Interner<K> {
    ids: HashMap<K, u32>,
    slots: Vec<Slot<K>>,
    free: Vec<u32>,
    touched: Vec<u32>,
    dead: Vec<u32>,
}

#[derive(Debug)]
struct Slot<K> {
    key: Option<K>,
    uses: u32,
    alive: bool,
}

/// What has changed since the last time.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) born: Vec<u32>,
    pub(super) dying: Vec<u32>,
}

impl<K> Default for Interner<K> {
    fn default() -> Self {
        Self {
            ids: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            touched: Vec::new(),
            dead: Vec::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Interner<K> {
    /// The number of a value, with one more user.
    pub(super) fn acquire(&mut self, key: &K) -> u32 {
        self.intern(key).0
    }

    /// As [`acquire`](Self::acquire), and whether the value had no number before.
    pub(super) fn intern(&mut self, key: &K) -> (u32, bool) {
        let (id, is_new) = match self.ids.entry(key.clone()) {
            Entry::Occupied(known) => (*known.get(), false),
            Entry::Vacant(vacant) => {
                let id = self.free.pop().unwrap_or_else(|| {
                    self.slots.push(Slot { key: None, uses: 0, alive: false });
                    #[expect(clippy::cast_possible_truncation, reason = "memory ends before 2^32")]
                    let id = (self.slots.len() - 1) as u32;
                    id
                });
                if let Some(slot) = self.slots.get_mut(id as usize) {
                    slot.key = Some(key.clone());
                }
                (*vacant.insert(id), true)
            }
        };
        self.retain(id);
        (id, is_new)
    }

    /// One more user.
    pub(super) fn retain(&mut self, id: u32) {
        if let Some(slot) = self.slots.get_mut(id as usize) {
            if slot.uses == 0 {
                self.touched.push(id);
            }
            slot.uses += 1;
        }
    }

    /// One user less.
    pub(super) fn release(&mut self, id: u32) {
        if let Some(slot) = self.slots.get_mut(id as usize) {
            slot.uses = slot.uses.saturating_sub(1);
            if slot.uses == 0 {
                self.touched.push(id);
            }
        }
    }

    pub(super) fn get(&self, id: u32) -> Option<&K> {
        self.slots.get(id as usize)?.key.as_ref()
    }

    pub(super) fn find<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
    {
        self.ids.get(key).copied()
    }

    /// Tells which numbers have come into use, and which have gone out of it.
    pub(super) fn settle(&mut self) -> Settled {
        let (mut born, mut dying) = (Vec::new(), Vec::new());
        for id in std::mem::take(&mut self.touched) {
            let Some(slot) = self.slots.get_mut(id as usize) else { continue };
            match (slot.uses > 0, slot.alive) {
                (true, false) => born.push(id),
                (false, true) => dying.push(id),
                (false, false) => {}
                (true, true) => continue,
            }
            slot.alive = slot.uses > 0;
            if !slot.alive {
                self.dead.push(id);
            }
        }
        Settled { born, dying }
    }

    /// Frees the numbers that are out of use.
    pub(super) fn sweep(&mut self) {
        for id in std::mem::take(&mut self.dead) {
            let Some(slot) = self.slots.get_mut(id as usize) else { continue };
            let unused = slot.uses == 0 && !slot.alive;
            if let Some(key) = slot.key.take_if(|_| unused) {
                self.ids.remove(&key);
                self.free.push(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_before_it_is_settled_never_went() {
        let mut names = Interner::<&str>::default();
        let a = names.acquire(&"a");
        assert_eq!(names.settle().born, [a]);
        names.release(a);
        assert_eq!(names.acquire(&"a"), a);
        let settled = names.settle();
        assert!(settled.born.is_empty() && settled.dying.is_empty());
    }

    #[test]
    fn numbers_are_reused_after_a_sweep_only() {
        let mut names = Interner::<&str>::default();
        let a = names.acquire(&"a");
        names.settle();
        names.release(a);
        assert_eq!(names.settle().dying, [a]);
        let b = names.acquire(&"b");
        assert_ne!(a, b);
        names.sweep();
        assert_eq!(names.find("a"), None);
        assert_eq!(names.acquire(&"c"), a);
    }

    #[test]
    fn what_comes_back_before_it_is_swept_keeps_its_number() {
        let mut names = Interner::<&str>::default();
        let a = names.acquire(&"a");
        names.settle();
        names.release(a);
        assert_eq!(names.settle().dying, [a]);
        assert_eq!(names.acquire(&"a"), a);
        names.sweep();
        assert_eq!(names.find("a"), Some(a));
        assert_ne!(names.acquire(&"b"), a);
        assert!(names.settle().born.contains(&a));
    }

    #[test]
    fn what_never_settled_is_freed_in_silence() {
        let mut names = Interner::<&str>::default();
        let a = names.acquire(&"a");
        names.release(a);
        let settled = names.settle();
        assert!(settled.born.is_empty() && settled.dying.is_empty());
        names.sweep();
        assert_eq!(names.find("a"), None);
    }
}
