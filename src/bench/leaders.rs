//! Who leads which partitions, and which of them each connection of the load has: a connection goes to
//! one leader, and only with what that one leads.
//!
//! Read once, before the load. A leader that moves while it runs refuses what it is sent, and that is an
//! error of the run.

use std::net::SocketAddr;

use super::driver::{Control, Driver, End};
use super::error::BenchError;
use super::topics::Topics;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaders {
    /// Each once.
    addresses: Vec<SocketAddr>,
    /// Index of its leader's address, by counted partition.
    of: Vec<usize>,
}

/// What one connection has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Of the leader of its partitions.
    pub address: SocketAddr,
    /// Index in the thread's list, and number.
    pub partitions: Vec<(usize, i32)>,
}

impl Leaders {
    /// `led_at`: the address of its leader, by counted partition.
    pub fn new(led_at: &[SocketAddr]) -> Leaders {
        let mut addresses = led_at.to_vec();
        addresses.sort();
        addresses.dedup();
        let index = |address| addresses.binary_search(address).expect("it is one of these");
        let of = led_at.iter().map(index).collect();
        Leaders { addresses, of }
    }

    /// One that leads everything.
    #[cfg(test)]
    pub fn one(address: SocketAddr, topics: &Topics) -> Leaders {
        Leaders { addresses: vec![address], of: vec![0; topics.total() as usize] }
    }

    pub fn count(&self) -> usize {
        self.addresses.len()
    }

    /// One of them, for what any of them answers.
    pub fn any(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Leaders of the partitions of one thread, which has every `threads`th.
    pub fn count_of_thread(&self, thread: usize, threads: usize) -> usize {
        let mut led: Vec<usize> = self.of.iter().skip(thread).step_by(threads).copied().collect();
        led.sort_unstable();
        led.dedup();
        led.len()
    }

    /// Whether each load thread has a connection to every leader of its partitions, when it has every
    /// `threads`th of both. `option`: how its user says how many `connections` there are.
    ///
    /// # Errors
    /// There are too few: in words for the user.
    pub fn check(&self, threads: usize, connections: usize, option: &'static str) -> Result<(), BenchError> {
        // Thread `t` gets its `n`th connection when there are `threads * (n - 1) + t + 1`.
        let needed = |thread| threads * (self.count_of_thread(thread, threads) - 1) + thread + 1;
        match (0..threads).map(needed).max() {
            Some(needed) if needed > connections => Err(BenchError::TooFewConnections {
                leaders: self.count(),
                option,
                given: connections,
                needed,
            }),
            _ => Ok(()),
        }
    }

    /// The parts of so many connections, which together have `partitions`: each leader has at least one,
    /// and as many more as it has more partitions. Where it has fewer partitions than connections, these
    /// share them.
    pub fn deal(&self, connections: usize, partitions: &[i32]) -> Vec<Part> {
        let mut led = vec![Vec::new(); self.addresses.len()];
        for (local, &partition) in partitions.iter().enumerate() {
            led[self.of[partition as usize]].push((local, partition));
        }
        let of_each: Vec<usize> = led.iter().map(Vec::len).collect();
        let leaders = leaders_of(connections, &of_each);
        let mut peers = vec![0; led.len()];
        leaders.iter().for_each(|&leader| peers[leader] += 1);
        let mut dealt: Vec<usize> = vec![0; led.len()];
        let part = |leader: usize| {
            let (led, nth, peers) = (&led[leader], dealt[leader], peers[leader]);
            dealt[leader] += 1;
            // As many partitions as connections or more: each has one. Fewer: they share.
            let partitions = if led.len() >= peers {
                led.iter().skip(nth).step_by(peers).copied().collect()
            } else {
                vec![led[nth % led.len()]]
            };
            Part { address: self.addresses[leader], partitions }
        };
        leaders.iter().copied().map(part).collect()
    }
}

/// The leader that each connection goes to: in turns while they are equal, so that requests that are due
/// one after the other go to different ones.
fn leaders_of(connections: usize, partitions: &[usize]) -> Vec<usize> {
    let mut of_each = vec![0; partitions.len()];
    let mut leaders = Vec::with_capacity(connections);
    for _ in 0..connections {
        let needs_more = |a: &usize, b: &usize| {
            let (a, b) = (*a, *b);
            // More partitions a connection; without one it is infinitely many. Of equals the first.
            (partitions[a] * of_each[b]).cmp(&(partitions[b] * of_each[a])).then(b.cmp(&a))
        };
        let bare = (0..partitions.len()).find(|&leader| partitions[leader] > 0 && of_each[leader] == 0);
        let next = bare
            .or_else(|| (0..partitions.len()).filter(|&leader| partitions[leader] > 0).max_by(needs_more));
        let next = next.expect("somebody leads something");
        of_each[next] += 1;
        leaders.push(next);
    }
    leaders
}

/// A connection beside the load to each leader.
pub struct Controls {
    /// With the partitions that it leads.
    controls: Vec<(Box<dyn Control>, Vec<i32>)>,
}

impl Controls {
    /// # Errors
    /// A leader cannot be reached, or does not speak the protocol.
    pub fn connect<D: Driver>(driver: &D, leaders: &Leaders) -> Result<Controls, BenchError> {
        let mut controls = Vec::new();
        for (leader, &address) in leaders.addresses.iter().enumerate() {
            let led = (0..).zip(&leaders.of).filter(|(_, of)| **of == leader);
            controls.push((driver.control(address)?, led.map(|(partition, _)| partition).collect()));
        }
        Ok(Controls { controls })
    }

