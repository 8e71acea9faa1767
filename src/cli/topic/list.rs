//! `ringmq topic list`.

use serde::Serialize;

use super::sizes::Sizes;
use crate::cli::cluster::{Cluster, Topic};
use crate::cli::output::{Output, known, size, table};

#[derive(Serialize)]
struct TopicLine {
    name: String,
    id: String,
    partitions: usize,
    /// What its records take, of one replica; null where brokers do not say.
    bytes: Option<u64>,
}

#[derive(Serialize)]
#[serde(transparent)]
pub struct TopicList {
    topics: Vec<TopicLine>,
    #[serde(skip)]
    gaps: Vec<String>,
}

impl Output for TopicList {
    fn text(&self) -> String {
        let row = |topic: &TopicLine| {
            let bytes = known(topic.bytes.map(size));
            [topic.name.clone(), topic.partitions.to_string(), bytes, topic.id.clone()]
        };
        let mut text = table(["TOPIC", "PARTITIONS", "SIZE", "ID"], self.topics.iter().map(row));
        text += &super::gaps_text(&self.gaps);
        text
    }
}

pub fn list(cluster: &mut Cluster) -> anyhow::Result<TopicList> {
    let topics = cluster.topics()?;
    let sizes = Sizes::ask(cluster, None);
    let line = |topic: Topic| TopicLine {
        id: topic.id.to_string(),
        partitions: topic.leaders.len(),
        bytes: sizes.topic(&topic),
        name: topic.name,
    };
    let topics = topics.into_iter().map(line).collect();
    Ok(TopicList { topics, gaps: sizes.gaps })
}
