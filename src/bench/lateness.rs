//! What of a request's delay is the generator's own, and not the broker's.
//!
//! A request that is sent late has waited for the generator, or for room on its connection, which the broker
//! gives by answering. But room is short behind the generator's own lateness, too: after it stood still, the
//! first few requests of all that were due meanwhile fill the connection, and the others wait for the answers
//! to these. So a request that waited for room inherits the lateness of the one before it, until one finds
//! room when it is due; and so it does when an answer was there and nobody looked.

use super::stats::STALL_NS;

/// Of one connection.
#[derive(Debug, Default)]
pub struct Lateness {
    /// Since when there is room for a request.
    room_since_ns: u64,
    /// What the next request inherits, if it has to wait for room.
    inherited_ns: u64,
}

impl Lateness {
    /// An answer made room where there was none. It may have been there since anybody looked last, `gap_ns` ago
    /// without the time in which records were packed and checked.
    #[inline]
    pub fn on_room(&mut self, now_ns: u64, gap_ns: u64) {
        self.room_since_ns = now_ns;
        // Less is what a turn takes, and would add up over the thousands of turns of a backlog.
        if gap_ns > STALL_NS {
            self.inherited_ns += gap_ns;
        }
    }

    /// The connection was made again: what waited until now was not kept by the generator.
    pub fn on_connected(&mut self, now_ns: u64) {
        *self = Lateness { room_since_ns: now_ns, inherited_ns: 0 };
    }

    /// The generator's part of the delay of a request that is sent now and could have been at `ready_ns`.
    #[inline]
    pub fn of(&mut self, now_ns: u64, ready_ns: u64) -> u64 {
        let delay_ns = now_ns.saturating_sub(ready_ns);
        if ready_ns >= self.room_since_ns {
            self.inherited_ns = delay_ns;
            return delay_ns;
        }
        // As a backlog gets shorter, there is less of it that could be anybody's.
        self.inherited_ns = self.inherited_ns.min(delay_ns);
        (now_ns.saturating_sub(self.room_since_ns) + self.inherited_ns).min(delay_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    /// Between a request and its answer.
    const ROUND_TRIP: u64 = MS / 10;

    /// A connection with one request in flight and one due every millisecond. The generator does not look from
    /// `dozes.0` to `dozes.1`, and the broker does not answer from `stands.0` to `stands.1`; else each takes
    /// no time, and a round trip. The lateness and the delay of every request.
    fn play(dozes: (u64, u64), stands: (u64, u64)) -> Vec<(u64, u64)> {
        let awake = |at: u64| if (dozes.0..dozes.1).contains(&at) { dozes.1 } else { at };
        let (mut lateness, mut now, mut found) = (Lateness::default(), 0, Vec::new());
        for request in 0..400 {
            let due = request * MS;
            now = awake(now.max(due));
            found.push((lateness.of(now, due), now - due));
            let answered = now + ROUND_TRIP;
            let answered = if (stands.0..stands.1).contains(&answered) { stands.1 } else { answered };
            let taken = awake(answered);
            lateness.on_room(taken, if taken > answered { taken - dozes.0 } else { 0 });
            now = taken;
        }
        found
    }

    #[test]
    fn all_that_waits_behind_a_dozing_generator_is_late_by_its_doing() {
        // Nothing is in flight at its begin, or an answer comes in it. Some ninety are due meanwhile, and ten
        // while these are sent one after the other.
        for (from, late) in [(100 * MS + MS / 2, 100), (100 * MS + ROUND_TRIP / 2, 99)] {
            let found = play((from, from + 90 * MS), (0, 0));
            assert_eq!(found.iter().filter(|(_, delay)| *delay > 0).count(), late, "{found:?}");
            assert!(found.iter().all(|(own, delay)| own == delay), "{found:?}");
        }
    }

    #[test]
    fn what_waits_for_the_broker_is_the_brokers() {
        let found = play((0, 0), (100 * MS, 190 * MS));
        assert_eq!(found.iter().filter(|(_, delay)| *delay > 0).count(), 99, "{found:?}");
        assert!(found.iter().all(|(own, _)| *own == 0), "{found:?}");
    }

    #[test]
    fn behind_a_broker_the_generator_is_late_by_no_more_than_it_dozed() {
        // The broker answers while the generator dozes its last 20 ms.
        let found = play((170 * MS, 190 * MS), (100 * MS, 180 * MS));
        let own = found.iter().map(|(own, _)| *own).max();
        assert_eq!(own, Some(20 * MS), "{found:?}");
        assert_eq!(found.last(), Some(&(0, 0)), "and only until the backlog is gone");
    }

    #[test]
    fn a_connection_that_is_made_again_begins_anew() {
        let mut lateness = Lateness::default();
        assert_eq!(lateness.of(50 * MS, 10 * MS), 40 * MS);
        lateness.on_connected(60 * MS);
        assert_eq!(lateness.of(61 * MS, 20 * MS), MS);
    }
}
