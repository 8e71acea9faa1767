//! DescribeTopicPartitions: topics in the order of their names, page by page. A page ends after so many
//! partitions and says with which one the next begins.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::Outcome;
use crate::kafka::context::Context;
use crate::kafka::protocol::messages::describe_topic_partitions::{
    Cursor, DescribedPartition, DescribedTopic,
};
use crate::kafka::protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{Array, ErrorCode, Message, operations};
use crate::metadata::topic::{Topic, validate_name};

/// Kafka's `max.request.partition.size.limit`.
pub const PARTITIONS_MAX: usize = 2000;

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: DescribeTopicPartitionsRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let (first_name, first_index) =
        request.cursor.as_ref().map_or(("", 0), |cursor| (cursor.topic_name, cursor.partition_index));
    let Ok(first_index) = usize::try_from(first_index) else {
        // The response has no place for an error but at the topics.
        let error_code = ErrorCode::INVALID_REQUEST;
        let topics = request.topics.iter().map(|topic| DescribedTopic {
            error_code,
            name: Some(topic.name),
            ..Default::default()
        });
        let topics = topics.collect();
        DescribeTopicPartitionsResponse { topics, ..Default::default() }.encode(out, version);
        return Outcome::Reply;
    };
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, PARTITIONS_MAX);
    let mut page = Page { ctx, left: limit, topics: Array::new(), next: None };
    let start_of = |name: &str| if name == first_name { first_index } else { 0 };
    if request.topics.is_empty() {
        let topics = ctx.catalog.topics().skip_while(|topic| &*topic.name < first_name);
        for topic in topics {
            if !page.put(topic, start_of(&topic.name)) {
                break;
            }
        }
    } else {
        let names: BTreeSet<&str> = request.topics.iter().map(|topic| topic.name).collect();
        for name in names.into_iter().filter(|name| *name >= first_name) {
            let more = match ctx.catalog.topic(name) {
                Some(topic) => page.put(topic, start_of(name)),
                None => page.put_unknown(name),
            };
            if !more {
                break;
            }
        }
    }
    let response =
        DescribeTopicPartitionsResponse { topics: page.topics, next_cursor: page.next, ..Default::default() };
    response.encode(out, version);
    Outcome::Reply
}

struct Page<'a, 'c> {
    ctx: &'c Context<'c>,
    /// Partitions that it has room for.
    left: usize,
    topics: Array<DescribedTopic<'a>>,
    next: Option<Cursor<'a>>,
}

