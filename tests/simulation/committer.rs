//! A consumer group's memory: commits rising offsets and asks for them.

use ringmq::kafka::protocol::ErrorCode;
use ringmq::kafka::protocol::api::Response;
use ringmq::kafka::protocol::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ringmq::kafka::protocol::messages::offset_fetch::OffsetFetchRequestTopic;
use ringmq::kafka::protocol::messages::{OffsetCommitRequest, OffsetFetchRequest};

use super::coverage::Event;
use super::ledger::Life;
use super::link::{Heard, Link, decode};
use super::stage::{Actor, Stage};

/// A topic that nobody deletes; its first partition.
const TOPIC: &str = "stays-0";

enum Note {
    Commit(i64),
    /// The last acked commit when the request left.
    Fetch(i64),
}

pub struct Committer {
    group: String,
    link: Link<Note>,
    sent: i64,
    /// -1: none.
    acked: i64,
}

impl Committer {
    pub fn new(number: usize) -> Committer {
        Committer { group: format!("group-{number}"), link: Link::new(), sent: -1, acked: -1 }
    }
}

impl Actor for Committer {
    fn socket(&self) -> Option<u64> {
        self.link.id()
    }

    fn act(&mut self, stage: &mut Stage) -> u64 {
        let exists = stage.ledger.topics.first().is_some_and(|topic| topic.life == Life::Exists);
        if !exists || !self.link.ready(stage) || self.link.in_flight() > 0 {
            return 0;
        }
        if stage.rng.one_in(2) {
            self.sent += 1;
            let mut request = OffsetCommitRequest { group_id: &self.group, ..Default::default() };
            request.topics.push(OffsetCommitRequestTopic {
                name: TOPIC,
                partitions: [OffsetCommitRequestPartition {
                    committed_offset: self.sent,
                    committed_metadata: Some("here"),
                    ..Default::default()
                }]
                .into_iter()
                .collect(),
            });
            self.link.ask(7, &request, Note::Commit(self.sent));
        } else {
            let topic = OffsetFetchRequestTopic { name: TOPIC, partition_indexes: [0].into_iter().collect() };
            let request = OffsetFetchRequest {
                group_id: &self.group,
                topics: Some([topic].into_iter().collect()),
                ..Default::default()
            };
            self.link.ask(6, &request, Note::Fetch(self.acked));
        }
        1
    }

    fn hear(&mut self, stage: &mut Stage) {
        loop {
            match self.link.hear(stage) {
                Heard::Response { note, frame, api, version } => match (note, decode(&frame, api, version)) {
                    (Note::Commit(offset), Response::OffsetCommit(response)) => {
                        match response.topics[0].partitions[0].error_code {
                            ErrorCode::NONE => {
                                stage.coverage.count(Event::GroupCommits);
                                self.acked = offset;
                            }
                            ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::NOT_COORDINATOR => {
                                stage.storage_error("offset commit");
                            }
                            error => panic!("{}: commit: {error:?}", self.group),
                        }
                    }
                    (Note::Fetch(acked), Response::OffsetFetch(response)) => {
                        if response.error_code == ErrorCode::COORDINATOR_NOT_AVAILABLE {
                            stage.storage_error("offset fetch");
                            continue;
                        }
                        assert_eq!(response.error_code, ErrorCode::NONE);
                        let answer = &response.topics[0].partitions[0];
                        assert_eq!(answer.error_code, ErrorCode::NONE);
                        let offset = answer.committed_offset;
                        assert!(offset >= acked, "{}: {offset} after {acked} was acked", self.group);
                        assert!(offset <= self.sent, "{}: {offset} was never committed", self.group);
                        // Whoever read it relies on it.
                        self.acked = self.acked.max(offset);
                        stage.coverage.count(Event::GroupFetches);
                    }
                    _ => panic!("an answer of another kind"),
                },
                Heard::Broken => {}
                Heard::Nothing => return,
            }
        }
    }

    fn reset(&mut self) {
        self.link.reset();
    }

    fn is_settled(&self) -> bool {
        self.link.in_flight() == 0
    }
}
