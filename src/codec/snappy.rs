//! Snappy, both of the forms that batches have: raw, or in the frames of snappy-java. It is read piece by
//! piece.
//!
//! ```text
//!   frames   magic (8), two big-endian i32 versions (8), { i32 length, raw } ...
//!   raw      length of what it inflates to (varint), elements ...
//!   element  literal: a tag, up to 4 bytes of length, the bytes
//!            copy:    a tag and 1, 2 or 4 bytes: so many again of what came so far back
//! ```
//!
//! Decoders for whole blocks make all of one in one go, which a shard has no time for: 64 MiB took the `snap`
//! crate 60 ms of what its compressor makes, and 370 ms of the worst that can be made. Ours stops after any
//! element, and takes 0.5 to 4 ms for the 512 KiB that a log looks through in a turn.
//!
//! A copy may reach back to the block's beginning, and some encoders (klauspost's, of Go) do make a batch one
//! block and reach far: so all that a block has become stays in memory until it ends.

use std::io::{self, Read};

/// snappy-java's frame: this, two versions, then blocks.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
/// snappy-java's block: what it cuts its input into.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
/// Of a block's length, which has 32 bits.
const LENGTH_BYTES_MAX: usize = 5;
/// Literals up to this length have it in their tag; of longer ones the tag says in how many bytes it follows.
const SHORT_LITERAL_MAX: usize = 60;

/// What `input` inflates to. Memory follows the bytes that really come out, so whoever reads says when it is
/// enough.
pub(super) struct SnappyReader<B> {
    input: B,
    /// Where the present block ends, and the next one begins.
    next_block: usize,
    block: Block,
    /// What the block has become so far.
    out: Vec<u8>,
    /// Of that, so many bytes were handed out.
    handed_out: usize,
}

impl<B: AsRef<[u8]>> SnappyReader<B> {
    pub fn new(input: B) -> io::Result<SnappyReader<B>> {
        let bytes = input.as_ref();
        let (block, next_block) = if bytes.starts_with(XERIAL_MAGIC) {
            // As if a block had just ended.
            let header = bytes.get(..XERIAL_HEADER_BYTES).ok_or(io::ErrorKind::UnexpectedEof)?;
            (Block::default(), header.len())
        } else {
            (Block::open(bytes, 0, bytes.len()).ok_or(io::ErrorKind::InvalidData)?, bytes.len())
        };
        Ok(SnappyReader { input, next_block, block, out: Vec::new(), handed_out: 0 })
    }

    /// Begin the block that follows, if one does.
    fn open_next(&mut self) -> io::Result<bool> {
        let input = self.input.as_ref();
        let rest = &input[self.next_block..];
        if rest.is_empty() {
            return Ok(false);
        }
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(io::ErrorKind::UnexpectedEof)?;
        let length = u32::from_be_bytes(*length) as usize;
        let block = rest.get(..length).ok_or(io::ErrorKind::UnexpectedEof)?;
        let start = input.len() - rest.len();
        self.next_block = start + block.len();
        self.block = Block::open(input, start, self.next_block)
            // Nobody makes one that is empty, and a batch of nothing else would be read to its end in one go.
            .filter(|block| block.inflated_bytes > 0)
            .ok_or(io::ErrorKind::InvalidData)?;
        self.out.clear();
        self.handed_out = 0;
        Ok(true)
    }
}

impl<B: AsRef<[u8]>> Read for SnappyReader<B> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.handed_out == self.out.len() && !into.is_empty() {
            if self.out.len() < self.block.inflated_bytes {
                let enough = self.out.len() + into.len();
                let went = self.block.go_on(self.input.as_ref(), &mut self.out, enough);
                went.ok_or(io::ErrorKind::InvalidData)?;
            } else if !self.open_next()? {
                break;
            }
        }
        let fresh = &self.out[self.handed_out..];
        let bytes = fresh.len().min(into.len());
        into[..bytes].copy_from_slice(&fresh[..bytes]);
        self.handed_out += bytes;
        Ok(bytes)
    }
}

/// A raw block of the input, and how far it was read.
#[derive(Default)]
struct Block {
    at: usize,
    end: usize,
    /// What it says that it inflates to.
    inflated_bytes: usize,
    /// Still to come of a literal.
    literal_left: usize,
}

