//! Counts what is allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

/// The system's allocator, which counts while [`measured`] runs. To be the global allocator of a program:
///
/// ```
/// use netpol_benches::allocation::{Counting, measured};
///
/// #[global_allocator]
/// static ALLOCATOR: Counting = Counting;
///
/// let (list, usage) = measured(|| vec![0_u8; 1000]);
/// assert_eq!((usage.allocations, usage.kept, usage.peak), (1, 1000, 1000));
/// # drop(list);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Counting;

/// What was allocated while some work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// How many times memory was asked for, also to grow.
    pub allocations: u64,
    /// Bytes that were allocated and not freed again.
    pub kept: i64,
    /// The most bytes that were allocated at a time, beyond those that were before.
    pub peak: i64,
}

static ACTIVE: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

/// Does some work and tells what it allocated. One call at a time; slower than without counting.
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, Usage) {
    ALLOCATIONS.store(0, Relaxed);
    LIVE.store(0, Relaxed);
    PEAK.store(0, Relaxed);
    ACTIVE.store(true, Relaxed);
    let done = work();
    ACTIVE.store(false, Relaxed);
    let allocations = ALLOCATIONS.load(Relaxed);
    (done, Usage { allocations, kept: LIVE.load(Relaxed), peak: PEAK.load(Relaxed) })
}

fn count(bytes: usize, allocated: bool) {
    if ACTIVE.load(Relaxed) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let change = if allocated { bytes } else { -bytes };
        let live = LIVE.fetch_add(change, Relaxed) + change;
        if allocated {
            ALLOCATIONS.fetch_add(1, Relaxed);
            PEAK.fetch_max(live, Relaxed);
        }
    }
}

#[expect(unsafe_code, reason = "a global allocator cannot be counted otherwise")]
// SAFETY: every call is passed on unchanged to the system's allocator, which upholds the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), true);
        // SAFETY: the caller's obligations are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), true);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), false);
        count(size, true);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), false);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}
