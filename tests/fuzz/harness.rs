//! What a target is, and how it is driven: corpus first, then mutants.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::meter;
use crate::mutate::{mutate, pick};
use crate::random::Random;

/// A parser, and what is known of its inputs.
pub struct Target {
    /// Parses, and checks what must hold of the result. Returns whether the bytes were accepted.
    pub run: fn(&[u8]) -> bool,
    /// Encodings that our own encoders make. All of them are accepted.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Makes checksums, and lengths of the whole, true again.
    pub fix: fn(&mut Vec<u8>),
    /// The most memory that `run` may hold at a time.
    pub memory: Memory,
    /// How many make up about a second of a slow machine. Counted, not timed, so that a run repeats.
    pub mutants_per_second: u64,
}

/// A bound that grows with the input.
pub struct Memory {
    pub per_byte: usize,
    pub bytes: usize,
}

/// The bound of a parser that keeps small structs of what it read; `run` often encodes them again.
pub const SMALL: Memory = Memory { per_byte: 64, bytes: 64 << 10 };

/// Nothing of the input follows from the rest of it.
pub fn no_fix(_: &mut Vec<u8>) {}

pub fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Run a target on everything: its own encodings, its corpus, and mutants of both.
///
/// `RINGMQ_FUZZ_SECONDS` makes that longer, and `RINGMQ_FUZZ_SEED` chooses other mutants.
/// `RINGMQ_WRITE_CORPUS` writes the target's own encodings into the corpus: of a format that is new.
pub fn check(name: &str, target: &Target) {
    let mut inputs = (target.seeds)();
    for (index, input) in inputs.iter().enumerate() {
        let accepted = measured(target, input).unwrap_or_else(|problem| panic!("seed {index}: {problem}"));
        assert!(accepted, "seed {index} is refused, though our own encoder made it");
        if std::env::var_os("RINGMQ_WRITE_CORPUS").is_some() {
            write(name, &format!("ok-{index}"), input);
        }
    }
    inputs.extend(check_corpus(name, target));

    let bytes_max = 2 * inputs.iter().map(Vec::len).max().expect("a target has seeds") + 64;
    let seconds = setting("RINGMQ_FUZZ_SECONDS");
    let deadline = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let first_seed = setting("RINGMQ_FUZZ_SEED").unwrap_or(0) << 32;
    let in_work = InWork::new(name);
    let (mut accepted, mut refused) = (0, 0);
    for count in 0.. {
        let over = match deadline {
            Some(deadline) => Instant::now() >= deadline,
            None => count == target.mutants_per_second,
        };
        if over {
            break;
        }
        let mutant = mutant(target, &inputs, bytes_max, &mut Random::new(first_seed + count));
        in_work.note(&mutant);
        match measured(target, &mutant) {
            Ok(true) => accepted += 1,
            Ok(false) => refused += 1,
            Err(problem) => fail(name, target, mutant, &problem),
        }
    }
    // Both happen, else the mutations are too weak or too strong to find anything.
    let any = accepted + refused > 0;
    assert!(!any || accepted > 0 && refused > 0, "of the mutants {accepted} are accepted, {refused} refused");
}

/// Run every file of the corpus; returns them.
fn check_corpus(name: &str, target: &Target) -> Vec<Vec<u8>> {
    let Ok(folder) = fs::read_dir(corpus().join(name)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = folder.map(|entry| entry.expect("readable").path()).collect();
    paths.sort_unstable();
    let mut inputs = Vec::new();
    for path in paths {
        let input = fs::read(&path).expect("readable");
        let accepted = match measured(target, &input) {
            Ok(accepted) => accepted,
            Err(problem) => panic!("{}: {problem}", path.display()),
        };
        let expected = match path.file_name().and_then(|name| name.to_str()?.split_once('-')) {
            Some(("ok", _)) => Some(true),
            Some(("bad", _)) => Some(false),
            _ => None,
        };
        assert!(expected.is_none_or(|expected| expected == accepted), "{}: {accepted}", path.display());
        inputs.push(input);
    }
    inputs
}

fn mutant(target: &Target, inputs: &[Vec<u8>], bytes_max: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = pick(random, inputs).clone();
    mutate(&mut bytes, inputs, bytes_max, random);
    // A third stays as it is: checksums must find what they are there for.
    if !random.one_in(3) {
        (target.fix)(&mut bytes);
    }
    bytes
}

/// Run once. `Err` if it panics, or takes more memory than its bytes pay for.
fn measured(target: &Target, input: &[u8]) -> Result<bool, String> {
    let run = AssertUnwindSafe(|| meter::peak_bytes(|| (target.run)(input)));
    let (accepted, peak) = catch_unwind(run).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        format!("it panics: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?"))
    })?;
    let bound = target.memory.bytes + target.memory.per_byte * input.len();
    if peak > bound {
        return Err(format!("{} bytes of input make it hold {peak} bytes, more than {bound}", input.len()));
    }
    Ok(accepted)
}

/// Write the input to the corpus and say how to run it again.
fn fail(name: &str, target: &Target, input: Vec<u8>, problem: &str) -> ! {
    let input = smaller(target, input);
    let path = write(name, &format!("failure-{:08x}", ringmq::base::crc::crc32c(&input)), &input);
    panic!(
        "{problem}\nThe input is {} ({} bytes). Again: make fuzz TARGET={name} FUZZ_SECONDS=0",
        path.display(),
        input.len()
    );
}

fn write(target: &str, name: &str, input: &[u8]) -> PathBuf {
    let folder = corpus().join(target);
    let path = folder.join(name);
    fs::create_dir_all(&folder).and_then(|()| fs::write(&path, input)).expect("the corpus is writable");
    path
}

/// Cut off and cut out what the failure does not need.
fn smaller(target: &Target, mut input: Vec<u8>) -> Vec<u8> {
    let mut part = input.len() / 2;
    while part > 0 {
        let mut at = 0;
        while at < input.len() {
            let mut less = input.clone();
            less.drain(at..input.len().min(at + part));
            if measured(target, &less).is_err() {
                input = less;
            } else {
                at += part;
            }
        }
        part /= 2;
    }
    input
}

/// The input that runs now, in a file: what is left of it when the process dies.
struct InWork {
    file: File,
}

impl InWork {
    fn new(name: &str) -> InWork {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
        InWork { file: File::create(path).expect("cargo's folder is writable") }
    }

    fn note(&self, input: &[u8]) {
        self.file.set_len(input.len() as u64).expect("it is ours");
        self.file.write_all_at(input, 0).expect("room for an input");
    }
}
