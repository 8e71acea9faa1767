//! The topics of a run, and how their partitions are counted through.
//!
//! The engine knows partitions by one number: those of the first topic, then those of the second. The
//! names of several topics are as long as each other, so that a request encoded for one can be
//! patched for another.

use super::driver::Malformed;

/// At least one topic, each with as many partitions as the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// Sorted, and of one length.
    names: Vec<String>,
    partitions: u32,
}

impl Default for Topics {
    fn default() -> Topics {
        Topics::new("", 1, 1)
    }
}

impl Topics {
    /// One is called `name`, several `name-0`, `name-1`, ..., with leading zeros.
    pub fn new(name: &str, count: u32, partitions: u32) -> Topics {
        assert!(count > 0 && partitions > 0);
        let digits = (count - 1).to_string().len();
        let names = match count {
            1 => vec![name.to_owned()],
            _ => (0..count).map(|index| format!("{name}-{index:0digits$}")).collect(),
        };
        Topics { names, partitions }
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Of each topic.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// Of all topics together.
    pub fn total(&self) -> u32 {
        self.names.len() as u32 * self.partitions
    }

    /// Index of the topic and number in it of the partition that is counted as `partition`.
    #[inline]
    pub fn place(&self, partition: i32) -> (usize, i32) {
        if self.names.len() == 1 {
            return (0, partition);
        }
        let partitions = self.partitions as i32;
        ((partition / partitions) as usize, partition % partitions)
    }

    /// How the partition of a topic is counted, as a broker names them.
    #[inline]
    pub fn count(&self, name: &[u8], partition: i32) -> Result<i32, Malformed> {
        if self.names.len() == 1 {
            return Ok(partition);
        }
        let index = self
            .names
            .binary_search_by(|known| known.as_bytes().cmp(name))
            .map_err(|_| Malformed("a topic that was not asked for"))?;
        if !(0..self.partitions as i32).contains(&partition) {
            return Err(Malformed("a partition that was not asked for"));
        }
        Ok(index as i32 * self.partitions as i32 + partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_counted_through_and_found_again() {
        let topics = Topics::new("t", 11, 3);
        assert_eq!((topics.names()[0].as_str(), topics.names()[10].as_str()), ("t-00", "t-10"));
        assert_eq!(topics.total(), 33);
        for partition in 0..33 {
            let (topic, number) = topics.place(partition);
            assert_eq!(topics.count(topics.names()[topic].as_bytes(), number), Ok(partition));
        }
        assert!(topics.count(b"t-11", 0).is_err() && topics.count(b"t-01", 3).is_err());
        assert!(topics.count(b"t-01", -1).is_err());
        let one = Topics::new("t", 1, 3);
        assert_eq!((one.names()[0].as_str(), one.place(2)), ("t", (0, 2)));
    }
}
