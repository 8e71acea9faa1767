//! Who waits for which position of a log.
//!
//! The way back of a write is one look-up: the log is durable up to here, who waited for that?

use std::collections::VecDeque;

use crate::model::Position;

/// Waiters of one log, by the position they wait for.
#[derive(Debug)]
pub struct Acks<W> {
    waiting: VecDeque<(Position, W)>,
}

impl<W> Default for Acks<W> {
    fn default() -> Self {
        Acks { waiting: VecDeque::new() }
    }
}

impl<W> Acks<W> {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// `waiter` waits until the log is durable up to `position`.
    pub fn push(&mut self, position: Position, waiter: W) {
        // Nearly always at the end; a retry of a batch in flight waits for an older position.
        let behind = self.waiting.back().is_some_and(|(last, _)| *last > position);
        let at = if behind {
            self.waiting.partition_point(|(other, _)| *other <= position)
        } else {
            self.waiting.len()
        };
        self.waiting.insert(at, (position, waiter));
    }

    /// The next waiter whose position is durable.
    pub fn pop(&mut self, durable: Position) -> Option<W> {
        if self.waiting.front()?.0 > durable {
            return None;
        }
        self.waiting.pop_front().map(|(_, waiter)| waiter)
    }

    /// The log failed: nobody will be told that anything is safe.
    pub fn fail_all(&mut self) -> impl Iterator<Item = W> + '_ {
        self.waiting.drain(..).map(|(_, waiter)| waiter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_released_before_its_position_is_durable() {
        let mut acks = Acks::default();
        for (position, who) in [(10, 'a'), (20, 'b'), (10, 'c'), (30, 'd')] {
            acks.push(Position(position), who);
        }
        let release = |acks: &mut Acks<char>, durable| {
            std::iter::from_fn(|| acks.pop(Position(durable))).collect::<String>()
        };
        assert_eq!(release(&mut acks, 9), "");
        assert_eq!(release(&mut acks, 10), "ac");
        assert_eq!(release(&mut acks, 25), "b");
        assert_eq!(acks.fail_all().collect::<String>(), "d");
        assert!(acks.is_empty());
    }
}
