//! Asking for memory before it is needed.

/// Ask the processor to bring `value` into its cache, and do not wait. To be used where many values that were last
/// touched long ago are needed one after the other: their misses overlap instead of following each other.
#[inline]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        const LINE_BYTES: usize = 64;
        let start = std::ptr::from_ref(value).cast::<i8>();
        // The last byte may lie in one line more.
        for offset in (0..size_of::<T>()).step_by(LINE_BYTES).chain(size_of::<T>().checked_sub(1)) {
            // SAFETY: a hint reads nothing and faults nowhere, whatever the address; this one lies within `value`.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(offset)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