impl Block {
    /// The block at `start..end`. `None`, here and below: it is malformed.
    fn open(input: &[u8], start: usize, end: usize) -> Option<Block> {
        let mut length = 0u64;
        for (index, byte) in input[start..end].iter().enumerate().take(LENGTH_BYTES_MAX) {
            length |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                let inflated_bytes = u32::try_from(length).ok()? as usize;
                let block = Block { at: start + index + 1, end, inflated_bytes, literal_left: 0 };
                return block.is_whole(0).then_some(block);
            }
        }
        None
    }

    /// What has become so many bytes is not over too early, or too late.
    fn is_whole(&self, out_bytes: usize) -> bool {
        out_bytes < self.inflated_bytes || (self.at == self.end && self.literal_left == 0)
    }

    /// Add to `out`, which is what the block has become, until it has `enough` bytes, and a copy more at
    /// most, or all of them.
    fn go_on(&mut self, input: &[u8], out: &mut Vec<u8>, enough: usize) -> Option<()> {
        let enough = enough.min(self.inflated_bytes);
        let mut rest = &input[self.at..self.end];
        while out.len() < enough {
            if self.literal_left > 0 {
                let bytes = self.literal_left.min(enough - out.len());
                out.extend_from_slice(rest.split_off(..bytes)?);
                self.literal_left -= bytes;
                continue;
            }
            let tag = usize::from(*rest.split_off_first()?);
            let (length, back) = match tag & 3 {
                0 => {
                    let length = tag >> 2;
                    let extra = (length + 1).saturating_sub(SHORT_LITERAL_MAX);
                    let length = if extra > 0 { take_number(&mut rest, extra)? } else { length };
                    self.literal_left = length + 1;
                    continue;
                }
                1 => (4 + ((tag >> 2) & 7), ((tag >> 5) << 8) | take_number(&mut rest, 1)?),
                2 => (1 + (tag >> 2), take_number(&mut rest, 2)?),
                _ => (1 + (tag >> 2), take_number(&mut rest, 4)?),
            };
            let from = out.len().checked_sub(back).filter(|_| back > 0)?;
            // What is longer than it reaches back repeats itself: with each round there is more to copy.
            let end = out.len() + length;
            while out.len() < end {
                out.extend_from_within(from..out.len().min(from + end - out.len()));
            }
        }
        self.at = self.end - rest.len();
        (out.len() <= self.inflated_bytes && self.is_whole(out.len())).then_some(())
    }
}

/// A little-endian number of so many bytes, 4 at most.
fn take_number(rest: &mut &[u8], bytes: usize) -> Option<usize> {
    let taken = rest.split_off(..bytes)?;
    Some(taken.iter().rev().fold(0, |number, byte| (number << 8) | usize::from(*byte)))
}

