use expect_test::{Expect, expect};

use super::*;

fn flag(name: &str, text: &str) -> Assignment {
    let origin = Origin::Flag { flag: "--set".to_owned() };
    Assignment { name: name.to_owned(), text: text.to_owned(), origin }
}

fn file(text: &str) -> Sources {
    Sources { file: Some(("ringmq.toml".into(), text.to_owned())), ..Sources::default() }
}

fn check_error(sources: &Sources, want: Expect) {
    want.assert_eq(&Config::load(sources).expect_err("a wrong configuration").to_string());
}

#[test]
fn the_defaults_are_valid_and_originate_there() {
    let config = Config::load(&Sources::default()).expect("the defaults");
    for key in KEYS {
        assert_eq!(config.origin(key.name), Origin::Default);
    }
}

#[test]
fn flags_win_over_environment_over_file_over_default() {
    let key = "kafka.num_partitions";
    let mut sources = Sources::default();
    let check = |sources: &Sources, want: Expect| {
        let config = Config::load(sources).expect("a good configuration");
        want.assert_eq(&format!("{} from {}", config.kafka.num_partitions, config.origin(key)));
    };
    check(&sources, expect!["1 from default"]);
    sources.file = Some(("dir/ringmq.toml".into(), "# one\n[kafka]\nnum_partitions = 5\n".to_owned()));
    check(&sources, expect!["5 from dir/ringmq.toml:3"]);
    sources.env = vec![("RINGMQ_KAFKA__NUM_PARTITIONS".to_owned(), "6".to_owned())];
    check(&sources, expect!["6 from environment RINGMQ_KAFKA__NUM_PARTITIONS"]);
    sources.flags = vec![flag(key, "7"), flag(key, "8")];
    check(&sources, expect!["8 from flag --set"]);
}

#[test]
fn a_file_may_write_values_in_their_toml_types() {
    let config = Config::load(&file(
        r#"
        [server]
        shards = 2
        cpus = [0, 1]
        poll_spin = 0
        [kafka]
        listen = ["127.0.0.1:0", "[::1]:0"]
        auto_create_topics = false
        connection_idle = 0
        [log]
        retention_bytes = -1
        "#,
    ))
    .expect("a good configuration");
    assert_eq!(config.server.shards, Auto::Given(2));
    assert_eq!(config.show("server.cpus").as_deref(), Some("0-1"));
    assert_eq!(config.kafka.listen.len(), 2);
    assert!(!config.kafka.auto_create_topics);
    assert!(config.kafka.connection_idle.is_zero());
    assert_eq!(config.log.retention_bytes, Limit::Unlimited);
}