    /// The offset at one end of each partition of all topics, as they are counted.
    ///
    /// # Errors
    /// A broker does not say.
    pub fn ends(&mut self, topics: &Topics, end: End) -> Result<Vec<i64>, BenchError> {
        let mut ends = vec![0; topics.total() as usize];
        for (control, partitions) in &mut self.controls {
            for (&partition, offset) in partitions.iter().zip(control.ends(topics, partitions, end)?) {
                ends[partition as usize] = offset;
            }
        }
        Ok(ends)
    }

    /// [`Control::tick`], of each.
    ///
    /// # Errors
    /// A broker does not take it.
    pub fn tick(&mut self) -> Result<(), BenchError> {
        self.controls.iter_mut().try_for_each(|(control, _)| control.tick())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Ports, by counted partition.
    fn leaders(ports: &[u16]) -> Leaders {
        Leaders::new(&ports.iter().copied().map(address).collect::<Vec<_>>())
    }

    #[test]
    fn connections_follow_the_partitions_and_every_leader_has_one() {
        for (connections, partitions, expected) in [
            (3, &[4][..], &[0, 0, 0][..]),
            (2, &[4, 4], &[0, 1]),
            (4, &[4, 4], &[0, 1, 0, 1]),
            (4, &[6, 2], &[0, 1, 0, 0]),
            (2, &[9, 1], &[0, 1]),
            (4, &[1, 1], &[0, 1, 0, 1]),
            (5, &[2, 0, 3], &[0, 2, 2, 0, 2]),
        ] {
            assert_eq!(leaders_of(connections, partitions), expected, "{connections} for {partitions:?}");
        }
        // No more than there are partitions: then nobody has two of one partition.
        for of_each in [[1, 7], [3, 5], [4, 4]] {
            for connections in 2..=8 {
                let dealt = leaders_of(connections, &of_each);
                for leader in 0..2 {
                    let count = dealt.iter().filter(|other| **other == leader).count();
                    assert!(
                        (1..=of_each[leader]).contains(&count),
                        "{connections} for {of_each:?}: {dealt:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_part_is_of_one_leader_and_all_together_have_every_partition_once() {
        let leaders = leaders(&[2, 1, 2, 2, 1, 2, 2]);
        let own = [0, 1, 3, 4, 6];
        let parts = leaders.deal(3, &own);
        let expected = [(1, vec![(1, 1), (3, 4)]), (2, vec![(0, 0), (4, 6)]), (2, vec![(2, 3)])];
        let found: Vec<_> = parts.iter().map(|part| (part.address.port(), part.partitions.clone())).collect();
        assert_eq!(found, expected);
        // More connections than partitions: they share.
        let of_one = Leaders::one(address(1), &Topics::new("t", 1, 2)).deal(3, &[0, 1]);
        let shared: Vec<_> = of_one.into_iter().map(|part| part.partitions).collect();
        assert_eq!(shared, [[(0, 0)], [(1, 1)], [(0, 0)]]);
    }

    #[test]
    fn every_thread_needs_a_connection_to_each_leader_of_its_partitions() {
        let mixed = leaders(&[1, 1, 2, 2]);
        for (leaders, threads, needed) in [
            (leaders(&[1, 1]), 1, 1),
            (leaders(&[1, 1]), 2, 2),
            (mixed.clone(), 1, 2),
            // Each thread has a partition of each.
            (mixed, 2, 4),
            // Each thread has those of one.
            (leaders(&[1, 2, 1, 2]), 2, 2),
            (leaders(&[1, 2, 1, 3]), 2, 4),
            (leaders(&[1, 2, 3, 2]), 2, 3),
        ] {
            let what = format!("{leaders:?} {threads}");
            leaders.check(threads, needed, "--connections").expect(&what);
            let error = leaders.check(threads, needed - 1, "--connections").expect_err(&what).to_string();
            assert!(error.contains(&format!("give --connections {needed} or more")), "{what}: {error}");
            // What it says is enough is enough.
            for thread in 0..threads {
                let own = (needed - thread).div_ceil(threads);
                assert!(own >= leaders.count_of_thread(thread, threads), "{what}");
            }
        }
    }
}
