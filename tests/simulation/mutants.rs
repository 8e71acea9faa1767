//! Brokers that break one rule each: a simulation that does not notice them proves nothing.
//!
//! Every mutant plays the stories that a sound broker plays, from seed 0 on, until one of them fails:
//! by the checker, by an assertion of the broker, or because recovery refuses what it finds. A mutant
//! that no story catches fails the test. Afterwards the sound broker plays the seeds that caught one.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;

use ringmq::base::mutant::{self, Mutant};

use super::coverage::Coverage;
use super::{play_all, story, weeks};

/// Stories that a mutant must survive to count as not caught.
const SEEDS: u64 = 3_000;
/// The same of fortnights, in which those of groups are played.
const WEEKS: u64 = 8;

/// What mutants are played in, and how often.
#[derive(Clone, Copy)]
struct Hunt {
    play: fn(u64, bool) -> Coverage,
    /// What `make sim` calls a seed of it.
    replay: &'static str,
    seeds: u64,
}

thread_local! {
    /// Where the last story of a mutant on this thread failed, and why.
    static FAILURE: RefCell<String> = const { RefCell::new(String::new()) };
}

struct Caught {
    seed: u64,
    by: String,
}

/// Mutants fail by the hundred: say nothing of it on the way, but remember why.
fn remember_failures() {
    let loud = panic::take_hook();
    panic::set_hook(Box::new(move |info| match (mutant::now(), info.location()) {
        (Some(_), Some(location)) => {
            let text = info.payload().downcast_ref::<String>().map(String::as_str);
            let text = text.or(info.payload().downcast_ref::<&str>().copied()).unwrap_or("a panic");
            let line = text.lines().next().unwrap_or_default();
            FAILURE.set(format!("{}:{}: {line}", location.file(), location.line()));
        }
        _ => loud(info),
    }));
}

/// Play the stories of a mutant until one fails.
fn hunt(mutant: Mutant, Hunt { play, seeds, .. }: Hunt) -> Option<Caught> {
    mutant::set(Some(mutant));
    let fails = |seed: &u64| catch_unwind(AssertUnwindSafe(|| play(*seed, false))).is_err();
    let caught = (0..seeds).find(fails).map(|seed| Caught { seed, by: FAILURE.take() });
    mutant::set(None);
    caught
}

/// Hunt them on all cores, and write a row of the table as soon as it is known.
fn hunt_all(mutants: &[Mutant], how: Hunt) -> Vec<(Mutant, Option<Caught>)> {
    let rest = Mutex::new(mutants.iter());
    let hunted = Mutex::new(Vec::new());
    println!("{:<24} stories  caught by", "mutant");
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let next = rest.lock().expect("no panic while it is held").next();
                    let Some(&mutant) = next else { return };
                    let caught = hunt(mutant, how);
                    let (stories, by) = match &caught {
                        Some(Caught { seed, by }) => (seed + 1, by.as_str()),
                        None => (how.seeds, "nothing"),
                    };
                    println!("{:<24} {stories:>7}  {by:.120}", format!("{mutant:?}"));
                    hunted.lock().expect("no panic while it is held").push((mutant, caught));
                }
            });
        }
    });
    hunted.into_inner().expect("no panic while it was held")
}

/// Hunt these, or the one of them that is asked for. The sound broker plays what caught them, too.
fn all_are_caught(mutants: impl Iterator<Item = Mutant>, how: Hunt) {
    let only = std::env::var("RINGMQ_SIM_MUTANT").unwrap_or_default();
    let wanted = |mutant: &Mutant| only.is_empty() || format!("{mutant:?}") == only;
    let mutants: Vec<Mutant> = mutants.filter(wanted).collect();
    if mutants.is_empty() {
        // Whether there is such a one, the stories of the bare machine say.
        return;
    }
    remember_failures();

    let hunted = hunt_all(&mutants, how);
    let seeds: BTreeSet<u64> =
        hunted.iter().filter_map(|(_, caught)| caught.as_ref()).map(|caught| caught.seed).collect();
    for &seed in &seeds {
        let sound = play_all(seed..seed + 1, how.play).is_ok();
        assert!(sound, "the sound broker fails, too; replay with: make sim {}={seed}", how.replay);
    }
    let survivors: Vec<&Mutant> =
        hunted.iter().filter(|(_, caught)| caught.is_none()).map(|(mutant, _)| mutant).collect();
    println!(
        "{} of {} mutants caught, by {} stories that the sound broker plays to their end",
        hunted.len() - survivors.len(),
        hunted.len(),
        seeds.len()
    );
    assert!(survivors.is_empty(), "not caught: {survivors:?}; play one with: make sim-mutants MUTANT=name");
}

#[test]
fn mutants_are_caught() {
    let of_groups =
        |mutant: &Mutant| Mutant::OF_GROUPS.contains(mutant) || Mutant::OF_PROTOCOLS.contains(mutant);
    let of_broker = Mutant::ALL.iter().filter(|mutant| !of_groups(mutant)).copied();
    all_are_caught(of_broker, Hunt { play: story::play, replay: "SEED", seeds: SEEDS });
}

#[test]
fn mutants_of_groups_are_caught() {
    let of_groups = Mutant::OF_GROUPS.iter().chain(Mutant::OF_PROTOCOLS).copied();
    all_are_caught(of_groups, Hunt { play: weeks::play, replay: "WEEK", seeds: WEEKS });
}
