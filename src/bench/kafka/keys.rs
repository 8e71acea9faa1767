//! Which keys the records have.
//!
//! A key belongs to one partition, as with a partitioner of its own: of `count` keys over `n`
//! partitions, those with `number % n == p` are partition `p`'s. Which of these a record has follows
//! from its sequence alone, so that nothing has to be remembered.

use serde::{Deserialize, Serialize};

use crate::bench::payload::Random;

/// The part of a key that tells it from others: its last bytes.
const NUMBER_BYTES: usize = 8;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum KeyDistribution {
    /// One after the other
    #[default]
    RoundRobin,
    /// Each as likely as the others
    Uniform,
    /// Few keys have most of the records: the n-th about 1/n of the first's
    Zipf,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// Of a key; 0: records have none.
    pub bytes: usize,
    /// Different ones; 0: random bytes, encoded once and sent again and again.
    pub count: u64,
    pub distribution: KeyDistribution,
}

impl Keys {
    /// Keys are made anew for each record.
    pub fn are_stamped(&self) -> bool {
        self.bytes > 0 && self.count > 0
    }

    /// The most keys that can be told apart.
    pub fn count_max(bytes: usize) -> u64 {
        if bytes >= NUMBER_BYTES { u64::MAX } else { 1 << (8 * bytes) }
    }

    /// The number of a record's key.
    fn number(&self, partition: u64, partitions: u64, seed: u64, sequence: u64) -> u64 {
        // As many for each partition, and at least one.
        let own = (self.count / partitions).max(1);
        let chance = || {
            let random = Random(seed ^ sequence.wrapping_mul(0xd134_2543_de82_ef95)).next();
            (random >> 11) as f64 / (1u64 << 53) as f64
        };
        let index = match self.distribution {
            KeyDistribution::RoundRobin => sequence % own,
            KeyDistribution::Uniform => (chance() * own as f64) as u64,
            // The inverse of a density of 1/x between 1 and one more than there are.
            KeyDistribution::Zipf => ((own as f64 + 1.0).powf(chance()) - 1.0) as u64,
        };
        index.min(own - 1) * partitions + partition
    }

    /// Write the key of record `sequence` of `partition` of `partitions`.
    #[inline]
    pub fn stamp(&self, key: &mut [u8], partition: i32, partitions: u32, seed: u64, sequence: u64) {
        let number = self.number(partition as u64, u64::from(partitions), seed, sequence).to_be_bytes();
        let bytes = key.len().min(NUMBER_BYTES);
        let at = key.len() - bytes;
        key[at..].copy_from_slice(&number[NUMBER_BYTES - bytes..]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// How often each key comes in 100,000 records of partition 1 of 4.
    fn counts(distribution: KeyDistribution) -> BTreeMap<u64, u64> {
        let keys = Keys { bytes: 8, count: 400, distribution };
        let mut counts = BTreeMap::new();
        for sequence in 0..100_000 {
            *counts.entry(keys.number(1, 4, 7, sequence)).or_default() += 1;
        }
        counts
    }

    #[test]
    fn a_partition_has_its_share_of_the_keys_and_no_other() {
        for distribution in [KeyDistribution::RoundRobin, KeyDistribution::Uniform, KeyDistribution::Zipf] {
            let counts = counts(distribution);
            assert_eq!(counts.len(), 100, "{distribution:?}");
            assert!(counts.keys().all(|number| number % 4 == 1 && *number < 400), "{distribution:?}");
        }
    }

    #[test]
    fn distributions_are_what_their_names_say() {
        assert!(counts(KeyDistribution::RoundRobin).values().all(|&count| count == 1000));
        assert!(counts(KeyDistribution::Uniform).values().all(|&count| (800..1200).contains(&count)));
        let zipf: Vec<u64> = counts(KeyDistribution::Zipf).into_values().collect();
        // Of a density of 1/x between 1 and 101: ln 2 / ln 101 for the first, ln 1.1 / ln 101 for the tenth.
        assert!((14_500..15_600).contains(&zipf[0]), "{zipf:?}");
        assert!((1_850..2_300).contains(&zipf[9]), "{zipf:?}");
    }

    #[test]
    fn a_short_key_holds_the_number_and_a_long_one_ends_with_it() {
        let keys = Keys { bytes: 7, count: 10_000, distribution: KeyDistribution::RoundRobin };
        let mut short = [0; 7];
        keys.stamp(&mut short, 0, 1, 0, 9_999);
        assert_eq!(short, [0, 0, 0, 0, 0, 0x27, 0x0f]);
        let mut long = [9; 10];
        keys.stamp(&mut long, 0, 1, 0, 10_001);
        assert_eq!(long, [9, 9, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((Keys::count_max(1), Keys::count_max(8)), (256, u64::MAX));
    }
}
