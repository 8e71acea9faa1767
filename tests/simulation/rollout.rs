//! Under which protocols the processes of a group can share, and how an operator changes that: process by process,
//! since a group goes on meanwhile.
//!
//! ```text
//!   step 0   eager, some know another eager one and prefer it
//!   step 1   eager and cooperative, in either order: all are eager still
//!   step 2   cooperative
//! ```
//!
//! A step begins when everybody has done the one before, so all always have a protocol in common (KIP-429).

use super::assignor::Protocol;

const EAGER: [Protocol; 3] = [Protocol::Range, Protocol::RoundRobin, Protocol::Sticky];

#[derive(Debug)]
pub enum Rollout {
    Constant(Protocol),
    Change { from: Protocol, other: Protocol, step: usize },
}

impl Rollout {
    /// Of a group of a seed. Five seeds in a row have both groups in every way.
    pub fn of(seed: u64, group: usize) -> Rollout {
        let pick = (2 * seed + group as u64) % 5;
        match pick as usize {
            eager @ 0..3 => Rollout::Constant(EAGER[eager]),
            3 => Rollout::Constant(Protocol::Cooperative),
            _ => {
                let from = (seed / 5) as usize;
                Rollout::Change { from: EAGER[from % 3], other: EAGER[(from + 1) % 3], step: 0 }
            }
        }
    }

    /// What the group's process of this number supports when it starts, the best first.
    pub fn supported(&self, number: usize) -> Vec<Protocol> {
        let first = number.is_multiple_of(2);
        match *self {
            Rollout::Constant(protocol) => vec![protocol],
            Rollout::Change { from, step: 0, .. } if first => vec![from],
            Rollout::Change { from, other, step: 0 } => vec![other, from],
            Rollout::Change { from, step: 1, .. } if first => vec![from, Protocol::Cooperative],
            Rollout::Change { from, step: 1, .. } => vec![Protocol::Cooperative, from],
            Rollout::Change { .. } => vec![Protocol::Cooperative],
        }
    }

    /// Processes that start from now on are a step further.
    pub fn go_on(&mut self) {
        if let Rollout::Change { step, .. } = self {
            *step += 1;
        }
    }
}
