//! Shapes that requests share. Most of those about partitions have topics by name, partitions in each, and
//! for every partition either an answer at once or a call.

use std::mem;

use crate::kafka::protocol::{Array, ErrorCode};
use crate::model::LogId;
use crate::shard::call::Call;

/// Why something is not done.
pub(super) struct Refusal {
    pub code: ErrorCode,
    pub text: String,
}

impl Refusal {
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// Code and message of a response; without a refusal, that all is well.
    pub fn parts(refusal: &Option<Self>) -> (ErrorCode, Option<&str>) {
        match refusal {
            Some(refusal) => (refusal.code, Some(&refusal.text)),
            None => (ErrorCode::NONE, None),
        }
    }
}

/// The replies to the partitions of a request, in its order, while calls for some are under way.
pub(super) struct Replies<T> {
    topics: Vec<(String, Array<T>)>,
    /// Topic and partition that call `part` is about, as indexes into the above.
    asked: Vec<(usize, usize)>,
}

impl<T> Replies<T> {
    /// Ask about every partition of `topics`. `find` says which log and what, nothing where the reply is
    /// complete as `reply` makes it, or the error to reply with.
    pub fn ask<'a, P: 'a>(
        topics: impl ExactSizeIterator<Item = (&'a str, &'a [P])>,
        mut find: impl FnMut(&str, &P) -> Result<Option<(LogId, Call)>, ErrorCode>,
        mut reply: impl FnMut(&P, ErrorCode) -> T,
    ) -> (Vec<(LogId, Call)>, Self) {
        let mut calls = Vec::new();
        let mut replies = Self::with_capacity(topics.len());
        for (topic, partitions) in topics {
            replies.topic(topic);
            for partition in partitions {
                match find(topic, partition) {
                    Ok(call) => {
                        replies.push(reply(partition, ErrorCode::NONE));
                        calls.extend(call.inspect(|_| replies.expect_answer()));
                    }
                    Err(error_code) => replies.push(reply(partition, error_code)),
                }
            }
        }
        (calls, replies)
    }

    pub fn with_capacity(topic_count: usize) -> Self {
        Self { topics: Vec::with_capacity(topic_count), asked: Vec::new() }
    }

    /// The partitions that follow are this topic's.
    pub fn topic(&mut self, name: &str) {
        self.topics.push((name.to_owned(), Array::new()));
    }

    /// The reply to the next partition.
    pub fn push(&mut self, reply: T) {
        let (_, partitions) = self.topics.last_mut().expect("a partition follows its topic");
        partitions.push(reply);
    }

    /// The reply that was pushed last will be completed by the answer to the next call.
    fn expect_answer(&mut self) {
        let topic = self.topics.len() - 1;
        self.asked.push((topic, self.topics[topic].1.len() - 1));
    }

    /// The reply that call `part` is about.
    pub fn asked(&mut self, part: u32) -> &mut T {
        let (topic, partition) = self.asked[part as usize];
        &mut self.topics[topic].1[partition]
    }

    /// The replies that the last `count` calls are about.
    pub fn asked_last(&mut self, count: usize) -> impl Iterator<Item = &mut T> {
        let Self { topics, asked } = self;
        let mut asked = asked[asked.len() - count..].iter().peekable();
        let all = topics.iter_mut().enumerate().flat_map(|(topic, (_, replies))| {
            replies.iter_mut().enumerate().map(move |(index, reply)| ((topic, index), reply))
        });
        all.filter_map(move |(at, reply)| asked.next_if(|next| **next == at).map(|_| reply))
    }

    /// Every reply.
    pub fn all(&mut self) -> impl Iterator<Item = &mut T> {
        self.topics.iter_mut().flat_map(|(_, partitions)| partitions)
    }

    /// The replies, topic by topic. They are gone afterwards.
    pub fn drain(&mut self) -> impl Iterator<Item = (&str, Array<T>)> {
        self.topics.iter_mut().map(|(name, partitions)| (name.as_str(), mem::take(partitions)))
    }
}
