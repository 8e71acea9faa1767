//! How much memory the connections of a shard hold, and who may hold more.
//!
//! What counts is what a connection holds beyond constants: its receive buffer, requests that wait,
//! responses that have not left. It is counted per frame and per response, never per record.
//!
//! ```text
//!   0            half                max
//!   | who asks    | who holds less    | nobody but: who holds next to nothing, and the one whose turn
//!   | gets it     | than its share    | it is to finish its frame
//! ```
//!
//! Whoever gets nothing is not read from, and TCP slows it down. A request that has been received is
//! always finished, so memory comes back by itself, but for clients that do not read their responses.

/// Every connection may hold so much, however little there is: clients with small requests are served on.
pub const FREE_BYTES: usize = 16 << 10;

/// The limits of a shard, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct MemoryLimits {
    /// Of one connection. Above the largest request, so that each request can be received.
    pub connection_max: usize,
    /// Of all connections together.
    pub shard_max: usize,
}

/// What the connections of a shard hold together.
#[derive(Debug)]
pub struct Memory {
    limits: MemoryLimits,
    used: usize,
    /// Connections that hold more than what is free.
    holders: usize,
}

impl Memory {
    pub fn new(limits: MemoryLimits) -> Memory {
        Memory { limits, used: 0, holders: 0 }
    }

    pub fn used(&self) -> usize {
        self.used
    }

    pub fn limits(&self) -> MemoryLimits {
        self.limits
    }

    /// A connection holds `after` where it held `before`.
    pub fn change(&mut self, before: usize, after: usize) {
        self.used = self.used - before + after;
        self.holders = self.holders + usize::from(after > FREE_BYTES) - usize::from(before > FREE_BYTES);
    }

    /// There is so little left that it is shared out.
    pub fn is_short(&self) -> bool {
        self.used > self.limits.shard_max / 2
    }

    /// There is nothing left.
    pub fn is_used_up(&self) -> bool {
        self.used >= self.limits.shard_max
    }

    /// What each connection may hold while memory is short.
    fn share(&self) -> usize {
        (self.limits.shard_max / 4 / self.holders.max(1)).max(FREE_BYTES)
    }

    /// Whether a connection that holds `held` may take `more`.
    pub fn admits(&self, held: usize, more: usize) -> bool {
        let (held, used) = (held + more, self.used + more);
        held <= FREE_BYTES
            || used <= self.limits.shard_max / 2
            || (held <= self.share() && used <= self.limits.shard_max)
    }

    /// How many bytes of records a response may have that wants `wanted`, to a connection that holds `held`.
    pub fn response_bytes(&self, held: usize, wanted: usize) -> usize {
        if self.is_used_up() {
            wanted.min(FREE_BYTES.saturating_sub(held))
        } else if self.used + wanted <= self.limits.shard_max / 2 {
            wanted
        } else {
            wanted.min(self.share())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;
    const LIMITS: MemoryLimits = MemoryLimits { connection_max: 600 * KIB, shard_max: 1000 * KIB };

    #[test]
    fn it_is_shared_out_when_it_runs_short() {
        let mut memory = Memory::new(LIMITS);
        assert!(memory.admits(0, 500 * KIB), "half of it goes to whoever asks");
        assert!(!memory.admits(0, 501 * KIB));
        memory.change(0, 490 * KIB);
        assert!(!memory.is_short() && memory.admits(490 * KIB, 10 * KIB));
        memory.change(490 * KIB, 501 * KIB);
        assert!(memory.is_short() && !memory.is_used_up());
        assert!(!memory.admits(501 * KIB, 1), "who holds most gets no more");
        assert!(!memory.admits(501 * KIB, 0), "and is not read from");
        assert!(memory.admits(0, 250 * KIB), "a quarter is shared by those who hold something");
        assert!(!memory.admits(0, 251 * KIB));
        memory.change(0, 250 * KIB);
        memory.change(0, 125 * KIB);
        assert!(memory.admits(0, 83 * KIB) && !memory.admits(0, 84 * KIB));
        memory.change(0, 83 * KIB);
        memory.change(0, 41 * KIB);
        assert!(memory.is_used_up());
        assert!(memory.admits(0, FREE_BYTES), "small requests are always received");
        assert!(!memory.admits(0, FREE_BYTES + 1));
        for held in [501, 250, 125, 83, 41] {
            memory.change(held * KIB, 0);
        }
        assert_eq!((memory.used(), memory.holders), (0, 0));
    }

    #[test]
    fn responses_become_small_and_then_wait() {
        let mut memory = Memory::new(LIMITS);
        assert_eq!(memory.response_bytes(0, 400 * KIB), 400 * KIB);
        memory.change(0, 400 * KIB);
        assert_eq!(memory.response_bytes(0, 100 * KIB), 100 * KIB);
        assert_eq!(memory.response_bytes(0, 400 * KIB), 250 * KIB);
        memory.change(400 * KIB, 1000 * KIB);
        assert_eq!(memory.response_bytes(0, 400 * KIB), FREE_BYTES);
        assert_eq!(memory.response_bytes(FREE_BYTES, 400 * KIB), 0);
    }
}
