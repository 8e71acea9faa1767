//! The whole broker against a simulated machine: seeds are stories, a checker reads along.
//!
//! `make sim` plays many seeds, `make sim SEED=n` one. See docs/TESTING.md.

mod admin;
mod answers;
mod assignor;
mod committer;
mod consumer;
mod coverage;
mod greedy;
mod ledger;
mod link;
mod machine;
mod member;
mod metadata;
#[cfg(feature = "mutants")]
mod mutants;
mod onlooker;
mod producer;
mod rollout;
mod roster;
mod rot;
mod stage;
mod story;
mod weather;
mod weeks;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use coverage::{Coverage, Event};

/// Seeds of a run without `RINGMQ_SIM_SEEDS`.
const SEEDS: u64 = 2_000;
/// Fewer seeds do not meet everything.
const SEEDS_FOR_COVERAGE: u64 = 300;
/// The same of the fortnights of groups.
const WEEKS: u64 = 8;
const WEEKS_FOR_COVERAGE: u64 = 8;

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value:?}")))
}

/// The seeds of a test: all, or the one that is replayed.
fn seeds(all: std::ops::Range<u64>) -> std::ops::Range<u64> {
    variable("RINGMQ_SIM_SEED").map_or(all, |seed| seed..seed + 1)
}

/// What fails prints `command`, which replays it.
fn replayed_by(command: &str, play: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(play)).is_err() {
        panic!("replay with: {command}");
    }
}

/// Play seeds on all cores until one fails.
fn play_all(seeds: std::ops::Range<u64>, play: fn(u64, bool) -> Coverage) -> Result<Coverage, u64> {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let result = Mutex::new((Coverage::new(), None));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let played = catch_unwind(AssertUnwindSafe(|| play(seed, false)));
                    let mut result = result.lock().expect("no panic while it is held");
                    match played {
                        Ok(coverage) => result.0.merge(&coverage),
                        Err(_) => {
                            stop.store(true, Ordering::Relaxed);
                            result.1.get_or_insert(seed);
                        }
                    }
                }
            });
        }
    });
    let (coverage, failed) = result.into_inner().expect("no panic while it was held");
    failed.map_or(Ok(coverage), Err)
}

#[test]
fn no_promise_is_broken() {
    if let Some(seed) = variable("RINGMQ_SIM_SEED") {
        println!("{}", story::play(seed, true));
        return;
    }
    let count = variable("RINGMQ_SIM_SEEDS").unwrap_or(SEEDS);
    match play_all(0..count, story::play) {
        Err(seed) => panic!("replay with: make sim SEED={seed}"),
        Ok(coverage) => {
            println!("{count} seeds:\n{coverage}");
            let missing = coverage.missing(|event| !event.is_of_weeks());
            assert!(
                count < SEEDS_FOR_COVERAGE || missing.is_empty(),
                "seeds 0..{count} never met {missing:?}; replay with: make sim SEEDS={count}"
            );
        }
    }
}

#[test]
fn a_seed_is_one_story() {
    for seed in seeds(0..4) {
        let command = format!("RINGMQ_SIM_SEED={seed} cargo test --test simulation a_seed_is_one_story");
        replayed_by(&command, || {
            let (once, again) = (story::play(seed, false), story::play(seed, false));
            assert_eq!(once, again, "seed {seed} has another source of chance");
        });
    }
}

#[test]
fn a_seed_is_one_fortnight() {
    replayed_by("cargo test --test simulation a_seed_is_one_fortnight", || {
        assert_eq!(weeks::play(0, false), weeks::play(0, false), "a fortnight has another source of chance");
    });
}

#[test]
fn members_that_wait_leave_the_one_credit_to_others() {
    let play = |seed, loud| weeks::play_with(seed, loud, Some(1));
    if let Some(week) = variable("RINGMQ_SIM_WEEK") {
        println!("{}", play(week, true));
        return;
    }
    if let Err(week) = play_all(5..7, play) {
        panic!(
            "replay with: RINGMQ_SIM_WEEK={week} cargo test --test simulation members_that_wait -- --nocapture"
        );
    }
}

#[test]
fn weeks_of_groups() {
    if let Some(seed) = variable("RINGMQ_SIM_WEEK") {
        println!("{}", weeks::play(seed, true));
        return;
    }
    let count = variable("RINGMQ_SIM_WEEKS").unwrap_or(WEEKS);
    match play_all(0..count, weeks::play) {
        Err(seed) => panic!("replay with: make sim WEEK={seed}"),
        Ok(coverage) => {
            println!("{count} fortnights:\n{coverage}");
            let missing = coverage.missing(Event::is_of_weeks);
            assert!(
                count < WEEKS_FOR_COVERAGE || missing.is_empty(),
                "fortnights 0..{count} never met {missing:?}; replay with: make sim WEEKS={count}"
            );
        }
    }
}
