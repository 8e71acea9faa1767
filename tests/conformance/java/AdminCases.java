import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.DescribeProducersResult.PartitionProducerState;
import org.apache.kafka.clients.admin.LogDirDescription;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidRequestException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.SecurityDisabledException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.quota.ClientQuotaFilterComponent;

/** Cases of topics, their configs, and the cluster. */
final class AdminCases {
    static void register(Map<String, Client.Body> cases) {
        cases.put("topics", AdminCases::topics);
        cases.put("invalid_creations", AdminCases::invalidCreations);
        cases.put("many_topics", AdminCases::manyTopics);
        cases.put("metadata", AdminCases::metadata);
        cases.put("describe_configs", AdminCases::describeConfigs);
        cases.put("create_partitions", AdminCases::createPartitions);
        cases.put("alter_configs", AdminCases::alterConfigs);
        cases.put("describe_cluster", AdminCases::describeCluster);
        cases.put("restart_keeps", AdminCases::restartKeeps);
        cases.put("log_dirs", AdminCases::logDirs);
        cases.put("producers", AdminCases::producers);
        cases.put("nothing_to_list", AdminCases::nothingToList);
    }

    private static void topics(Case c) throws Exception {
        c.create(5, Map.of());
        TopicDescription first = describe(c);
        Case.equal(first.partitions().size(), 5, "partitions");
        Case.fails(c.admin().createTopics(List.of(new NewTopic(c.topic, 5, (short) 1))).all(),
                TopicExistsException.class, "second creation");
        c.send(c.producer(Map.of()), c.sampleRecords(10, 5));
        c.drop();
        Case.check(!Case.get(c.admin().listTopics().names()).contains(c.topic), "a deleted topic is listed");
        Case.fails(c.admin().deleteTopics(List.of(c.topic)).all(), UnknownTopicOrPartitionException.class,
                "second deletion");
        c.create(2, Map.of());
        Case.check(!describe(c).topicId().equals(first.topicId()), "a topic created again has its old id");
        Collection<Long> ends = c.consumer(Map.of()).endOffsets(c.topicPartitions(2), Case.WAIT).values();
        Case.equal(Set.copyOf(ends), Set.of(0L), "end offsets of a topic created again");
        c.drop();
    }

    private static TopicDescription describe(Case c) throws Exception {
        return Case.get(c.admin().describeTopics(List.of(c.topic)).allTopicNames()).get(c.topic);
    }

    private static void invalidCreations(Case c) throws Exception {
        short one = 1;
        Map<NewTopic, Class<? extends Exception>> refused = Map.of(
                new NewTopic("bad/name", 1, one), InvalidTopicException.class,
                new NewTopic("..", 1, one), InvalidTopicException.class,
                new NewTopic("x".repeat(250), 1, one), InvalidTopicException.class,
                new NewTopic(c.topic + "-p", 0, one), InvalidPartitionsException.class,
                new NewTopic(c.topic + "-r", 1, (short) 3), InvalidReplicationFactorException.class,
                new NewTopic(c.topic + "-c", 1, one).configs(Map.of("no.such.config", "1")),
                InvalidConfigurationException.class,
                new NewTopic(c.topic + "-v", 1, one).configs(Map.of("retention.ms", "soon")),
                InvalidConfigurationException.class);
        for (Map.Entry<NewTopic, Class<? extends Exception>> entry : refused.entrySet()) {
            Case.fails(c.admin().createTopics(List.of(entry.getKey())).all(), entry.getValue(),
                    "creation of " + entry.getKey());
        }
        CreateTopicsOptions validate = new CreateTopicsOptions().validateOnly(true);
        Case.get(c.admin().createTopics(List.of(new NewTopic(c.topic, 1, one)), validate).all());
        Case.check(!Case.get(c.admin().listTopics().names()).contains(c.topic), "a validation created the topic");
    }

