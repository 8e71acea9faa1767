//! The requests of one connection, encoded once and sent again and again.
//!
//! A ring of requests of one size, side by side in memory: the next free one is stamped (id,
//! sequence, checksums) and whatever is stamped goes to the socket in one call, without a copy.
//! A slot is free again when the socket has taken its bytes.
//!
//! Requests that are compressed, or hold fewer records than they could, are shorter than their slot:
//! these go to the socket two at a time.

use super::driver::{Driver, Packer, Stamp};
use super::payload::Random;

pub struct Slots {
    bytes: Vec<u8>,
    request_bytes: usize,
    /// Checksums of the records' random bodies, slot by slot.
    body_crcs: Vec<u32>,
    count: u64,
    /// Bytes to be sent from each slot, where they may be fewer than `request_bytes`.
    lens: Option<Vec<usize>>,
    packed: Option<Packed>,
    /// Requests ever stamped.
    stamped: u64,
    /// Requests ever taken by the socket as a whole, and the bytes taken of the next one.
    sent: u64,
    part: usize,
}

/// What is sent instead of the stamped requests, slot by slot.
struct Packed {
    packer: Box<dyn Packer>,
    slots: Vec<Vec<u8>>,
}

/// Sizes of a request: as it was stamped, and as it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub plain_bytes: usize,
    pub sent_bytes: usize,
}

impl Slots {
    /// `count` requests of `producer`, each with random bytes of its own. `partial`: they may be
    /// stamped with fewer records than they have room for.
    pub fn new<D: Driver>(
        driver: &D,
        producer: u32,
        count: usize,
        partial: bool,
        random: &mut Random,
    ) -> Slots {
        assert!(count > 0);
        let (mut bytes, mut body_crcs) = (Vec::new(), Vec::new());
        driver.encode_request(producer, random, &mut bytes, &mut body_crcs);
        let request_bytes = bytes.len();
        for _ in 1..count {
            driver.encode_request(producer, random, &mut bytes, &mut body_crcs);
        }
        assert_eq!(bytes.len(), request_bytes * count, "requests are of one size");
        let packed = driver.packer().map(|packer| Packed { packer, slots: vec![Vec::new(); count] });
        let lens = (partial || packed.is_some()).then(|| vec![0; count]);
        let count = count as u64;
        Slots { bytes, request_bytes, body_crcs, count, lens, packed, stamped: 0, sent: 0, part: 0 }
    }

    /// Of a request with all its records, before it is packed.
    pub fn request_bytes(&self) -> usize {
        self.request_bytes
    }

    /// Whether stamping takes the time to compress.
    pub fn packs(&self) -> bool {
        self.packed.is_some()
    }

    /// Requests that the socket has taken as a whole.
    #[inline]
    pub fn requests_sent(&self) -> u64 {
        self.sent
    }

