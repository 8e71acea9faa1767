//! The only source of chance in a simulation: a small generator whose seed is the whole run.

/// splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
///
/// One word of state, every seed is a good one, and forks are independent enough for tests.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

/// Mix `value` so that every bit of it reaches every bit of the result.
pub(super) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng { state: seed }
    }

    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number in `0..count`. The bias is below 2^-32 for every count that a test uses.
    pub fn below(&mut self, count: u64) -> u64 {
        assert!(count > 0, "nothing to choose from");
        ((u128::from(self.next_u64()) * u128::from(count)) >> 64) as u64
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high);
        low + self.below(high - low + 1)
    }

    /// True once in `count` times.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// A generator of its own, so that one actor's choices do not shift another's.
    pub fn fork(&mut self) -> Rng {
        Rng::new(mix(self.next_u64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // The first outputs for seed 1234567, as published with the reference implementation.
        let mut rng = Rng::new(1_234_567);
        let got: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        assert_eq!(got, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }

    #[test]
    fn choices_stay_in_range_and_reach_both_ends() {
        let mut rng = Rng::new(7);
        let mut seen = [0; 4];
        for _ in 0..1000 {
            seen[rng.between(10, 13) as usize - 10] += 1;
        }
        assert!(seen.iter().all(|&count| count > 180), "{seen:?}");
    }
}