#[test]
fn every_mistake_is_reported_with_its_place() {
    check_error(
        &file(
            "shards = 1\n[server]\nshard = 2\n[log]\nsegment_bytes = 1048576\nretention = 7.5\nlisten = 'a:1'\n",
        ),
        expect![[r#"
            the configuration has problems
              ringmq.toml:1: `shards` stands outside of a section: write it below one, for example [server]
              ringmq.toml:3: unknown key `server.shard`: did you mean `server.shards`?
              ringmq.toml:5: log.segment_bytes: `1048576` has no unit: write for example 64MiB
              ringmq.toml:6: log.retention: a number with a fraction is no value of any key
              ringmq.toml:7: unknown key `log.listen`: did you mean `admin.listen`?"#]],
    );
    check_error(
        &file("[server]\nshards = \n"),
        expect![[r#"
        the configuration has a problem
          ringmq.toml:2: not valid TOML: string values must be quoted, expected literal string"#]],
    );
    check_error(
        &file("[log]\nretention = { days = 7 }\nflsh = 'sync'\nzzz = 1"),
        expect![[r#"
        the configuration has problems
          ringmq.toml:2: log.retention: a table is no value of any key
          ringmq.toml:3: unknown key `log.flsh`: did you mean `log.flush`?
          ringmq.toml:4: unknown key `log.zzz`: `ringmq config template` lists all keys"#]],
    );
}

#[test]
fn the_environment_is_checked_too() {
    let ours = ["RINGMQ_SERVER_DATA_DIR", "RINGMQ_KAFKA__LISTNE", "RINGMQ_SHARDS", "RINGMQ_LOG_RETENTON"];
    // Two sections have a `listen`; tools have variables of their own, and so has Kubernetes.
    let others = ["RINGMQ_LISTEN", "RINGMQ_HOME", "RINGMQ_TEST_CACHE", "RINGMQ_SIM_SEED", "PATH"];
    let services =
        ["RINGMQ_SERVICE_HOST", "RINGMQ_PORT_9092_TCP", "RINGMQ_KAFKA_PORT", "RINGMQ_KAFKA_SERVICE_PORT"];
    let env: Vec<_> = ours.into_iter().chain(others).chain(services).collect();
    let env = env.into_iter().map(|name| (name.to_owned(), "x".to_owned())).collect();
    check_error(
        &Sources { env, ..Sources::default() },
        expect![[r#"
        the configuration has problems
          environment RINGMQ_SERVER_DATA_DIR: write RINGMQ_SERVER__DATA_DIR (two underscores between section and key)
          environment RINGMQ_SHARDS: write RINGMQ_SERVER__SHARDS (a key has a section)
          environment RINGMQ_LOG_RETENTON: unknown key `log.retenton`: did you mean `log.retention`? (two underscores between section and key)
          environment RINGMQ_KAFKA__LISTNE: unknown key `kafka.listne`: did you mean `kafka.listen`?"#]],
    );
}

#[test]
fn memory_has_room_for_the_largest_request() {
    let sizes = |flags: Vec<Assignment>| {
        let config = Config::load(&Sources { flags, ..Sources::default() }).expect("a good configuration");
        (config.connection_memory_max() >> 20, config.shard_memory_max() >> 20)
    };
    assert_eq!(sizes(Vec::new()), (132, 512));
    assert_eq!(sizes(vec![flag("kafka.request_bytes_max", "400MiB")]), (432, 864));
    assert_eq!(sizes(vec![flag("kafka.connection_memory_max", "101MiB")]), (101, 512));
    check_error(
        &Sources { flags: vec![flag("kafka.connection_memory_max", "100MiB")], ..Sources::default() },
        expect![[r#"
            the configuration has a problem
              flag --set: kafka.connection_memory_max: `100MiB` does not hold a request: raise it to 1MiB more than kafka.request_bytes_max, or lower that"#]],
    );
    check_error(
        &Sources { flags: vec![flag("kafka.shard_memory_max", "100MiB")], ..Sources::default() },
        expect![[r#"
            the configuration has a problem
              flag --set: kafka.shard_memory_max: `100MiB` is less than one connection may hold: raise it, or lower kafka.connection_memory_max"#]],
    );
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    let flags = vec![
        flag("log.flush", "async"),
        flag("log.commit_depth", "9"),
        flag("server.shards", "3"),
        flag("server.cpus", "0-1"),
        flag("log.segment_bytes", "1000001B"),
        flag("log.retention", "0"),
        flag("log.log_bytes_max", "1MiB"),
        flag("kafka.message_bytes_max", "200MiB"),
        flag("telemetry.log", "ringmq=loud"),
    ];
    check_error(
        &Sources { flags, ..Sources::default() },
        expect![[r#"
        the configuration has problems
          flag --set: server.shards: `3` is more than server.cpus has: give more CPUs, or fewer shards
          flag --set: kafka.message_bytes_max: `200MiB` does not fit into a request: lower it, or raise kafka.request_bytes_max
          flag --set: log.segment_bytes: `1000001B` must be from 1MiB to 16GiB
          flag --set: log.segment_bytes: `1000001B` must be a multiple of 4KiB, the unit of direct IO
          flag --set: log.commit_depth: `9` must be from 1 to 8
          flag --set: kafka.message_bytes_max: `200MiB` does not fit well into a segment: raise log.segment_bytes and log.initial_bytes to twice its size
          flag --set: log.retention: `0` would delete everything at once: give a time, or unlimited
          flag --set: log.log_bytes_max: `1MiB` leaves no room for two segments: raise it, or lower log.segment_bytes and log.initial_bytes
          flag --set: log.flush: `async` is not available yet: an ack always means on stable storage; use sync
          flag --set: telemetry.log: `ringmq=loud` is not a filter (error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5): write for example info"#]],
    );
}

#[test]
fn an_identity_that_nobody_could_reach_is_refused() {
    let flags = vec![
        flag("kafka.advertised_host", "broker:9092"),
        flag("kafka.advertised_port", "0"),
        flag("kafka.advertised_log_base_port", "9192"),
        flag("kafka.log_base_port", "0"),
        flag("kafka.log_base_node_id", "2147483647"),
    ];
    check_error(
        &Sources { flags, ..Sources::default() },
        expect![[r#"
        the configuration has problems
          flag --set: kafka.advertised_host: `broker:9092` must be a host name or an address alone, without port, brackets or protocol
          flag --set: kafka.advertised_port: `0` is no port that a client can connect to: give one from 1 to 65535, or auto
          flag --set: kafka.advertised_log_base_port: `9192` is told to nobody with kafka.advertise = node: set kafka.advertised_port instead
          flag --set: kafka.advertised_log_base_port: `9192` cannot stand for ports that are chosen at every start: give kafka.log_base_port, too
          flag --set: kafka.log_base_node_id: `2147483647` must be from 0 to 2147418112"#]],
    );
    let flags = vec![
        flag("kafka.advertise", "log"),
        flag("kafka.advertised_port", "9092"),
        flag("server.broker_id", "2147483647"),
    ];
    check_error(
        &Sources { flags, ..Sources::default() },
        expect![[r#"
        the configuration has problems
          flag --set: kafka.advertised_port: `9092` is told to nobody with kafka.advertise = log: set kafka.advertised_log_base_port instead
          flag --set: server.broker_id: `2147483647` is too large to number logs by: give kafka.log_base_node_id"#]],
    );
}

#[test]
fn a_broker_per_log_behind_a_router() {
    let config = Config::load(&file(
        "[kafka]\nadvertise = 'log'\nadvertised_host = 'kafka.example.com'\nlog_base_port = 9200\n\
         advertised_log_base_port = 19200\nlog_base_node_id = 0\n",
    ))
    .expect("a good configuration");
    assert_eq!(config.kafka.advertise, Advertise::Log);
    assert_eq!(config.kafka.advertised_log_base_port, Auto::Given(19200));
}
