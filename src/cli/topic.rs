//! `ringmq topic`: create, list, describe and delete topics of a running broker, of any Kafka broker.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::client::{Client, check};
use super::output::{Output, did_you_mean, output, table};
use crate::kafka::protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig};
use crate::kafka::protocol::messages::delete_topics::DeleteTopicState;
use crate::kafka::protocol::messages::describe_configs::{
    DescribeConfigsResource, config_source, resource_type,
};
use crate::kafka::protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic, timestamp};
use crate::kafka::protocol::messages::metadata::{
    MetadataRequestTopic, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::kafka::protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    DescribeConfigsRequest, DescribeConfigsResponse, ListOffsetsRequest, ListOffsetsResponse,
    MetadataRequest, MetadataResponse,
};
use crate::kafka::protocol::{Array, ErrorCode};

/// Create, list, describe and delete topics
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ringmq topic create orders --partitions 8 --config retention.ms=86400000
  ringmq topic list --json
  ringmq topic describe orders
  ringmq topic delete orders --if-exists")]
pub struct TopicArgs {
    /// The broker to ask
    #[arg(long, global = true, default_value = "127.0.0.1:9092", value_name = "HOST:PORT")]
    bootstrap: String,
    /// Print one JSON document, for scripts
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a topic
    Create(CreateArgs),
    /// List all topics
    List,
    /// Show the partitions of a topic, their offsets, and what is configured
    Describe {
        name: String,
        /// Show the configs that have their defaults too
        #[arg(long)]
        all_configs: bool,
    },
    /// Delete topics, with all their records
    Delete {
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// A topic that does not exist is no error
        #[arg(long)]
        if_exists: bool,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    name: String,
    /// How many partitions; the broker's default if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// A config of the topic; may be repeated
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = parse_pair)]
    configs: Vec<(String, String)>,
    /// A topic that exists already is no error, whatever its partitions and configs
    #[arg(long)]
    if_not_exists: bool,
    /// Only say whether it could be created
    #[arg(long)]
    validate_only: bool,
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is expected")?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

pub fn run(args: TopicArgs) -> anyhow::Result<()> {
    let mut client = Client::connect(&args.bootstrap)?;
    super::print(&execute(&mut client, &args)?)
}

/// Does what is asked for and returns what is to be printed.
fn execute(client: &mut Client, args: &TopicArgs) -> anyhow::Result<String> {
    match &args.action {
        Action::Create(create) => output(args.json, &create_topic(client, create)?),
        Action::List => output(args.json, &list_topics(client)?),
        Action::Describe { name, all_configs } => {
            output(args.json, &describe_topic(client, name, *all_configs)?)
        }
        Action::Delete { names, if_exists } => output(args.json, &delete_topics(client, names, *if_exists)?),
    }
}

#[derive(Serialize)]
struct Created {
    name: String,
    /// `created`, `exists` or `valid`.
    result: &'static str,
}

impl Output for Created {
    fn text(&self) -> String {
        match self.result {
            "exists" => format!("{} exists already\n", self.name),
            "valid" => format!("{} could be created\n", self.name),
            _ => format!("{} created\n", self.name),
        }
    }
}

fn create_topic(client: &mut Client, args: &CreateArgs) -> anyhow::Result<Created> {
    let configs = args.configs.iter().map(|(name, value)| CreatableTopicConfig { name, value: Some(value) });
    let topic = CreatableTopic {
        name: &args.name,
        num_partitions: args.partitions.unwrap_or(-1),
        replication_factor: -1,
        configs: configs.collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: Array::from_elem(topic, 1),
        validate_only: args.validate_only,
        ..Default::default()
    };
    let response: CreateTopicsResponse<'_> = client.ask(&request)?;
    let result = response.topics.first().context("the broker says nothing about the topic")?;
    let name = args.name.clone();
    if result.error_code == ErrorCode::TOPIC_ALREADY_EXISTS && args.if_not_exists {
        return Ok(Created { name, result: "exists" });
    }
    check(result.error_code, result.error_message).with_context(|| format!("create topic {name:?}"))?;
    Ok(Created { name, result: if args.validate_only { "valid" } else { "created" } })
}

