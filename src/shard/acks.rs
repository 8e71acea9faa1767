//! Who waits for which position of a log.
//!
//! The way back of a write is one look-up: the log is durable up to here, who waited for that?

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use crate::model::Position;

/// Waiters of one log, by the position they wait for.
#[derive(Debug)]
pub struct Acks<W> {
    /// Nearly all: what is appended last waits for the greatest position.
    waiting: VecDeque<(Position, W)>,
    /// Retries of batches in flight, which wait for an older one. Apart, because a peer decides how many they are
    /// and how far behind: each would move all that follow it in the queue. The number keeps equals apart, and in
    /// order.
    behind: BTreeMap<(Position, u64), W>,
    pushed_behind: u64,
}

impl<W> Default for Acks<W> {
    fn default() -> Self {
        Acks { waiting: VecDeque::new(), behind: BTreeMap::new(), pushed_behind: 0 }
    }
}

impl<W> Acks<W> {
    pub fn len(&self) -> usize {
        self.waiting.len() + self.behind.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.behind.is_empty()
    }

    /// `waiter` waits until the log is durable up to `position`.
    pub fn push(&mut self, position: Position, waiter: W) {
        if self.waiting.back().is_some_and(|(last, _)| *last > position) {
            self.behind.insert((position, self.pushed_behind), waiter);
            self.pushed_behind += 1;
        } else {
            self.waiting.push_back((position, waiter));
        }
    }

    /// The next waiter whose position is durable. Of two that wait for the same, a retry comes last.
    pub fn pop(&mut self, durable: Position) -> Option<W> {
        let first = self.waiting.front().map(|(position, _)| *position);
        if let Some(retry) = self.behind.first_entry()
            && first.is_none_or(|first| first > retry.key().0)
        {
            return (retry.key().0 <= durable).then(|| retry.remove());
        }
        if first? > durable {
            return None;
        }
        self.waiting.pop_front().map(|(_, waiter)| waiter)
    }

    /// The log failed: nobody will be told that anything is safe.
    pub fn fail_all(&mut self) -> impl Iterator<Item = W> + '_ {
        let behind = mem::take(&mut self.behind).into_values();
        self.waiting.drain(..).map(|(_, waiter)| waiter).chain(behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_released_before_its_position_is_durable() {
        let mut acks = Acks::default();
        let pushed = [(10, 'a'), (20, 'b'), (10, 'c'), (30, 'd'), (15, 'e'), (5, 'f'), (10, 'g'), (20, 'h')];
        for (position, who) in pushed {
            acks.push(Position(position), who);
        }
        assert_eq!(acks.len(), pushed.len());
        let release = |acks: &mut Acks<char>, durable| {
            std::iter::from_fn(|| acks.pop(Position(durable))).collect::<String>()
        };
        assert_eq!(release(&mut acks, 4), "");
        assert_eq!(release(&mut acks, 9), "f");
        assert_eq!(release(&mut acks, 10), "acg");
        assert_eq!(release(&mut acks, 19), "e");
        acks.push(Position(15), 'i');
        acks.push(Position(29), 'j');
        assert_eq!(release(&mut acks, 15), "i");
        assert_eq!(acks.fail_all().collect::<String>(), "bdhj");
        assert!(acks.is_empty());
    }

    #[test]
    fn what_is_pushed_when_only_retries_wait_comes_in_its_place() {
        let mut acks = Acks::default();
        for (position, who) in [(20, 'a'), (10, 'b'), (15, 'c')] {
            acks.push(Position(position), who);
        }
        assert_eq!(acks.pop(Position(10)), Some('b'));
        acks.push(Position(20), 'd');
        acks.push(Position(12), 'e');
        let rest: String = std::iter::from_fn(|| acks.pop(Position(20))).collect();
        assert_eq!(rest, "ecad");
    }
}
