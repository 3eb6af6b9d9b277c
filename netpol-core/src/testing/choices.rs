use std::borrow::Cow;

/// A tape of choices, each made by one byte (two where there are more than 256 alternatives).
#[derive(Clone, Debug)]
pub struct Choices<'a> {
    tape: Cow<'a, [u8]>,
    at: usize,
}

impl<'a> Choices<'a> {
    /// The choices that these bytes stand for.
    pub fn new(tape: &'a [u8]) -> Self {
        Self { tape: Cow::Borrowed(tape), at: 0 }
    }

    /// `len` random choices; the same for the same seed, everywhere and always.
    pub fn from_seed(seed: u64, len: usize) -> Choices<'static> {
        let mut state = seed;
        let tape = std::iter::repeat_with(|| split_mix(&mut state).to_le_bytes());
        Choices { tape: tape.flatten().take(len).collect(), at: 0 }
    }

    /// One of `n` alternatives, from 0; 0 if there is none, or if the tape is used up.
    pub fn pick(&mut self, n: usize) -> usize {
        let low = usize::from(self.next());
        let high = if n > 256 { usize::from(self.next()) } else { 0 };
        (high << 8 | low).checked_rem(n).unwrap_or(0)
    }

    /// True once in `n` times; false if the tape is used up, unless `n` is 1.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.pick(n) + 1 == n
    }

    /// One of these; the first if the tape is used up.
    pub fn of<T: Clone, const N: usize>(&mut self, all: [T; N]) -> T {
        const { assert!(N > 0, "nothing to choose from") };
        all[self.pick(N)].clone()
    }

    /// So many of what `make` makes as one of `counts` says.
    pub fn some<T, const N: usize>(
        &mut self,
        counts: [usize; N],
        mut make: impl FnMut(&mut Self) -> T,
    ) -> Vec<T> {
        let count = self.of(counts);
        (0..count).map(|_| make(self)).collect()
    }

    /// Whether every choice on the tape has been made.
    pub fn is_used_up(&self) -> bool {
        self.at >= self.tape.len()
    }

    fn next(&mut self) -> u8 {
        let byte = self.tape.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }
}

/// One of `items`, if there is any; the first if the tape is used up.
pub(super) fn pick<T: Clone>(choices: &mut Choices<'_>, items: &[T]) -> Option<T> {
    items.get(choices.pick(items.len())).cloned()
}

/// The splitmix64 generator: small, and good enough for everything but secrets.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_up_tape_chooses_the_first_alternative() {
        let mut choices = Choices::new(&[7]);
        assert_eq!((choices.pick(5), choices.is_used_up()), (2, true));
        assert_eq!((choices.pick(5), choices.of(["first", "second"])), (0, "first"));
        assert!(!choices.one_in(2));
        assert_eq!(choices.some([2, 3], |_| ()).len(), 2);
    }

    #[test]
    fn many_alternatives_take_two_bytes() {
        let mut choices = Choices::new(&[1, 2, 3]);
        assert_eq!((choices.pick(1000), choices.pick(256), choices.pick(0)), (513, 3, 0));
    }

    #[test]
    fn a_seed_stands_for_one_tape() {
        // The first output of splitmix64 for seed 0, least significant byte first.
        let tape = Choices::from_seed(0, 11).tape;
        assert_eq!(tape[..8], 0xe220_a839_7b1d_cdaf_u64.to_le_bytes());
        assert_eq!(tape.len(), 11);
        assert_ne!(tape, Choices::from_seed(1, 11).tape);
    }
}