/// In snappy-java's frames: the one form that every Kafka client reads.
pub(super) fn deflate(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::from(XERIAL_MAGIC);
    // Version and lowest compatible version, as snappy-java writes them.
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    debug_assert_eq!(out.len(), XERIAL_HEADER_BYTES);
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(XERIAL_BLOCK_BYTES) {
        let packed = encoder.compress_vec(block).expect("a block is far below snappy's 4 GiB");
        out.extend_from_slice(&(packed.len() as i32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Longer than what the reference decodes here may be.
    const INFLATED_MAX: usize = 1 << 20;

    fn read_all(input: &[u8], step: usize) -> io::Result<Vec<u8>> {
        let mut reader = SnappyReader::new(input)?;
        let (mut all, mut window) = (Vec::new(), vec![0; step]);
        loop {
            match reader.read(&mut window)? {
                0 => return Ok(all),
                bytes => all.extend_from_slice(&window[..bytes]),
            }
        }
    }

    fn raw(text: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(text).expect("compresses")
    }

    /// An element as the format has it.
    #[derive(Clone, Debug)]
    enum Element {
        Literal(Vec<u8>),
        Copy { length: usize, back: usize },
    }

    /// A block of these, and what it says that it becomes.
    fn block(elements: &[Element], inflated_bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut left = inflated_bytes;
        while left >= 0x80 {
            out.push(left as u8 | 0x80);
            left >>= 7;
        }
        out.push(left as u8);
        for element in elements {
            match element {
                Element::Literal(bytes) if bytes.len() <= SHORT_LITERAL_MAX => {
                    out.push((bytes.len() as u8 - 1) << 2);
                    out.extend_from_slice(bytes);
                }
                Element::Literal(bytes) => {
                    out.push(62 << 2);
                    out.extend_from_slice(&(bytes.len() as u32 - 1).to_le_bytes()[..3]);
                    out.extend_from_slice(bytes);
                }
                Element::Copy { length: length @ 4..12, back: back @ 0..2048 } => {
                    out.push(1 | ((length - 4) << 2) as u8 | ((back >> 8) << 5) as u8);
                    out.push(*back as u8);
                }
                Element::Copy { length, back } if *back < 1 << 16 => {
                    out.push(2 | ((length - 1) << 2) as u8);
                    out.extend_from_slice(&(*back as u16).to_le_bytes());
                }
                Element::Copy { length, back } => {
                    out.push(3 | ((length - 1) << 2) as u8);
                    out.extend_from_slice(&(*back as u32).to_le_bytes());
                }
            }
        }
        out
    }

    #[test]
    fn so_much_is_inflated_as_is_read() {
        let noise: Vec<u8> = (0..4u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for text in [vec![0; 8 << 20], noise] {
            for packed in [raw(&text), deflate(&text)] {
                let mut reader = SnappyReader::new(&packed).expect("readable");
                let mut window = [1; 1000];
                for at in (0..100_000).step_by(window.len()) {
                    reader.read_exact(&mut window).expect("readable");
                    assert_eq!(window, text[at..][..window.len()]);
                    assert!(reader.out.len() <= at + window.len() + 64, "{} bytes", reader.out.len());
                }
                // What is wrong at the end does not matter before.
                let cut_off = &packed[..packed.len() - 1];
                assert!(SnappyReader::new(cut_off).expect("begins well").read_exact(&mut window).is_ok());
                assert!(read_all(cut_off, 1 << 20).is_err());
            }
        }
    }

    #[test]
    fn a_copy_reaches_back_to_the_beginning_of_its_block() {
        let text: Vec<u8> = (0..100_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let elements = [Element::Literal(text.clone()), Element::Copy { length: 64, back: text.len() }];
        let far = block(&elements, text.len() + 64);
        let inflated = read_all(&far, 777).expect("sound");
        assert_eq!((&inflated[..text.len()], &inflated[text.len()..]), (&text[..], &text[..64]));

        let too_far = block(&[Element::Literal(vec![7; 9]), Element::Copy { length: 4, back: 10 }], 13);
        let framed = |blocks: &[&[u8]]| {
            let mut out = deflate(b"");
            for block in blocks {
                out.extend_from_slice(&(block.len() as u32).to_be_bytes());
                out.extend_from_slice(block);
            }
            out
        };
        assert!(read_all(&too_far, 100).is_err());
        assert!(read_all(&framed(&[&raw(b"what was before"), &too_far]), 100).is_err(), "and not beyond");
        assert_eq!(read_all(&framed(&[&raw(b"one"), &raw(b"two")]), 2).expect("sound"), b"onetwo");
        assert!(read_all(&framed(&[&raw(b"one"), &raw(b"")]), 2).is_err(), "an empty block");
        assert_eq!(read_all(&raw(b""), 2).expect("sound"), b"");
    }

    #[test]
    fn what_a_block_says_of_itself_must_be_so() {
        let elements = [Element::Literal(vec![1; 10]), Element::Copy { length: 20, back: 3 }];
        for (claimed, sound) in [(0, false), (9, false), (10, false), (29, false), (30, true), (31, false)] {
            for step in [1, 7, 100] {
                assert_eq!(read_all(&block(&elements, claimed), step).is_ok(), sound, "{claimed} {step}");
            }
        }
        for bad in [&b""[..], b"\x80", b"\xff\xff\xff\xff\xff\x00", b"\x05\x01\x00", b"\x01\xf0"] {
            assert!(read_all(bad, 100).is_err(), "{bad:?}");
        }
    }

    fn element() -> impl Strategy<Value = Element> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 1..100).prop_map(Element::Literal),
            (1usize..=64, 0usize..300).prop_map(|(length, back)| Element::Copy { length, back }),
            (1usize..=64, 60_000usize..70_000).prop_map(|(length, back)| Element::Copy { length, back }),
        ]
    }

    /// It reads what the reference reads, and refuses what it refuses.
    fn check_against_reference(input: &[u8], step: usize) -> Result<(), TestCaseError> {
        if input.starts_with(XERIAL_MAGIC)
            || snap::raw::decompress_len(input).is_ok_and(|len| len > INFLATED_MAX)
        {
            return Ok(());
        }
        let expected = snap::raw::Decoder::new().decompress_vec(input).ok();
        prop_assert_eq!(read_all(input, step).ok(), expected);
        Ok(())
    }

    proptest! {
        #[test]
        fn elements_are_read_as_the_reference_does(
            first in prop::collection::vec(any::<u8>(), 1..70_000),
            elements in prop::collection::vec(element(), 0..40),
            longer in -1i64..2,
            step in 1usize..5000,
        ) {
            let length = |element: &Element| match element {
                Element::Literal(bytes) => bytes.len(),
                Element::Copy { length, .. } => *length,
            };
            let elements = [vec![Element::Literal(first)], elements].concat();
            let claimed = elements.iter().map(length).sum::<usize>() as i64 + longer;
            check_against_reference(&block(&elements, claimed as usize), step)?;
        }

        #[test]
        fn so_are_damaged_blocks_and_noise(
            text in prop::collection::vec(0u8..4, 0..3000),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            noise in prop::collection::vec(any::<u8>(), 0..100),
            step in 1usize..5000,
        ) {
            let mut packed = raw(&text);
            for (at, byte) in damage {
                let at = at.index(packed.len());
                packed[at] = byte;
            }
            check_against_reference(&packed, step)?;
            check_against_reference(&noise, step)?;
        }
    }
}
