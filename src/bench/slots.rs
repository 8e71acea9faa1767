//! The requests of one connection, encoded once and sent again and again.
//!
//! A ring of requests of one size, side by side in memory: the next free one is stamped (id,
//! sequence, checksums) and whatever is stamped goes to the socket in one call, without a copy.
//! A slot is free again when the socket has taken its bytes.

use super::driver::{Driver, Stamp};
use super::payload::Random;

pub struct Slots {
    bytes: Vec<u8>,
    request_bytes: usize,
    /// Checksums of the records' random bodies, slot by slot.
    body_crcs: Vec<u32>,
    count: u64,
    /// Requests ever stamped.
    stamped: u64,
    /// Bytes ever taken by the socket.
    sent_bytes: u64,
}

impl Slots {
    /// `count` requests of `producer`, each with random bytes of its own.
    pub fn new<D: Driver>(driver: &D, producer: u32, count: usize, random: &mut Random) -> Slots {
        assert!(count > 0);
        let (mut bytes, mut body_crcs) = (Vec::new(), Vec::new());
        driver.encode_request(producer, random, &mut bytes, &mut body_crcs);
        let request_bytes = bytes.len();
        for _ in 1..count {
            driver.encode_request(producer, random, &mut bytes, &mut body_crcs);
        }
        assert_eq!(bytes.len(), request_bytes * count, "requests are of one size");
        Slots { bytes, request_bytes, body_crcs, count: count as u64, stamped: 0, sent_bytes: 0 }
    }

    /// Whether a slot is free.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.stamped - self.sent_bytes / (self.request_bytes as u64) < self.count
    }

    /// Make the next slot a request to be sent.
    #[inline]
    pub fn stamp<D: Driver>(&mut self, driver: &D, stamp: &Stamp) {
        assert!(self.has_room());
        let slot = (self.stamped % self.count) as usize;
        let records = self.body_crcs.len() / self.count as usize;
        let request = &mut self.bytes[slot * self.request_bytes..][..self.request_bytes];
        driver.stamp_request(request, &self.body_crcs[slot * records..][..records], stamp);
        self.stamped += 1;
    }

    /// What the socket has not taken, in order. Both parts are empty when that is nothing.
    #[inline]
    pub fn unsent(&self) -> [&[u8]; 2] {
        let ring = self.bytes.len();
        let unsent = (self.stamped * self.request_bytes as u64 - self.sent_bytes) as usize;
        let start = (self.sent_bytes % ring as u64) as usize;
        let first = unsent.min(ring - start);
        [&self.bytes[start..start + first], &self.bytes[..unsent - first]]
    }

    /// The last `requests` are to be sent again, as they are.
    ///
    /// Their bytes are there still: a slot is stamped anew only when its request is answered, because
    /// a connection has no more requests in flight than slots.
    pub fn rewind(&mut self, requests: u64) {
        assert!(requests <= self.count.min(self.stamped));
        self.sent_bytes = (self.stamped - requests) * self.request_bytes as u64;
    }

    /// The socket took the next `count` bytes.
    #[inline]
    pub fn sent(&mut self, count: usize) {
        self.sent_bytes += count as u64;
        assert!(self.sent_bytes <= self.stamped * self.request_bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::driver::{Ack, FetchFrom, Malformed};

    /// A request is its correlation id, three times.
    struct Toy;

    impl Driver for Toy {
        fn run(&self) -> u64 {
            0
        }
        fn records(&self) -> u32 {
            1
        }
        fn encode_request(&self, _: u32, _: &mut Random, out: &mut Vec<u8>, crcs: &mut Vec<u32>) {
            out.extend_from_slice(&[0; 3]);
            crcs.push(0);
        }
        fn stamp_request(&self, request: &mut [u8], _: &[u32], stamp: &Stamp) {
            request.fill(stamp.correlation as u8);
        }
        fn parse_ack(&self, _: &[u8]) -> Result<Ack, Malformed> {
            unreachable!("nothing is answered")
        }
        fn encode_fetch(&self, _: u32, _: &[FetchFrom], _: bool, _: &mut Vec<u8>) {}
        fn parse_fetch(
            &self,
            _: &[u8],
            _: u32,
            _: &mut dyn FnMut(i32, i64, &[u8]),
            _: &mut dyn FnMut(i32, i16),
        ) -> Result<(), Malformed> {
            Ok(())
        }
    }

    #[test]
    fn what_is_not_answered_can_be_sent_again() {
        let mut slots = Slots::new(&Toy, 0, 4, &mut Random(0));
        for correlation in 0..6 {
            slots.stamp(&Toy, &Stamp { correlation, partition: 0, sequence: 0, intended_ns: 0 });
            slots.sent(3);
        }
        slots.rewind(3);
        assert_eq!(slots.unsent().concat(), [3, 3, 3, 4, 4, 4, 5, 5, 5]);
    }

    #[test]
    fn what_is_stamped_comes_out_once_and_in_order_whatever_the_socket_takes() {
        let mut slots = Slots::new(&Toy, 0, 4, &mut Random(0));
        let (mut stamped, mut out, mut random) = (0, Vec::new(), Random(9));
        while out.len() < 300 {
            while slots.has_room() && !random.next().is_multiple_of(3) {
                let stamp = Stamp { correlation: stamped, partition: 0, sequence: 0, intended_ns: 0 };
                slots.stamp(&Toy, &stamp);
                stamped += 1;
            }
            let unsent = slots.unsent().concat();
            let taken = random.next() as usize % (unsent.len() + 1);
            out.extend_from_slice(&unsent[..taken]);
            slots.sent(taken);
        }
        let expected: Vec<u8> = (0..=u8::MAX).flat_map(|id| [id; 3]).take(out.len()).collect();
        assert_eq!(out, expected);
    }
}