    /** One request for many topics, one record in each partition, and one request to delete them all. */
    private static void manyTopics(Case c) throws Exception {
        List<NewTopic> topics = new ArrayList<>();
        List<TopicPartition> partitions = new ArrayList<>();
        List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
            String name = c.topic + "-" + i;
            topics.add(new NewTopic(name, 10, (short) 1));
            for (int p = 0; p < 10; p++) {
                partitions.add(new TopicPartition(name, p));
                sent.add(new ProducerRecord<>(name, p, null, Case.bytes(name + "/" + p)));
            }
        }
        Case.get(c.admin().createTopics(topics).all());
        c.send(c.producer(Map.of()), sent);
        KafkaConsumer<byte[], byte[]> consumer = c.consumer(Map.of());
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        Set<String> seen = new HashSet<>();
        long deadline = System.nanoTime() + Case.WAIT.toNanos();
        while (seen.size() < sent.size()) {
            Case.check(System.nanoTime() < deadline, "only " + seen.size() + " partitions delivered");
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(java.time.Duration.ofSeconds(1))) {
                String value = new String(record.value());
                Case.equal(value, record.topic() + "/" + record.partition(), "value");
                seen.add(value);
            }
        }
        Case.get(c.admin().deleteTopics(topics.stream().map(NewTopic::name).toList()).all());
    }

    private static void metadata(Case c) throws Exception {
        c.create(Case.PARTITIONS, Map.of());
        Set<Integer> nodes = nodes(c);
        TopicDescription topic = describe(c);
        Case.check(!topic.topicId().equals(Uuid.ZERO_UUID), "no topic id");
        Case.check(!topic.isInternal(), "an ordinary topic is called internal");
        Case.equal(topic.partitions().size(), Case.PARTITIONS, "partitions");
        for (TopicPartitionInfo partition : topic.partitions()) {
            Case.check(nodes.contains(partition.leader().id()), "the leader is not among the brokers");
            Case.check(partition.isr().contains(partition.leader()), "the leader is not in sync with itself");
        }
    }

    private static Set<Integer> nodes(Case c) throws Exception {
        return Case.get(c.admin().describeCluster().nodes()).stream().map(Node::id).collect(Collectors.toSet());
    }

    private static void describeConfigs(Case c) throws Exception {
        c.create(Case.PARTITIONS, Map.of("retention.ms", "7200000", "max.message.bytes", "500000"));
        Config found = configs(c);
        Case.equal(found.get("retention.ms").value(), "7200000", "retention.ms");
        Case.equal(found.get("max.message.bytes").value(), "500000", "max.message.bytes");
        Case.equal(found.get("cleanup.policy").value(), "delete", "cleanup.policy");
        Case.equal(found.get("retention.ms").source(), ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "source");
        Case.equal(found.get("cleanup.policy").source(), ConfigEntry.ConfigSource.DEFAULT_CONFIG, "source");
        for (String name : List.of("retention.bytes", "segment.bytes", "message.timestamp.type", "compression.type")) {
            Case.check(found.get(name) != null, name + " is not listed");
        }
        ConfigResource missing = new ConfigResource(ConfigResource.Type.TOPIC, c.topic + "-missing");
        Case.fails(c.admin().describeConfigs(List.of(missing)).all(), UnknownTopicOrPartitionException.class,
                "configs of a topic that does not exist");
        ConfigResource broker =
                new ConfigResource(ConfigResource.Type.BROKER, nodes(c).iterator().next().toString());
        Config own = Case.get(c.admin().describeConfigs(List.of(broker)).all()).get(broker);
        Case.check(!own.entries().isEmpty(), "a broker without configs");
    }

    private static Config configs(Case c) throws Exception {
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, c.topic);
        return Case.get(c.admin().describeConfigs(List.of(topic)).all()).get(topic);
    }

    private static void createPartitions(Case c) throws Exception {
        c.create(2, Map.of());
        Case.get(c.admin().createPartitions(Map.of(c.topic, NewPartitions.increaseTo(5))).all());
        TopicDescription described = Case.get(c.admin().describeTopics(List.of(c.topic)).allTopicNames()).get(c.topic);
        Case.equal(described.partitions().size(), 5, "partitions");
        for (int count : new int[] {3, 5}) {
            Case.fails(
                    c.admin().createPartitions(Map.of(c.topic, NewPartitions.increaseTo(count))).all(),
                    InvalidPartitionsException.class,
                    count + " partitions where there are 5");
        }
        List<ProducerRecord<byte[], byte[]>> sent = c.sampleRecords(50, 5);
        c.send(c.producer(Map.of()), sent);
        c.expect(sent, 5, Map.of());
    }

    private static void alterConfigs(Case c) throws Exception {
        c.create(1, Map.of("max.message.bytes", "500000"));
        Case.get(alter(c, "retention.ms", "3600000", AlterConfigOp.OpType.SET));
        Case.equal(configs(c).get("retention.ms").value(), "3600000", "retention.ms");
        Case.get(alter(c, "retention.ms", "", AlterConfigOp.OpType.DELETE));
        Case.check(configs(c).get("retention.ms").isDefault(), "a config that was taken back");
        Case.equal(configs(c).get("max.message.bytes").value(), "500000", "the config that was left alone");
        Case.fails(alter(c, "no.such.config", "1", AlterConfigOp.OpType.SET), InvalidConfigurationException.class,
                "an unknown config");
        Case.fails(alter(c, "retention.ms", "soon", AlterConfigOp.OpType.SET), InvalidConfigurationException.class,
                "a config without a number");
    }

    private static KafkaFuture<Void> alter(Case c, String name, String value, AlterConfigOp.OpType op) {
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, c.topic);
        AlterConfigOp change = new AlterConfigOp(new ConfigEntry(name, value), op);
        return c.admin().incrementalAlterConfigs(Map.of(topic, List.of(change))).all();
    }

    private static void describeCluster(Case c) throws Exception {
        DescribeClusterResult found = c.admin().describeCluster();
        Case.check(!Case.get(found.clusterId()).isEmpty(), "no cluster id");
        Collection<Node> nodes = Case.get(found.nodes());
        Case.check(nodes.contains(Case.get(found.controller())), "the controller is not a node");
        boolean listed = nodes.stream().anyMatch(node -> c.bootstrap.equals(node.host() + ":" + node.port()));
        Case.equal(listed, c.args.get("own_address").equals("listed"), "whether the own address is listed");
    }

    /** What a topic is outlives both kinds of restart. */
    private static void restartKeeps(Case c) throws Exception {
        int partitions = 4;
        c.create(partitions, Map.of("retention.ms", "630720000000"));
        List<ProducerRecord<byte[], byte[]>> sent = c.sampleRecords(400, partitions);
        c.send(c.producer(Map.of()), sent);
        String gone = c.topic + "-gone";
        Case.get(c.admin().createTopics(List.of(new NewTopic(gone, 1, (short) 1))).all());
        Case.get(c.admin().deleteTopics(List.of(gone)).all());
        Uuid before = describe(c).topicId();
        String cluster = Case.get(c.admin().describeCluster().clusterId());
        for (String how : List.of("term", "kill")) {
            c.restart(how);
            Case.equal(describe(c).topicId(), before, "topic id after " + how);
            Case.equal(Case.get(c.admin().describeCluster().clusterId()), cluster, "cluster id after " + how);
            Case.check(!Case.get(c.admin().listTopics().names()).contains(gone), "a deleted topic is back");
            Case.equal(configs(c).get("retention.ms").value(), "630720000000", "retention.ms after " + how);
            c.expect(sent, partitions, Map.of());
        }
    }

    private static void logDirs(Case c) throws Exception {
        c.create(2, Map.of());
        c.send(c.producer(Map.of()), List.of(new ProducerRecord<>(c.topic, 0, null, new byte[5000])));
        Map<Integer, Long> sizes = new HashMap<>();
        for (Map<String, LogDirDescription> ofNode :
                Case.get(c.admin().describeLogDirs(nodes(c)).allDescriptions()).values()) {
            Case.check(!ofNode.isEmpty(), "a node without a log dir");
            for (LogDirDescription dir : ofNode.values()) {
                Case.equal(dir.error(), null, "error of a log dir");
                long usable = dir.usableBytes().getAsLong();
                long total = dir.totalBytes().getAsLong();
                Case.check(0 < usable && usable < total, usable + " of " + total + " bytes are usable");
                dir.replicaInfos().forEach((partition, replica) -> {
                    if (partition.topic().equals(c.topic)) {
                        Case.equal(replica.offsetLag(), 0L, "offset lag");
                        Case.check(!replica.isFuture(), "a replica that is still to come");
                        Case.equal(sizes.put(partition.partition(), replica.size()), null, "told before");
                    }
                });
            }
        }
        Case.equal(sizes.keySet(), Set.of(0, 1), "partitions");
        Case.check(5000 < sizes.get(0) && sizes.get(0) < 50_000, "partition 0 has " + sizes.get(0) + " bytes");
        Case.equal(sizes.get(1), 0L, "bytes of partition 1");
    }

    private static void producers(Case c) throws Exception {
        c.create(2, Map.of());
        KafkaProducer<byte[], byte[]> producer = c.producer(Map.of());
        long beforeMs = System.currentTimeMillis();
        for (int i = 0; i < 3; i++) {
            c.send(producer, List.of(new ProducerRecord<>(c.topic, 0, null, Case.bytes("v"))));
        }
        Map<TopicPartition, PartitionProducerState> found =
                Case.get(c.admin().describeProducers(c.topicPartitions(2)).all());
        Case.equal(found.size(), 2, "partitions");
        List<ProducerState> active = found.get(c.partition(0)).activeProducers();
        Case.equal(active.size(), 1, "producers of partition 0");
        Case.check(active.get(0).producerId() >= 0, "no producer id");
        Case.equal(active.get(0).producerEpoch(), 0, "epoch");
        Case.equal(active.get(0).lastSequence(), 2, "last sequence");
        Case.check(active.get(0).lastTimestamp() >= beforeMs, "last timestamp " + active.get(0).lastTimestamp());
        Case.check(active.get(0).currentTransactionStartOffset().isEmpty(), "the start of a transaction");
        Case.equal(found.get(c.partition(1)).activeProducers(), List.of(), "producers of partition 1");
    }

    /** What there is none of here. */
    private static void nothingToList(Case c) throws Exception {
        ClientQuotaFilterComponent user = ClientQuotaFilterComponent.ofEntity("user", "somebody");
        for (ClientQuotaFilter filter : List.of(ClientQuotaFilter.all(), ClientQuotaFilter.contains(List.of(user)))) {
            Case.equal(Case.get(c.admin().describeClientQuotas(filter).entities()), Map.of(), "quotas");
        }
        Case.fails(
                c.admin().describeClientQuotas(ClientQuotaFilter.contains(List.of(user, user))).entities(),
                InvalidRequestException.class,
                "a filter with a type twice");
        Case.equal(Case.get(c.admin().listPartitionReassignments().reassignments()), Map.of(), "reassignments");
        Case.fails(c.admin().describeAcls(AclBindingFilter.ANY).values(), SecurityDisabledException.class, "ACLs");
    }

    private AdminCases() {}
}
