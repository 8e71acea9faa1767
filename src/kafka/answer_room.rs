//! How much one answer may hold where a small request may ask for much.

use crate::kafka::memory::Memory;

/// One answer may have so much, however little there is: what honest questions are answered with.
const ANSWER_BYTES_MIN: usize = 256 << 10;

/// And never more than this: it must fit into a frame.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// Room for an answer that may be far larger than its request: because the names in it stand for much, or
/// are repeated. What does not fit is answered with an error in its place.
#[derive(Clone, Copy, Debug)]
pub struct AnswerRoom {
    max: usize,
    /// What `max` would be on a connection, and in a shard, that hold nothing else.
    most: usize,
    used: usize,
    is_short: bool,
}

impl AnswerRoom {
    /// What an answer may hold on a connection that holds `held` besides.
    pub fn beside(held: usize, memory: &Memory) -> AnswerRoom {
        let most = memory.limits().connection_max.min(ANSWER_BYTES_MAX);
        let max = memory.response_bytes(held, most.saturating_sub(held));
        AnswerRoom { max: max.max(ANSWER_BYTES_MIN), most, used: 0, is_short: false }
    }

    /// For tests of what has this much.
    #[cfg(test)]
    pub fn of(bytes: usize) -> AnswerRoom {
        AnswerRoom { max: bytes, most: bytes, used: 0, is_short: false }
    }

    pub fn used(&self) -> usize {
        self.used
    }

    /// There is as much as `now` says, of which this has used some.
    pub fn adjust(&mut self, now: AnswerRoom) {
        (self.max, self.most) = (now.max, now.most);
    }

    /// Uses so many bytes, if they fit.
    #[must_use]
    pub fn take(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.max.saturating_sub(self.used);
        if fits {
            self.used += bytes;
        } else {
            self.is_short = bytes <= self.most.saturating_sub(self.used);
        }
        fits
    }

    /// What did not fit last will do so once others, or earlier answers, hold less.
    pub fn is_short(&self) -> bool {
        self.is_short
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::memory::MemoryLimits;

    const KIB: usize = 1 << 10;

    #[test]
    fn an_answer_has_what_its_connection_may_hold_and_never_nothing() {
        let limits = MemoryLimits { connection_max: 600 * KIB, shard_max: 2000 * KIB };
        let mut memory = Memory::new(limits);
        let mut room = AnswerRoom::beside(0, &memory);
        assert!(room.take(599 * KIB));
        assert!(!room.take(1 + KIB) && !room.is_short(), "what does not fit is not taken");
        assert!(room.take(KIB) && !room.take(1));
        assert_eq!(room.used(), 600 * KIB);

        let mut room = AnswerRoom::beside(200 * KIB, &memory);
        assert!(!room.take(601 * KIB) && !room.is_short());
        assert!(!room.take(401 * KIB) && room.is_short() && room.take(400 * KIB));
        memory.change(0, 1500 * KIB);
        room.adjust(AnswerRoom::beside(400 * KIB, &memory));
        assert!(!room.take(1), "it has used more than there is now");
        assert!(AnswerRoom::beside(600 * KIB, &memory).take(ANSWER_BYTES_MIN));

        let limits = MemoryLimits { connection_max: 8 << 30, shard_max: 64 << 30 };
        assert!(!AnswerRoom::beside(0, &Memory::new(limits)).take((1 << 30) + 1), "a frame has an end");
    }
}
