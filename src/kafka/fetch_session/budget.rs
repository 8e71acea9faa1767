//! What the fetch sessions of a shard take together: each pays for what it remembers, and gives it back when it
//! ends.

use std::cell::Cell;
use std::rc::Rc;

/// The budget of a shard's sessions.
pub struct FetchSessions {
    budget: Rc<Budget>,
    /// Sessions that there ever were: they are numbered.
    opened: u32,
    /// Consumers that got none, for want of room.
    pub refused: u64,
}

struct Budget {
    bytes_max: usize,
    bytes: Cell<usize>,
    count: Cell<usize>,
}

impl FetchSessions {
    pub fn new(bytes_max: usize) -> FetchSessions {
        let budget = Budget { bytes_max, bytes: Cell::new(0), count: Cell::new(0) };
        FetchSessions { budget: Rc::new(budget), opened: 0, refused: 0 }
    }

    /// Sessions that there are.
    pub fn count(&self) -> usize {
        self.budget.count.get()
    }

    /// What they take together.
    pub fn bytes(&self) -> usize {
        self.budget.bytes.get()
    }

    /// The number of a further session, and its share, which is nothing yet.
    pub(super) fn open(&mut self) -> (i32, Lease) {
        self.opened = self.opened % (i32::MAX as u32) + 1;
        self.budget.count.set(self.count() + 1);
        (self.opened as i32, Lease { budget: self.budget.clone(), bytes: 0 })
    }
}

/// A session's share of the budget, given back when it ends.
pub(super) struct Lease {
    budget: Rc<Budget>,
    bytes: usize,
}

impl Lease {
    /// Have so many bytes. False when there is no room, and nothing has changed.
    pub fn resize(&mut self, bytes: usize) -> bool {
        let total = self.budget.bytes.get() - self.bytes + bytes;
        // Less is always possible.
        if total > self.budget.bytes_max && bytes > self.bytes {
            return false;
        }
        self.budget.bytes.set(total);
        self.bytes = bytes;
        true
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.bytes.set(self.budget.bytes.get() - self.bytes);
        self.budget.count.set(self.budget.count.get() - 1);
    }
}
