//! A broker for tests of the commands: the handlers behind a socket, with a shard that answers as if it stored
//! something.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use expect_test::Expect;

use super::execute;
use crate::cli::cluster::Cluster;
use crate::cli::testing::parse;
use crate::kafka::handlers::testing::{World, topic_id};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{Reader, RequestHeader, ResponseHeader, frame};
use crate::metadata::commands::TopicError;
use crate::metadata::record::MetaRecord;
use crate::metadata::testing::RULES;
use crate::model::{LogId, Offset, Term};
use crate::shard::call::{
    AdminCall, AdminError, Answer, Call, ConfigChanges, CreatedTopic, FoundOffset, OffsetSpec,
};

/// It ends with its one connection.
pub struct Broker {
    cluster: Cluster,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    /// With the topics `orders` and `users`, of three partitions each.
    pub fn start() -> Broker {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("bound");
        let thread = std::thread::spawn(move || {
            let world = World::with_topics(&["orders", "users"]);
            let world = world.advertise(&address.ip().to_string(), address.port());
            let (mut stream, _) = listener.accept().expect("the client connects");
            while let Ok(()) = serve(&world, &mut stream) {}
        });
        let cluster = Cluster::connect(&address.to_string()).expect("the broker answers");
        Broker { cluster, thread: Some(thread) }
    }

    /// What the command prints.
    pub fn run(&mut self, line: &str) -> String {
        match execute(&mut self.cluster, &parse(line).expect("a valid command line")) {
            Ok(text) => text,
            Err(error) => format!("error: {error:#}\n"),
        }
    }

    pub fn check(&mut self, line: &str, expected: &Expect) {
        expected.assert_eq(&self.run(line));
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.cluster.any().hang_up();
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
    let body = world.ask_bytes(header.api, header.version, body, |log, call| answer(world, log, call));

    let mut response = Vec::new();
    let mut writer = Writer::new(&mut response);
    let start = frame::begin(&mut writer);
    ResponseHeader { correlation_id: header.correlation_id }.encode(&mut writer, header.api, header.version);
    frame::end(&mut writer, start, body.len()).expect("fits");
    response.extend_from_slice(&body);
    stream.write_all(&response)
}

fn answer(world: &World, log: LogId, call: Call) -> Answer {
    match call {
        Call::Admin(call) => change(world, call),
        Call::ListOffset { partition, spec } => {
            let end = if spec == OffsetSpec::Latest { 1_000 } else { 0 };
            let offset = Offset(end + i64::from(partition.index));
            Answer::ListOffset(Ok(Some(FoundOffset { offset, timestamp: -1, term: Term(5) })))
        }
        Call::PartitionSizes { partitions } => {
            let catalog = world.catalog.borrow();
            let all = catalog.topics().flat_map(|topic| topic.partitions());
            let here = all.filter(|(_, at)| *at == log).map(|(partition, _)| partition);
            let asked = partitions.unwrap_or_else(|| here.collect());
            let sizes = asked.into_iter().map(|partition| (partition, 1_000 * (partition.index as u64 + 1)));
            Answer::PartitionSizes(Ok(sizes.collect()))
        }
        call => panic!("{call:?}"),
    }
}

/// As the metadata log judges it, but for creations, whose ids would be drawn.
fn change(world: &World, call: AdminCall) -> Answer {
    match call {
        AdminCall::CreateTopic { name, configs, validate_only, .. } => {
            if world.catalog.borrow().topic(&name).is_some() {
                return Answer::CreateTopic(Err(AdminError::TopicExists));
            }
            let configs: Vec<_> =
                configs.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?))).collect();
            if !validate_only {
                world.create(&name, &configs);
            }
            Answer::CreateTopic(Ok(CreatedTopic { id: topic_id(&name), partitions: 3 }))
        }
        AdminCall::DeleteTopic { topic } => {
            world.apply(MetaRecord::TopicDeleted { id: topic });
            Answer::DeleteTopic(Ok(()))
        }
        AdminCall::AddPartitions { topic, count, validate_only } => {
            let judged = world.catalog.borrow().add_partitions(topic, count, &RULES);
            Answer::AddPartitions(apply(world, judged, validate_only))
        }
        AdminCall::AlterConfigs { topic, changes: ConfigChanges::Each(changes), validate_only } => {
            let judged = world.catalog.borrow().alter_configs(topic, &changes, &RULES);
            Answer::AlterConfigs(apply(world, judged, validate_only))
        }
        call => panic!("{call:?}"),
    }
}

fn apply(
    world: &World,
    judged: Result<MetaRecord, TopicError>,
    validate_only: bool,
) -> Result<(), AdminError> {
    let record = judged.map_err(|error| match error {
        TopicError::Config(error) => AdminError::InvalidConfig(error.to_string()),
        error => AdminError::InvalidPartitions(error.to_string()),
    })?;
    if !validate_only {
        world.apply(record);
    }
    Ok(())
}
