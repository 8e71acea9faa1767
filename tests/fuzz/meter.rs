//! Counts what this test program allocates, each thread for itself: a parser's memory is measured by
//! running it on a thread and asking for the peak.
//!
//! What C code takes (zstd's decoder) does not pass here.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// No parser of this program needs as much. Beyond it an allocation fails, and so ends the process,
/// before it takes the machine's memory.
const HELD_BYTES_MAX: isize = 1 << 30;

thread_local! {
    // Constant and without a destructor: safe to use inside of the allocator.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting.
pub struct Meter;

/// The most bytes held at a time while `work` ran, beyond what this thread held before.
pub fn peak_bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    (result, (PEAK.get() - before) as usize)
}

/// The bytes that are held after `work` beyond those before: those of its result.
pub fn held_bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    let result = work();
    (result, (HELD.get() - before) as usize)
}

/// Whether so many more bytes may be allocated.
fn take(bytes: usize) -> bool {
    let held = HELD.get().saturating_add_unsigned(bytes);
    if held > HELD_BYTES_MAX {
        return false;
    }
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
    true
}

fn give_back(bytes: usize) {
    HELD.set(HELD.get() - bytes as isize);
}

// SAFETY: every call is passed on to `System` with the arguments it came with, or answered with null,
// which means that there is no memory.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        give_back(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        // In the worst case both are there while the bytes are copied.
        if !take(new_bytes) {
            return std::ptr::null_mut();
        }
        give_back(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(memory, layout, new_bytes) }
    }
}

#[test]
fn peaks_are_measured_and_absurd_requests_refused() {
    let (held, peak) = peak_bytes(|| {
        drop(vec![1u8; 1 << 20]);
        vec![1u8; 1 << 10]
    });
    assert!((1 << 20..(1 << 20) + 1024).contains(&peak), "{peak}");
    drop(held);
    assert!(Vec::<u8>::new().try_reserve(HELD_BYTES_MAX as usize).is_err());
}
