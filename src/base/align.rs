//! Rounding to a power of two.

/// The unit of direct IO here: offsets, lengths and addresses of every transfer are multiples of it.
///
/// 4096 is the physical block of current disks and at least the DMA alignment of every file system
/// that direct IO works on (`statx(2)`, `STATX_DIOALIGN`).
pub const PAGE_BYTES: usize = 4096;

/// The smallest multiple of `unit` that is at least `value`. `unit` is a power of two.
#[inline]
pub const fn round_up(value: usize, unit: usize) -> usize {
    debug_assert!(unit.is_power_of_two());
    (value + unit - 1) & !(unit - 1)
}

/// The largest multiple of `unit` that is at most `value`. `unit` is a power of two.
#[inline]
pub const fn round_down(value: usize, unit: usize) -> usize {
    debug_assert!(unit.is_power_of_two());
    value & !(unit - 1)
}

/// [`round_up`] for byte positions of a file or a log.
#[inline]
pub const fn round_up_u64(value: u64, unit: u64) -> u64 {
    debug_assert!(unit.is_power_of_two());
    (value + unit - 1) & !(unit - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_the_unit_and_leaves_multiples_alone() {
        for (value, up, down) in [(0, 0, 0), (1, 8, 0), (7, 8, 0), (8, 8, 8), (9, 16, 8)] {
            assert_eq!(round_up(value, 8), up);
            assert_eq!(round_down(value, 8), down);
            assert_eq!(round_up_u64(value as u64, 8), up as u64);
        }
    }
}
