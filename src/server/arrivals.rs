//! When requests that wait in a connection's input had come. One that is put off is timed from there, whenever
//! it is taken up: what it waited is what its client waited.

use std::collections::VecDeque;

use crate::kafka::protocol::frame::{Frame, first_request};
use crate::model::Nanos;

/// Positions count from the connection's first byte.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// The requests up to here were taken up; the input begins here.
    taken: u64,
    /// The requests up to here are whole.
    whole: u64,
    /// Up to where requests were whole, and since when: one for all that came in a turn. Ascending.
    ends: VecDeque<(u64, Nanos)>,
}

impl Arrivals {
    /// What lies in `input` after as many requests were taken up as could be had come by `now`.
    pub fn on_waiting(&mut self, input: &[u8], request_bytes_max: usize, now: Nanos) {
        let before = self.whole.max(self.taken);
        let mut at = (before - self.taken) as usize;
        // What is no request closes the connection when it is to be taken up.
        while let Ok(Frame::Complete(range)) = first_request(&input[at..], request_bytes_max) {
            at += range.end;
        }
        self.whole = self.taken + at as u64;
        if self.whole > before {
            self.ends.push_back((self.whole, now));
        }
    }

    /// When the request had come that ends so far into the input; `None` if it did not wait. They are asked for
    /// in their order.
    pub fn time_of(&mut self, end: usize) -> Option<Nanos> {
        let end = self.taken + end as u64;
        while self.ends.front().is_some_and(|(upto, _)| *upto < end) {
            self.ends.pop_front();
        }
        self.ends.front().map(|(_, since)| *since)
    }

    /// The input begins so much later now.
    pub fn on_taken(&mut self, bytes: usize) {
        self.taken += bytes as u64;
        if self.taken >= self.whole && self.ends.capacity() > 0 {
            self.ends = VecDeque::new();
        }
    }

    pub fn held_bytes(&self) -> usize {
        self.ends.capacity() * size_of::<(u64, Nanos)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1000;

    /// The frame of a request of so many bytes.
    fn frame(bytes: u8) -> Vec<u8> {
        [&[0, 0, 0, bytes][..], &vec![7; usize::from(bytes)]].concat()
    }

    #[test]
    fn each_request_has_the_time_of_its_last_byte() {
        let mut arrivals = Arrivals::default();
        let stream = [frame(20), frame(30), frame(40), frame(50)].concat();
        let ends = [24, 58, 102, 156];
        // Two whole ones and a half, nothing more, the rest of that, and another.
        for (upto, at) in [(80, 1), (101, 2), (102, 3), (156, 4)] {
            arrivals.on_waiting(&stream[..upto], MAX, Nanos(at));
        }
        assert_eq!(arrivals.time_of(ends[0]), Some(Nanos(1)));
        // It was not taken up, and is offered again.
        assert_eq!(arrivals.time_of(ends[0]), Some(Nanos(1)));
        assert_eq!(arrivals.time_of(ends[1]), Some(Nanos(1)));
        arrivals.on_taken(ends[1]);
        assert_eq!(arrivals.time_of(ends[2] - ends[1]), Some(Nanos(3)));
        assert_eq!(arrivals.time_of(ends[3] - ends[1]), Some(Nanos(4)));
        assert!(arrivals.held_bytes() > 0);
        arrivals.on_taken(ends[3] - ends[1]);
        assert_eq!(arrivals.held_bytes(), 0, "nothing waits");
    }

    #[test]
    fn what_is_taken_up_as_it_comes_leaves_nothing() {
        let mut arrivals = Arrivals::default();
        let (first, second) = (frame(20), frame(30));
        assert_eq!(arrivals.time_of(first.len()), None);
        arrivals.on_taken(first.len());
        // A part of the next one stays.
        arrivals.on_waiting(&second[..10], MAX, Nanos(1));
        assert_eq!(arrivals.time_of(second.len()), None, "it comes whole now");
        arrivals.on_taken(second.len());
        assert_eq!(arrivals.held_bytes(), 0);
        arrivals.on_waiting(&first, MAX, Nanos(2));
        assert_eq!(arrivals.time_of(first.len()), Some(Nanos(2)));
    }
}