#[derive(Serialize)]
struct TopicLine {
    name: String,
    id: String,
    partitions: usize,
}

#[derive(Serialize)]
#[serde(transparent)]
struct TopicList(Vec<TopicLine>);

impl Output for TopicList {
    fn text(&self) -> String {
        let row = |topic: &TopicLine| [topic.name.clone(), topic.partitions.to_string(), topic.id.clone()];
        table(["TOPIC", "PARTITIONS", "ID"], self.0.iter().map(row))
    }
}

fn list_topics(client: &mut Client) -> anyhow::Result<TopicList> {
    let response: MetadataResponse<'_> = client.ask(&MetadataRequest::default())?;
    let line = |topic: &MetadataResponseTopic<'_>| TopicLine {
        name: topic.name.unwrap_or_default().to_owned(),
        id: topic.topic_id.to_string(),
        partitions: topic.partitions.len(),
    };
    let mut topics: Vec<_> = response.topics.iter().map(line).collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(TopicList(topics))
}

#[derive(Serialize)]
struct Described {
    name: String,
    id: String,
    partitions: Vec<PartitionLine>,
    configs: Vec<ConfigLine>,
}

#[derive(Serialize)]
struct PartitionLine {
    partition: i32,
    leader: i32,
    leader_epoch: i32,
    /// Offset of the first record, and of the one to come; null when the broker did not say.
    start: Option<i64>,
    end: Option<i64>,
}

#[derive(Serialize)]
struct ConfigLine {
    name: String,
    value: Option<String>,
    is_default: bool,
}

impl Output for Described {
    fn text(&self) -> String {
        let offset = |offset: Option<i64>| offset.map_or("?".to_owned(), |offset| offset.to_string());
        let partition = |line: &PartitionLine| {
            let numbers = [line.partition, line.leader, line.leader_epoch].map(|number| number.to_string());
            let [partition, leader, epoch] = numbers;
            [partition, leader, epoch, offset(line.start), offset(line.end)]
        };
        let partitions = self.partitions.iter().map(partition);
        let mut text = format!("topic {}, id {}\n\n", self.name, self.id);
        text += &table(["PARTITION", "LEADER", "EPOCH", "START", "END"], partitions);
        if !self.configs.is_empty() {
            let config = |line: &ConfigLine| {
                let origin = if line.is_default { "default" } else { "set" };
                [line.name.clone(), line.value.clone().unwrap_or_default(), origin.to_owned()]
            };
            text += "\n";
            text += &table(["CONFIG", "VALUE", "ORIGIN"], self.configs.iter().map(config));
        }
        text
    }
}

fn describe_topic(client: &mut Client, name: &str, all_configs: bool) -> anyhow::Result<Described> {
    let topic = MetadataRequestTopic { name: Some(name), ..Default::default() };
    let request = MetadataRequest {
        topics: Some(Array::from_elem(topic, 1)),
        // Looking must not create.
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let response: MetadataResponse<'_> = client.ask(&request)?;
    let topic = response.topics.first().context("the broker says nothing about the topic")?;
    if topic.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
        drop(response);
        bail!("there is no topic {name:?}{}", nearest(client, name)?);
    }
    check(topic.error_code, None).with_context(|| format!("describe topic {name:?}"))?;
    let line = |partition: &MetadataResponsePartition| PartitionLine {
        partition: partition.partition_index,
        leader: partition.leader_id,
        leader_epoch: partition.leader_epoch,
        start: None,
        end: None,
    };
    let mut partitions: Vec<_> = topic.partitions.iter().map(line).collect();
    let id = topic.topic_id.to_string();
    drop(response);

    partitions.sort_by_key(|partition| partition.partition);
    let indexes: Vec<i32> = partitions.iter().map(|partition| partition.partition).collect();
    let starts = offsets(client, name, &indexes, timestamp::EARLIEST)?;
    let ends = offsets(client, name, &indexes, timestamp::LATEST)?;
    for line in &mut partitions {
        let find = |offsets: &BTreeMap<i32, i64>| offsets.get(&line.partition).copied();
        (line.start, line.end) = (find(&starts), find(&ends));
    }
    let mut configs = configs(client, name)?;
    configs.retain(|config| all_configs || !config.is_default);
    Ok(Described { name: name.to_owned(), id, partitions, configs })
}