impl<'a> Page<'a, '_> {
    /// A topic's partitions from `start` on, as many as there is room for. Returns whether all of them
    /// are on the page.
    fn put(&mut self, topic: &'a Topic, start: usize) -> bool {
        if self.left == 0 {
            return self.end(&topic.name, start);
        }
        let ctx = self.ctx;
        let partitions = topic.partitions().skip(start).take(self.left).map(|(partition, log)| {
            let leader_id = ctx.broker.of_log(log).id;
            let node = || Array::from_elem(leader_id, 1);
            DescribedPartition {
                partition_index: partition.index,
                leader_id,
                leader_epoch: ctx.log_term(log),
                replica_nodes: node(),
                isr_nodes: node(),
                // Nobody but the leader can lead. Null would be legal, but Java's client trips over it.
                eligible_leader_replicas: Some(Array::new()),
                last_known_elr: Some(Array::new()),
                ..Default::default()
            }
        });
        let partitions: Array<_> = partitions.collect();
        let end = start + partitions.len();
        self.left -= partitions.len();
        self.topics.push(DescribedTopic {
            name: Some(&topic.name),
            topic_id: Uuid::from_bytes(topic.id.0),
            partitions,
            topic_authorized_operations: operations::ALL_OF_TOPIC,
            ..Default::default()
        });
        end >= topic.partitions.len() || self.end(&topic.name, end)
    }

    fn put_unknown(&mut self, name: &'a str) -> bool {
        if self.left == 0 {
            return self.end(name, 0);
        }
        let error_code = match validate_name(name) {
            Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Err(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        };
        self.topics.push(DescribedTopic {
            error_code,
            name: Some(name),
            topic_authorized_operations: operations::ALL_OF_TOPIC,
            ..Default::default()
        });
        true
    }

    /// The next page begins here.
    fn end(&mut self, topic_name: &'a str, index: usize) -> bool {
        let partition_index = i32::try_from(index).unwrap_or(i32::MAX);
        self.next = Some(Cursor { topic_name, partition_index });
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode, topic_id};
    use crate::kafka::protocol::messages::describe_topic_partitions::TopicRequest;

    /// Topics with an error or the indexes of their partitions, and the next cursor.
    type Shown = (Vec<(String, Result<Vec<i32>, ErrorCode>)>, Option<(String, i32)>);

    fn ask(world: &World, names: &[&str], limit: i32, cursor: Option<(&str, i32)>) -> Shown {
        let cursor = cursor.map(|(topic_name, partition_index)| Cursor { topic_name, partition_index });
        let request = DescribeTopicPartitionsRequest {
            topics: names.iter().map(|name| TopicRequest { name }).collect(),
            response_partition_limit: limit,
            cursor,
        };
        let body = world.reply(0, &request);
        let response: DescribeTopicPartitionsResponse<'_> = decode(&body, 0);
        let topics = response.topics.iter().map(|topic| {
            let indexes = topic.partitions.iter().map(|partition| partition.partition_index).collect();
            let shown = if topic.error_code.is_error() { Err(topic.error_code) } else { Ok(indexes) };
            (topic.name.expect("asked for by name").to_owned(), shown)
        });
        let next = response.next_cursor.as_ref();
        (topics.collect(), next.map(|next| (next.topic_name.to_owned(), next.partition_index)))
    }

    fn topic(name: &str, indexes: &[i32]) -> (String, Result<Vec<i32>, ErrorCode>) {
        (name.to_owned(), Ok(indexes.to_vec()))
    }

    #[test]
    fn pages() {
        let world = World::with_topics(&["b", "c", "a"]);
        let all = vec![topic("a", &[0, 1, 2]), topic("b", &[0, 1, 2]), topic("c", &[0, 1, 2])];
        let next = |name: &str, index| Some((name.to_owned(), index));
        assert_eq!(ask(&world, &[], 2000, None), (all.clone(), None));
        assert_eq!(ask(&world, &[], i32::MAX, None), (all.clone(), None));
        assert_eq!(ask(&world, &[], 9, None), (all, None), "full to the last, and nothing follows");
        assert_eq!(ask(&world, &[], 4, None), (vec![topic("a", &[0, 1, 2]), topic("b", &[0])], next("b", 1)));
        assert_eq!(
            ask(&world, &[], 4, Some(("b", 1))),
            (vec![topic("b", &[1, 2]), topic("c", &[0, 1])], next("c", 2))
        );
        assert_eq!(ask(&world, &[], 4, Some(("c", 2))), (vec![topic("c", &[2])], None));
        assert_eq!(ask(&world, &[], 3, None), (vec![topic("a", &[0, 1, 2])], next("b", 0)));
        for limit in [1, 0, -1, i32::MIN] {
            assert_eq!(ask(&world, &[], limit, None), (vec![topic("a", &[0])], next("a", 1)));
        }
        // A topic that was deleted since the last page.
        assert_eq!(ask(&world, &[], 3, Some(("aa", 7))), (vec![topic("b", &[0, 1, 2])], next("c", 0)));
        assert_eq!(ask(&world, &[], 9, Some(("c", i32::MAX))), (vec![topic("c", &[])], None));
        assert_eq!(ask(&world, &[], 9, Some(("d", 0))), (vec![], None));
    }

    #[test]
    fn topics_by_name() {
        let world = World::with_topics(&["a", "b"]);
        let longest = "x".repeat(i16::MAX as usize);
        let unknown = |name: &str| (name.to_owned(), Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
        let invalid = |name: &str| (name.to_owned(), Err(ErrorCode::INVALID_TOPIC_EXCEPTION));
        assert_eq!(
            ask(&world, &["z", "b", "", "b", "a/b", &longest], 2000, None),
            (
                vec![invalid(""), invalid("a/b"), topic("b", &[0, 1, 2]), invalid(&longest), unknown("z")],
                None
            )
        );
        let page = ask(&world, &["b", "c", "a"], 6, Some(("b", 0)));
        assert_eq!(page, (vec![topic("b", &[0, 1, 2]), unknown("c")], None));
        let page = ask(&world, &["b", "c"], 3, None);
        assert_eq!(page, (vec![topic("b", &[0, 1, 2])], Some(("c".to_owned(), 0))));
    }

    #[test]
    fn a_cursor_that_is_none() {
        let world = World::with_topics(&["a"]);
        let refused = ("a".to_owned(), Err(ErrorCode::INVALID_REQUEST));
        assert_eq!(ask(&world, &["a"], 9, Some(("a", -1))), (vec![refused], None));
        assert_eq!(ask(&world, &[], 9, Some(("", i32::MIN))), (vec![], None));
    }

    #[test]
    fn a_partition_and_its_leader() {
        let body = World::with_topics(&["a"]).reply(0, &DescribeTopicPartitionsRequest::default());
        let response: DescribeTopicPartitionsResponse<'_> = decode(&body, 0);
        assert_eq!(response.topics[0].topic_id.into_bytes(), topic_id("a").0);
        let expected = DescribedPartition {
            partition_index: 1,
            leader_id: 7,
            leader_epoch: 6,
            replica_nodes: [7].into(),
            isr_nodes: [7].into(),
            eligible_leader_replicas: Some(Array::new()),
            last_known_elr: Some(Array::new()),
            ..Default::default()
        };
        assert_eq!(response.topics[0].partitions[1], expected);
    }

    #[test]
    fn what_is_allowed_is_told_unasked() {
        let world = World::with_topics(&["a"]);
        let told = |cursor| {
            let topics = ["a", "a/b", "none"].iter().map(|name| TopicRequest { name }).collect();
            let body =
                world.reply(0, &DescribeTopicPartitionsRequest { topics, cursor, ..Default::default() });
            let response: DescribeTopicPartitionsResponse<'_> = decode(&body, 0);
            response.topics.iter().map(|topic| topic.topic_authorized_operations).collect::<Vec<_>>()
        };
        assert_eq!(told(None), [operations::ALL_OF_TOPIC; 3]);
        let refused = Cursor { topic_name: "a", partition_index: -1 };
        assert_eq!(told(Some(refused)), [operations::OMITTED; 3]);
    }
}
