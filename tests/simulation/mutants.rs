//! Brokers that break one rule each: a simulation that does not notice them proves nothing.
//!
//! Every mutant plays the stories that a sound broker plays, from seed 0 on, until one of them fails:
//! by the checker, by an assertion of the broker, or because recovery refuses what it finds. A mutant
//! that no story catches fails the test. Afterwards the sound broker plays the same seeds.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;

use ringmq::base::mutant::{self, Mutant};

use super::{play_all, story};

/// Stories that a mutant must survive to count as not caught.
const SEEDS: u64 = 300;

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
fn hunt(mutant: Mutant) -> Option<Caught> {
    mutant::set(Some(mutant));
    let fails = |seed: &u64| catch_unwind(AssertUnwindSafe(|| story::play(*seed, false))).is_err();
    let caught = (0..SEEDS).find(fails).map(|seed| Caught { seed, by: FAILURE.take() });
    mutant::set(None);
    caught
}

/// Hunt them on all cores; in the order of `mutants`.
fn hunt_all(mutants: &[Mutant]) -> Vec<(Mutant, Option<Caught>)> {
    let rest = Mutex::new(mutants.iter().enumerate());
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let next = rest.lock().expect("no panic while it is held").next();
                    let Some((index, &mutant)) = next else { return };
                    let caught = hunt(mutant);
                    results.lock().expect("no panic while it is held").push((index, mutant, caught));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no panic while it was held");
    results.sort_unstable_by_key(|(index, ..)| *index);
    results.into_iter().map(|(_, mutant, caught)| (mutant, caught)).collect()
}

#[test]
fn mutants_are_caught() {
    let only = std::env::var("RINGMQ_SIM_MUTANT").unwrap_or_default();
    let wanted = |mutant: &Mutant| only.is_empty() || format!("{mutant:?}") == only;
    let mutants: Vec<Mutant> = Mutant::ALL.iter().copied().filter(wanted).collect();
    assert!(!mutants.is_empty(), "no mutant is called {only}");
    remember_failures();

    let hunted = hunt_all(&mutants);
    println!("{:<26} {:>7}  caught by", "mutant", "stories");
    for (mutant, caught) in &hunted {
        match caught {
            Some(Caught { seed, by }) => println!("{:<26} {:>7}  {by}", format!("{mutant:?}"), seed + 1),
            None => println!("{:<26} {SEEDS:>7}  nothing", format!("{mutant:?}")),
        }
    }
    let seeds = hunted.iter().filter_map(|(_, caught)| Some(caught.as_ref()?.seed + 1)).max().unwrap_or(0);
    if let Err(seed) = play_all(0..seeds) {
        panic!("the sound broker fails, too; replay with: make sim SEED={seed}");
    }
    println!("the sound broker plays these {seeds} stories to their end");
    let survivors: Vec<&Mutant> =
        hunted.iter().filter(|(_, caught)| caught.is_none()).map(|(mutant, _)| mutant).collect();
    assert!(survivors.is_empty(), "not caught: {survivors:?}; play one with: make sim-mutants MUTANT=name");
}
