//! Medians of repeated measurements. Whatever is compared takes turns, and what counts is the time that the thread
//! has the processor for: a busy machine still disturbs caches, but waiting for others is not counted.

use std::hint::black_box;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The times of one piece of work, sorted.
#[derive(Clone, Debug)]
pub struct Times(Vec<Duration>);

/// Does each piece of work in turn, `rounds` times over, after one round to warm up.
pub fn in_turns<const N: usize>(rounds: usize, mut works: [&mut dyn FnMut(); N]) -> [Times; N] {
    works.iter_mut().for_each(|work| work());
    let mut times: [Vec<Duration>; N] = std::array::from_fn(|_| Vec::with_capacity(rounds));
    for _ in 0..rounds {
        for (work, times) in works.iter_mut().zip(&mut times) {
            times.push(timed(work).1);
        }
    }
    times.map(Times::new)
}

/// Does something and tells how long it took, of the thread's own time.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = thread_time();
    let done = black_box(work());
    (done, thread_time().saturating_sub(start))
}

fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

impl Times {
    /// Of measurements in any order.
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The time that half of the measurements do not exceed.
    pub fn median(&self) -> Duration {
        self.quantile(0.5)
    }

    /// The time that this share of the measurements does not exceed.
    pub fn quantile(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into a list of measurements"
        )]
        let at = (share * self.0.len() as f64) as usize;
        self.0.get(at.min(self.0.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// Nanoseconds, per one of `count`.
#[expect(clippy::cast_precision_loss, reason = "a figure needs three digits")]
pub fn nanoseconds(time: Duration, count: usize) -> f64 {
    time.as_nanos() as f64 / count.max(1) as f64
}

/// Milliseconds.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let times = Times::new((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!(times.median(), Duration::from_millis(51));
        assert_eq!(times.quantile(0.99), Duration::from_millis(100));
        assert_eq!(times.quantile(0.0), Duration::from_millis(1));
        assert_eq!(Times::new(Vec::new()).median(), Duration::ZERO);
    }

    #[test]
    fn works_take_turns() {
        let order = std::cell::RefCell::new(Vec::new());
        let order = &order;
        let [mut a, mut b] = ["a", "b"].map(|it| move || order.borrow_mut().push(it));
        in_turns(2, [&mut a, &mut b]);
        assert_eq!(order.borrow().concat(), "ababab");
    }
}
