//! Machines that break one rule each: weeks that do not notice them prove nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::weeks;
use crate::base::mutant::{self, Mutant};

/// Seeds that a mutant must survive to count as not caught.
const SEEDS: u64 = 200;

#[test]
fn mutants_are_caught() {
    let only = std::env::var("RINGMQ_SIM_MUTANT").unwrap_or_default();
    let wanted = |mutant: &&Mutant| only.is_empty() || format!("{mutant:?}") == only;
    let of_groups = Mutant::OF_GROUPS.iter().filter(wanted).count();
    assert!(of_groups > 0 || Mutant::ALL.iter().any(|one| wanted(&one)), "no mutant is called {only}");
    let mut survivors = Vec::new();
    for mutant in Mutant::OF_GROUPS.iter().filter(wanted) {
        mutant::set(Some(*mutant));
        let fails = |seed: &u64| catch_unwind(AssertUnwindSafe(|| weeks::play(*seed))).is_err();
        let caught = (0..SEEDS).find(fails);
        mutant::set(None);
        match caught {
            Some(seed) => {
                println!("{:<24} {:>7}  caught above", format!("{mutant:?}"), seed + 1);
                // The sound machine plays the same seed to its end.
                weeks::play(seed);
            }
            None => survivors.push(mutant),
        }
    }
    assert!(survivors.is_empty(), "not caught: {survivors:?}");
}
