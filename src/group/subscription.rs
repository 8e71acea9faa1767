//! Which topics a member of type `consumer` reads, as it says in its metadata.
//!
//! ```text
//!   version i16, topic count i32, topics { length i16, name } ...   big-endian; more follows
//! ```
//!
//! The layout is the clients' own (`ConsumerProtocolSubscription`); the broker does not need it to
//! rebalance, only to know whose offsets are in use.

/// Whether the subscription contains the topic. What is not understood may contain everything.
pub fn may_contain(metadata: &[u8], topic: &str) -> bool {
    contains(metadata, topic).unwrap_or(true)
}

fn contains(metadata: &[u8], topic: &str) -> Option<bool> {
    let (_version, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    for _ in 0..u32::try_from(i32::from_be_bytes(*count)).ok()? {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let len = usize::try_from(i16::from_be_bytes(*len)).ok()?;
        let (name, after) = after.split_at_checked(len)?;
        if name == topic.as_bytes() {
            return Some(true);
        }
        rest = after;
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_nonsense_may_be_anything() {
        let mut said = vec![0, 1, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c'];
        said.extend_from_slice(&[0xff; 4]);
        assert!(may_contain(&said, "a") && may_contain(&said, "bc") && !may_contain(&said, "b"));
        for end in 0..12 {
            assert!(may_contain(&said[..end], "z"), "cut off at {end}");
        }
        assert!(may_contain(&[0, 1, 0xff, 0xff, 0xff, 0xff], "a"), "a negative count");
    }
}
