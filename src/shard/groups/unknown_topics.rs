//! Topics that something was committed for and that the catalog does not know: they are gone, or known
//! elsewhere and new here.

use rustc_hash::FxHashMap;

use crate::model::TopicId;

/// A topic that clients know of is known to every shard after so many steps of expiry. They come a second of
/// the monotonic clock apart or more, and mail is read between them: neither a clock that is set nor a machine
/// that stood still can make a topic that is on its way look like one that is gone.
const TOPIC_KNOWN_STEPS: u64 = 60;

#[derive(Default)]
pub struct UnknownTopics {
    /// The step of expiry that was the first to find it so, and the last one.
    found: FxHashMap<TopicId, (u64, u64)>,
    step: u64,
    /// The first step of this pass over all groups.
    pass: u64,
}

impl UnknownTopics {
    /// A step of expiry begins. With a new pass, those that the last one did not find are forgotten.
    pub fn begin_step(&mut self, new_pass: bool) {
        self.step += 1;
        if new_pass {
            let last_pass = std::mem::replace(&mut self.pass, self.step);
            self.found.retain(|_, (_, last)| *last >= last_pass);
        }
    }

    /// The catalog does not know the topic. Has that been so for long enough?
    pub fn is_gone(&mut self, topic: TopicId) -> bool {
        let (first, last) = self.found.entry(topic).or_insert((self.step, self.step));
        *last = self.step;
        self.step - *first >= TOPIC_KNOWN_STEPS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_that_are_not_found_unknown_any_more_are_not_remembered() {
        let topic = |number| TopicId([number; 16]);
        let mut unknown = UnknownTopics::default();
        // A pass of three steps. The second topic comes to be known, and goes.
        for step in 0..TOPIC_KNOWN_STEPS {
            unknown.begin_step(step % 3 == 0);
            assert!(!unknown.is_gone(topic(1)), "{step}");
            assert!(!(step < 10 && unknown.is_gone(topic(2))), "{step}");
            assert_eq!(unknown.found.len(), if step < 15 { 2 } else { 1 }, "{step}");
        }
        unknown.begin_step(true);
        assert!(unknown.is_gone(topic(1)) && !unknown.is_gone(topic(2)));
    }
}