    /// Whether a slot is free.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.stamped - self.sent < self.count
    }

    /// Make the next slot a request to be sent.
    #[inline]
    pub fn stamp<D: Driver>(&mut self, driver: &D, stamp: &Stamp<'_>) -> Sizes {
        assert!(self.has_room());
        let slot = (self.stamped % self.count) as usize;
        let records = self.body_crcs.len() / self.count as usize;
        let request = &mut self.bytes[slot * self.request_bytes..][..self.request_bytes];
        let plain_bytes = driver.stamp_request(request, &self.body_crcs[slot * records..][..records], stamp);
        let mut sent_bytes = plain_bytes;
        if let Some(Packed { packer, slots }) = &mut self.packed {
            slots[slot].clear();
            packer.pack(&request[..plain_bytes], &mut slots[slot]);
            sent_bytes = slots[slot].len();
        }
        match &mut self.lens {
            Some(lens) => lens[slot] = sent_bytes,
            None => assert_eq!(sent_bytes, self.request_bytes, "whole requests, side by side"),
        }
        self.stamped += 1;
        Sizes { plain_bytes, sent_bytes }
    }

    /// The first bytes that the socket has not taken, in order. Both parts are empty when it has
    /// taken all.
    #[inline]
    pub fn unsent(&self) -> [&[u8]; 2] {
        let requests = self.stamped - self.sent;
        if requests == 0 {
            return [&[], &[]];
        }
        if self.lens.is_some() {
            let second = if requests > 1 { self.to_send(self.sent + 1) } else { &[] };
            return [&self.to_send(self.sent)[self.part..], second];
        }
        let unsent = requests as usize * self.request_bytes - self.part;
        let start = (self.sent % self.count) as usize * self.request_bytes + self.part;
        let first = unsent.min(self.bytes.len() - start);
        [&self.bytes[start..start + first], &self.bytes[..unsent - first]]
    }

    /// What is sent for the request of this number.
    fn to_send(&self, request: u64) -> &[u8] {
        let slot = (request % self.count) as usize;
        let all = match &self.packed {
            Some(packed) => &packed.slots[slot][..],
            None => &self.bytes[slot * self.request_bytes..],
        };
        &all[..self.len_of(slot)]
    }

    #[inline]
    fn len_of(&self, slot: usize) -> usize {
        self.lens.as_ref().map_or(self.request_bytes, |lens| lens[slot])
    }

    /// The requests from number `oldest` on are to be sent again, as they are, but for those that are
    /// answered.
    ///
    /// Their bytes are there still: a slot is stamped anew only when its request is answered, because
    /// a connection goes no further than its slots beyond its oldest request.
    pub fn rewind(&mut self, oldest: u64, is_answered: impl Fn(u64) -> bool) {
        assert!(oldest <= self.stamped && self.stamped - oldest <= self.count);
        self.sent = oldest;
        self.part = 0;
        for request in (oldest..self.stamped).filter(|&request| is_answered(request)) {
            assert!(request > oldest, "the oldest is not answered");
            let lens = self.lens.get_or_insert_with(|| vec![self.request_bytes; self.count as usize]);
            lens[(request % self.count) as usize] = 0;
        }
    }

    /// The socket took the next `count` bytes.
    #[inline]
    pub fn sent(&mut self, count: usize) {
        self.part += count;
        while self.sent < self.stamped {
            let length = self.len_of((self.sent % self.count) as usize);
            if self.part < length {
                return;
            }
            self.part -= length;
            self.sent += 1;
        }
        assert_eq!(self.part, 0, "no more is sent than was stamped");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::bench::driver::{Ack, Code, Control, FetchFrom, Fetched, Malformed};
    use crate::bench::error::BenchError;

    /// A request has up to three records, each of them its correlation id.
    struct Toy {
        /// Every record is sent twice.
        packs: bool,
    }

    struct Twice;

    impl Packer for Twice {
        fn pack(&mut self, request: &[u8], out: &mut Vec<u8>) {
            request.iter().for_each(|&byte| out.extend_from_slice(&[byte, byte]));
        }
    }

    impl Driver for Toy {
        fn run(&self) -> u64 {
            0
        }
        fn records(&self) -> u32 {
            3
        }
        fn batch_bytes(&self) -> usize {
            3
        }
        fn packer(&self) -> Option<Box<dyn Packer>> {
            self.packs.then(|| Box::new(Twice) as Box<dyn Packer>)
        }
        fn encode_request(&self, _: u32, _: &mut Random, out: &mut Vec<u8>, crcs: &mut Vec<u32>) {
            out.extend_from_slice(&[0; 3]);
            crcs.push(0);
        }
        fn stamp_request(&self, request: &mut [u8], _: &[u32], stamp: &Stamp<'_>) -> usize {
            request.fill(stamp.correlation as u8);
            stamp.records as usize
        }
        fn parse_ack(&self, _: &[u8]) -> Result<Ack, Malformed> {
            unreachable!("nothing is answered")
        }
        fn answers_in_order(&self) -> bool {
            true
        }
        fn fetch_partitions_max(&self) -> usize {
            1
        }
        fn fetches_max(&self) -> usize {
            1
        }
        fn encode_fetch(&self, _: u32, _: &[FetchFrom], _: bool, _: &mut Vec<u8>) {}
        fn fetched_correlation(&self, _: &[u8]) -> Result<u32, Malformed> {
            unreachable!("nothing is fetched")
        }
        fn parse_fetch(&self, _: &[u8], _: &[FetchFrom], _: &mut VecDeque<Fetched>) -> Result<(), Malformed> {
            Ok(())
        }
        fn parse_records(
            &self,
            records: &[u8],
            _: &mut usize,
            _: &mut dyn FnMut(i64, &[u8]),
        ) -> Result<usize, Malformed> {
            Ok(records.len())
        }
        fn is_removed(&self, _: Code) -> bool {
            false
        }
        fn control(&self, _: std::net::SocketAddr) -> Result<Box<dyn Control>, BenchError> {
            unreachable!("nobody is asked")
        }
    }

    fn stamp(slots: &mut Slots, driver: &Toy, correlation: u32, records: u32) {
        let stamp = Stamp { correlation, partition: 0, sequence: 0, records, intended_ns: &[0] };
        slots.stamp(driver, &stamp);
    }

    #[test]
    fn what_is_not_answered_can_be_sent_again() {
        let driver = Toy { packs: false };
        let mut slots = Slots::new(&driver, 0, 4, false, &mut Random(0));
        for correlation in 0..6 {
            stamp(&mut slots, &driver, correlation, 3);
            slots.sent(3);
        }
        slots.rewind(3, |_| false);
        assert_eq!(slots.unsent().concat(), [3, 3, 3, 4, 4, 4, 5, 5, 5]);
    }

    #[test]
    fn what_was_answered_out_of_turn_is_not_sent_again() {
        for packs in [false, true] {
            let driver = Toy { packs };
            let mut slots = Slots::new(&driver, 0, 4, false, &mut Random(0));
            let copies = if packs { 2 } else { 1 };
            for correlation in 0..6 {
                stamp(&mut slots, &driver, correlation, 3);
                slots.sent(3 * copies);
            }
            slots.rewind(2, |request| request == 3 || request == 5);
            let mut out = Vec::new();
            let mut send_all = |slots: &mut Slots| {
                while !slots.unsent()[0].is_empty() {
                    let unsent = slots.unsent().concat();
                    out.extend_from_slice(&unsent);
                    slots.sent(unsent.len());
                }
            };
            send_all(&mut slots);
            // Slots are used again, with all their bytes.
            stamp(&mut slots, &driver, 6, 3);
            stamp(&mut slots, &driver, 7, 3);
            send_all(&mut slots);
            let expected: Vec<u8> = [2, 4, 6, 7].iter().flat_map(|&byte| vec![byte; 3 * copies]).collect();
            assert_eq!(out, expected, "packs {packs}");
        }
    }

    #[test]
    fn what_is_stamped_comes_out_once_and_in_order_whatever_the_socket_takes() {
        for (partial, packs) in [(false, false), (true, false), (false, true), (true, true)] {
            let driver = Toy { packs };
            let mut slots = Slots::new(&driver, 0, 4, partial, &mut Random(0));
            let (mut stamped, mut out, mut expected, mut random) = (0, Vec::new(), Vec::new(), Random(9));
            while out.len() < 300 {
                while slots.has_room() && !random.next().is_multiple_of(3) {
                    let records = if partial { 1 + random.next() as u32 % 3 } else { 3 };
                    stamp(&mut slots, &driver, stamped, records);
                    let copies = records as usize * if packs { 2 } else { 1 };
                    expected.resize(expected.len() + copies, stamped as u8);
                    stamped += 1;
                }
                let unsent = slots.unsent().concat();
                let taken = random.next() as usize % (unsent.len() + 1);
                out.extend_from_slice(&unsent[..taken]);
                slots.sent(taken);
            }
            assert_eq!(out, expected[..out.len()], "partial {partial}, packs {packs}");
        }
    }
}
