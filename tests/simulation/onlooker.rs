//! Somebody who is in no group, and looks at what all have committed.

use std::time::Duration;

use ringmq::kafka::protocol::ErrorCode;
use ringmq::kafka::protocol::api::Response;
use ringmq::model::Nanos;

use super::assignor::{Part, all_parts};
use super::coverage::Event;
use super::link::{Heard, Link, decode};
use super::roster::{GROUPS, Offsets, Roster, offsets_of};
use super::stage::Stage;

pub struct Onlooker {
    /// Of each question, the group and what was known to be committed.
    link: Link<(usize, Offsets)>,
    pub acts_at: Nanos,
}

impl Onlooker {
    pub fn new() -> Onlooker {
        Onlooker { link: Link::new(), acts_at: Nanos(0) }
    }

    pub fn socket(&self) -> Option<u64> {
        self.link.id()
    }

    pub fn act(&mut self, stage: &mut Stage, roster: &mut Roster) {
        let now = stage.world.now().mono;
        self.acts_at = now.plus(Duration::from_secs(1 + stage.rng.below(7200)));
        self.hear(stage, roster);
        if !self.link.ready(stage) {
            self.acts_at = now.plus(Duration::from_secs(1));
            return;
        }
        for group in 0..GROUPS {
            let parts: Vec<Part> = all_parts().collect();
            self.link.ask(6, &offsets_of(group, &parts), (group, roster.acked(group)));
        }
    }

    pub fn hear(&mut self, stage: &mut Stage, roster: &mut Roster) {
        loop {
            match self.link.hear(stage) {
                Heard::Response { note: (group, known), frame, api, version } => {
                    let Response::OffsetFetch(response) = decode(&frame, api, version) else {
                        panic!("an answer of another kind")
                    };
                    if response.error_code == ErrorCode::COORDINATOR_NOT_AVAILABLE {
                        stage.storage_error("offset fetch");
                        continue;
                    }
                    assert_eq!(response.error_code, ErrorCode::NONE);
                    roster.fetched(group, &known, &response);
                    stage.coverage.count(Event::MemberAnswers);
                    stage.coverage.count(Event::OffsetsLookedAt);
                }
                Heard::Broken => {}
                Heard::Nothing => return,
            }
        }
    }
}
