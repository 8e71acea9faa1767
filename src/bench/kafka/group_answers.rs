//! What a coordinator answers to a member: read to its end, not judged. Where an answer has an error code, that is all
//! of it that is read.

use super::wire::Reader;
use crate::bench::driver::Malformed;

/// A member's id, and what it wants to be assigned, as they are on the wire.
pub type Wish = (Vec<u8>, Vec<u8>);

/// A member's place in a generation.
pub struct Joining {
    pub generation: i32,
    pub id: String,
    /// Of all members, for the leader; the others get none.
    pub wishes: Vec<Wish>,
}

/// What was committed for a partition.
pub struct Committed<'a> {
    pub topic: &'a [u8],
    pub partition: i32,
    pub offset: i64,
    pub code: i16,
}

/// HOST:PORT of a group's coordinator.
pub fn coordinator(answer: &[u8]) -> Result<Result<String, i16>, Malformed> {
    let mut reader = Reader(answer);
    let code = reader.i16()?;
    if code != 0 {
        return Ok(Err(code));
    }
    let _node = reader.i32()?;
    let host = String::from_utf8_lossy(reader.string()?);
    Ok(Ok(format!("{host}:{}", reader.i32()?)))
}

/// JoinGroup.
pub fn joining(answer: &[u8]) -> Result<Result<Joining, i16>, Malformed> {
    let mut reader = Reader(answer);
    let _throttle_ms = reader.i32()?;
    let code = reader.i16()?;
    if code != 0 {
        return Ok(Err(code));
    }
    let generation = reader.i32()?;
    let _assignor = reader.string()?;
    let _leader = reader.string()?;
    let id = String::from_utf8_lossy(reader.string()?).into_owned();
    let mut wishes = Vec::new();
    for _ in 0..reader.count()? {
        let member = reader.string()?.to_vec();
        wishes.push((member, wished(reader.bytes()?)?.to_vec()));
    }
    Ok(Ok(Joining { generation, id, wishes }))
}

/// The user data of a subscription.
pub fn wished(subscription: &[u8]) -> Result<&[u8], Malformed> {
    let mut reader = Reader(subscription);
    let _version = reader.i16()?;
    for _ in 0..reader.count()? {
        reader.string()?;
    }
    reader.bytes()
}

/// SyncGroup.
pub fn assigned(answer: &[u8]) -> Result<Result<&[u8], i16>, Malformed> {
    let mut reader = Reader(answer);
    let _throttle_ms = reader.i32()?;
    let code = reader.i16()?;
    if code != 0 {
        return Ok(Err(code));
    }
    reader.bytes().map(Ok)
}

/// Heartbeat and LeaveGroup.
pub fn code(answer: &[u8]) -> Result<i16, Malformed> {
    let mut reader = Reader(answer);
    let _throttle_ms = reader.i32()?;
    reader.i16()
}

/// OffsetCommit: of each partition.
pub fn commit_codes(answer: &[u8]) -> Result<Vec<i16>, Malformed> {
    let mut reader = Reader(answer);
    let mut codes = Vec::new();
    for _ in 0..reader.count()? {
        reader.string()?;
        for _ in 0..reader.count()? {
            let _partition = reader.i32()?;
            codes.push(reader.i16()?);
        }
    }
    Ok(codes)
}

/// OffsetFetch.
pub fn committed(answer: &[u8]) -> Result<Vec<Committed<'_>>, Malformed> {
    let mut reader = Reader(answer);
    let mut all = Vec::new();
    for _ in 0..reader.count()? {
        let topic = reader.string()?;
        for _ in 0..reader.count()? {
            let (partition, offset) = (reader.i32()?, reader.i64()?);
            let _metadata = reader.string()?;
            all.push(Committed { topic, partition, offset, code: reader.i16()? });
        }
    }
    Ok(all)
}
