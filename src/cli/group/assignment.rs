//! What a consumer was assigned, as its group's leader wrote it down.
//!
//! ```text
//!   version i16, topic count i32, topics { length i16, name, partition count i32, partitions i32 ... } ...
//! ```
//!
//! Big-endian; more may follow. The layout is the clients' own (`ConsumerProtocolAssignment`): the broker passes it on.

/// Topics with their partitions. `None`: these are not the words of a consumer.
pub fn decode(bytes: &[u8]) -> Option<Vec<(String, Vec<i32>)>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let rest = &mut &bytes[..];
    let _version = take::<2>(rest)?;
    let mut topics = Vec::new();
    for _ in 0..count(take(rest)?)? {
        let length = usize::try_from(i16::from_be_bytes(take(rest)?)).ok()?;
        let (name, after) = rest.split_at_checked(length)?;
        *rest = after;
        let mut partitions = Vec::new();
        for _ in 0..count(take(rest)?)? {
            partitions.push(i32::from_be_bytes(take(rest)?));
        }
        topics.push((str::from_utf8(name).ok()?.to_owned(), partitions));
    }
    Some(topics)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

fn count(bytes: [u8; 4]) -> Option<u32> {
    u32::try_from(i32::from_be_bytes(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_and_what_is_none() {
        let mut bytes = vec![0, 1, 0, 0, 0, 2];
        bytes.extend_from_slice(&[0, 1, b'a', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3]);
        bytes.extend_from_slice(&[0, 2, b'b', b'c', 0, 0, 0, 0]);
        let topics = vec![("a".to_owned(), vec![0, 3]), ("bc".to_owned(), vec![])];
        assert_eq!(decode(&bytes), Some(topics.clone()));
        for end in 1..bytes.len() {
            assert_eq!(decode(&bytes[..end]), None, "cut off at {end}");
        }
        bytes.extend_from_slice(&[0xff; 4]);
        assert_eq!(decode(&bytes), Some(topics), "user data follows");
        assert_eq!(decode(&[]), Some(vec![]));
        assert_eq!(decode(&[0, 0, 0xff, 0xff, 0xff, 0xff]), None, "a negative count");
    }
}
