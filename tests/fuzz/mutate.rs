//! Mutations: what rot, a bug or malice does to bytes.

use crate::random::Random;

/// Numbers at which programs go wrong, as 64 bits; of smaller fields their lowest bits are written.
const NUMBERS: [i64; 16] = [
    0,
    1,
    -1,
    -2,
    0x7f,
    0x80,
    0x7fff,
    0x8000,
    0x0100_0000,
    i32::MAX as i64,
    1 << 31,
    u32::MAX as i64,
    1 << 32,
    i64::MAX,
    i64::MIN,
    i64::MIN + 1,
];

/// In the front lie headers, counts and lengths: half of all edits are made there.
const FRONT_BYTES: usize = 96;

/// One to four edits. `others` give parts for splices; what grows stays below `bytes_max`.
pub fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], bytes_max: usize, random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        edit(bytes, others, random);
    }
    bytes.truncate(bytes_max);
}

pub fn pick<'t, T>(random: &mut Random, of: &'t [T]) -> &'t T {
    &of[random.below(of.len())]
}

fn edit(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    if bytes.is_empty() {
        bytes.clone_from(pick(random, others));
        return;
    }
    let at = place(bytes, random);
    match random.below(12) {
        0..=2 => bytes[at] ^= 1 << random.below(8),
        3 => bytes[at] = random.next() as u8,
        4 | 5 => {
            let number = number(random, bytes.len());
            overwrite(bytes, at, &number);
        }
        6 => overwrite(bytes, at, &varint(random)),
        7 => bytes[at] = bytes[at].wrapping_add(if random.one_in(2) { 1 } else { u8::MAX }),
        8 => bytes.truncate(at),
        9 => {
            bytes.drain(at..range_end(bytes, at, random));
        }
        10 => {
            // A part of it twice.
            let copy = bytes[at..range_end(bytes, at, random)].to_vec();
            let to = place(bytes, random);
            bytes.splice(to..to, copy);
        }
        _ => {
            let other = pick(random, others);
            if !other.is_empty() {
                let from = place(other, random);
                let part = other[from..range_end(other, from, random)].to_vec();
                let end = if random.one_in(2) { bytes.len() } else { at };
                bytes.splice(at..end, part);
            }
        }
    }
}

fn place(bytes: &[u8], random: &mut Random) -> usize {
    let end = if random.one_in(2) { bytes.len() } else { bytes.len().min(FRONT_BYTES) };
    random.below(end)
}

/// Short parts are as frequent as long ones.
fn range_end(bytes: &[u8], from: usize, random: &mut Random) -> usize {
    let left = bytes.len() - from;
    from + if random.one_in(2) { 1 + random.below(left) } else { left.min(1 + random.below(16)) }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    let end = bytes.len().min(at + with.len());
    bytes[at..end].copy_from_slice(&with[..end - at]);
}

/// A number of 2, 4 or 8 bytes in either order; now and then the input's own length.
fn number(random: &mut Random, len: usize) -> Vec<u8> {
    let value = if random.one_in(8) { len as i64 } else { *pick(random, &NUMBERS) };
    let width = *pick(random, &[2, 4, 8]);
    if random.one_in(2) {
        value.to_le_bytes()[..width].to_vec()
    } else {
        value.to_be_bytes()[8 - width..].to_vec()
    }
}

/// A number in groups of seven bits, plain or folded, and now and then without an end.
fn varint(random: &mut Random) -> Vec<u8> {
    let value = *pick(random, &NUMBERS);
    let mut rest = if random.one_in(2) { value as u64 } else { (value << 1) as u64 ^ (value >> 63) as u64 };
    let mut out = Vec::new();
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(if random.one_in(16) { 0x80 } else { rest as u8 });
    out
}