/// "did you mean ...", if there is something similar.
fn nearest(client: &mut Client, name: &str) -> anyhow::Result<String> {
    let topics = list_topics(client)?.0;
    Ok(did_you_mean(name, topics.iter().map(|topic| topic.name.as_str())))
}

/// The offset at one end of each partition that has an answer.
fn offsets(
    client: &mut Client,
    name: &str,
    indexes: &[i32],
    timestamp: i64,
) -> anyhow::Result<BTreeMap<i32, i64>> {
    let asked = indexes.iter().map(|partition_index| ListOffsetsPartition {
        partition_index: *partition_index,
        timestamp,
        ..Default::default()
    });
    let topics = Array::from_elem(ListOffsetsTopic { name, partitions: asked.collect() }, 1);
    let response: ListOffsetsResponse<'_> =
        client.ask(&ListOffsetsRequest { topics, ..Default::default() })?;
    let found = response.topics.iter().flat_map(|topic| &topic.partitions);
    let found = found.filter(|partition| !partition.error_code.is_error());
    Ok(found.map(|partition| (partition.partition_index, partition.offset)).collect())
}

fn configs(client: &mut Client, name: &str) -> anyhow::Result<Vec<ConfigLine>> {
    let resource = DescribeConfigsResource {
        resource_type: resource_type::TOPIC,
        resource_name: name,
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest { resources: Array::from_elem(resource, 1), ..Default::default() };
    let response: DescribeConfigsResponse<'_> = client.ask(&request)?;
    let result = response.results.first().context("the broker says nothing about the configs")?;
    check(result.error_code, result.error_message).with_context(|| format!("configs of topic {name:?}"))?;
    let configs = result.configs.iter().map(|config| ConfigLine {
        name: config.name.to_owned(),
        value: config.value.map(str::to_owned),
        is_default: config.config_source != config_source::DYNAMIC_TOPIC,
    });
    Ok(configs.collect())
}

#[derive(Serialize)]
struct Deleted {
    deleted: Vec<String>,
    missing: Vec<String>,
}

impl Output for Deleted {
    fn text(&self) -> String {
        let deleted = self.deleted.iter().map(|name| format!("{name} deleted\n"));
        let missing = self.missing.iter().map(|name| format!("{name} did not exist\n"));
        deleted.chain(missing).collect()
    }
}

fn delete_topics(client: &mut Client, names: &[String], if_exists: bool) -> anyhow::Result<Deleted> {
    // By name, in the field of whichever version it will be.
    let topics = names.iter().map(|name| DeleteTopicState { name: Some(name), ..Default::default() });
    let request = DeleteTopicsRequest {
        topics: topics.collect(),
        topic_names: names.iter().map(String::as_str).collect(),
        timeout_ms: 60_000,
    };
    let response: DeleteTopicsResponse<'_> = client.ask(&request)?;
    let mut result = Deleted { deleted: Vec::new(), missing: Vec::new() };
    let mut failures = Vec::new();
    for topic in &response.responses {
        let name = topic.name.unwrap_or_default().to_owned();
        if topic.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION && if_exists {
            result.missing.push(name);
        } else if let Err(error) = check(topic.error_code, topic.error_message) {
            failures.push(format!("{name:?}: {error}"));
        } else {
            result.deleted.push(name);
        }
    }
    if !failures.is_empty() {
        // The others are gone all the same, and the user has to know.
        bail!("delete topic {}\n{}", failures.join("; "), result.text().trim_end());
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread::JoinHandle;

    use clap::Parser;
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kafka::handlers::testing::{World, topic_id};
    use crate::kafka::protocol::wire::Writer;
    use crate::kafka::protocol::{Reader, RequestHeader, ResponseHeader, frame};
    use crate::metadata::record::MetaRecord;
    use crate::model::{Offset, Term};
    use crate::shard::call::{AdminCall, AdminError, Answer, Call, CreatedTopic, FoundOffset, OffsetSpec};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: TopicArgs,
    }

    /// The handlers behind a socket, with a shard that answers as if it stored something. The thread ends
    /// with its one connection.
    struct Broker {
        client: Client,
        thread: Option<JoinHandle<()>>,
    }

    impl Broker {
        fn start() -> Broker {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
            let address = listener.local_addr().expect("bound");
            let thread = std::thread::spawn(move || {
                let world = World::with_topics(&["orders", "users"]);
                let (mut stream, _) = listener.accept().expect("the client connects");
                while let Ok(()) = serve(&world, &mut stream) {}
            });
            let client = Client::connect(&address.to_string()).expect("the broker answers");
            Broker { client, thread: Some(thread) }
        }

        fn run(&mut self, line: &str) -> String {
            let line = Line::try_parse_from(std::iter::once("topic").chain(line.split_whitespace()));
            match execute(&mut self.client, &line.expect("a valid command line").args) {
                Ok(text) => text,
                Err(error) => format!("error: {error:#}\n"),
            }
        }

        fn check(&mut self, line: &str, expected: &Expect) {
            expected.assert_eq(&self.run(line));
        }
    }

    impl Drop for Broker {
        fn drop(&mut self) {
            self.client.hang_up();
            let thread = self.thread.take().expect("is joined once");
            thread.join().expect("the broker does not panic");
        }
    }

    fn serve(world: &World, stream: &mut TcpStream) -> io::Result<()> {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut request)?;
        let mut reader = Reader::new(&request);
        let header = RequestHeader::decode(&mut reader).expect("our own");
        let body = &request[request.len() - reader.left()..];
        let body = world.ask_bytes(header.api, header.version, body, |_, call| answer(world, call));

        let mut response = Vec::new();
        let mut writer = Writer::new(&mut response);
        let start = frame::begin(&mut writer);
        ResponseHeader { correlation_id: header.correlation_id }.encode(
            &mut writer,
            header.api,
            header.version,
        );
        frame::end(&mut writer, start, body.len());
        response.extend_from_slice(&body);
        stream.write_all(&response)
    }

    fn answer(world: &World, call: Call) -> Answer {
        match call {
            Call::Admin(AdminCall::CreateTopic { name, configs, validate_only, .. }) => {
                if world.catalog.borrow().topic(&name).is_some() {
                    return Answer::CreateTopic(Err(AdminError::TopicExists));
                }
                let configs: Vec<_> = configs
                    .iter()
                    .filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?)))
                    .collect();
                if !validate_only {
                    world.create(&name, &configs);
                }
                Answer::CreateTopic(Ok(CreatedTopic { id: topic_id(&name), partitions: 3 }))
            }
            Call::Admin(AdminCall::DeleteTopic { topic }) => {
                world.apply(MetaRecord::TopicDeleted { id: topic });
                Answer::DeleteTopic(Ok(()))
            }
            Call::ListOffset { partition, spec } => {
                let end = if spec == OffsetSpec::Latest { 1_000 } else { 0 };
                let offset = Offset(end + i64::from(partition.index));
                Answer::ListOffset(Ok(Some(FoundOffset { offset, timestamp: -1, term: Term(5) })))
            }
            call => panic!("{call:?}"),
        }
    }

    #[test]
    fn the_life_of_a_topic() {
        let mut broker = Broker::start();
        broker.check(
            "create web-logs --partitions 3 --config retention.ms=5",
            &expect![[r#"
            web-logs created
        "#]],
        );
        broker.check(
            "create web-logs",
            &expect![[r#"
            error: create topic "web-logs": topic already exists (TOPIC_ALREADY_EXISTS(36))
        "#]],
        );
        broker.check(
            "create web-logs --if-not-exists",
            &expect![[r#"
            web-logs exists already
        "#]],
        );
        broker.check(
            "create other --validate-only",
            &expect![[r#"
            other could be created
        "#]],
        );
        broker.check("create other --config retention.ns=5", &expect![[r#"
            error: create topic "other": unknown topic config "retention.ns", did you mean "retention.ms"? (INVALID_CONFIG(40))
        "#]]);
        broker.check(
            "list",
            &expect![[r#"
            TOPIC     PARTITIONS  ID
            orders    3           6f6f6f6f-6f6f-6f6f-6f6f-6f6f6f6f6f6f
            users     3           75757575-7575-7575-7575-757575757575
            web-logs  3           77777777-7777-7777-7777-777777777777
        "#]],
        );
        broker.check(
            "describe web-logs",
            &expect![[r#"
            topic web-logs, id 77777777-7777-7777-7777-777777777777

            PARTITION  LEADER  EPOCH  START  END
            0          7       5      0      1000
            1          7       6      1      1001
            2          7       5      2      1002

            CONFIG        VALUE  ORIGIN
            retention.ms  5      set
        "#]],
        );
        broker.check(
            "describe web-log",
            &expect![[r#"
            error: there is no topic "web-log", did you mean "web-logs"?
        "#]],
        );
        broker.check(
            "describe ???",
            &expect![[r#"
            error: describe topic "???": INVALID_TOPIC_EXCEPTION(17)
        "#]],
        );
        broker.check(
            "delete web-logs",
            &expect![[r#"
            web-logs deleted
        "#]],
        );
        broker.check(
            "delete users web-logs",
            &expect![[r#"
            error: delete topic "web-logs": no such topic (UNKNOWN_TOPIC_OR_PARTITION(3))
            users deleted
        "#]],
        );
        broker.check(
            "delete web-logs --if-exists",
            &expect![[r#"
            web-logs did not exist
        "#]],
        );
        broker.check(
            "list",
            &expect![[r#"
            TOPIC   PARTITIONS  ID
            orders  3           6f6f6f6f-6f6f-6f6f-6f6f-6f6f6f6f6f6f
        "#]],
        );
    }

    #[test]
    fn json_for_scripts() {
        let mut broker = Broker::start();
        broker.check(
            "create a --json",
            &expect![[r#"
            {
              "name": "a",
              "result": "created"
            }
        "#]],
        );
        broker.check(
            "--json list",
            &expect![[r#"
            [
              {
                "name": "a",
                "id": "61616161-6161-6161-6161-616161616161",
                "partitions": 3
              },
              {
                "name": "orders",
                "id": "6f6f6f6f-6f6f-6f6f-6f6f-6f6f6f6f6f6f",
                "partitions": 3
              },
              {
                "name": "users",
                "id": "75757575-7575-7575-7575-757575757575",
                "partitions": 3
              }
            ]
        "#]],
        );
        broker.check(
            "delete a b --if-exists --json",
            &expect![[r#"
            {
              "deleted": [
                "a"
              ],
              "missing": [
                "b"
              ]
            }
        "#]],
        );
        let described: serde_json::Value =
            serde_json::from_str(&broker.run("describe orders --json --all-configs")).expect("JSON");
        assert_eq!(described["partitions"][1]["end"], 1_001);
        assert_eq!(described["partitions"][1]["leader_epoch"], 6);
        assert!(described["configs"].as_array().is_some_and(|configs| configs.len() > 30));
    }

    #[test]
    fn nobody_there() {
        // A port that was free a moment ago, and that nobody listens on.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("bound").to_string();
        drop(listener);
        let error = Client::connect(&address).err().expect("refused").to_string();
        assert!(error.contains(&address) && error.contains("ringmq server"), "{error}");
        assert!(Client::connect("no-port").is_err());
    }

    #[test]
    fn wrong_usage() {
        for line in
            ["", "create", "delete", "create t --partitions 0", "create t --config retention.ms", "describe"]
        {
            let line = std::iter::once("topic").chain(line.split_whitespace());
            assert!(Line::try_parse_from(line).is_err());
        }
    }
}
