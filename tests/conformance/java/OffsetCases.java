import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;

/** Cases of offsets: by time, at the ends, deleted, committed under a group. */
final class OffsetCases {
    static void register(Map<String, Client.Body> cases) {
        cases.put("timestamps", OffsetCases::timestamps);
        cases.put("list_offsets", OffsetCases::listOffsets);
        cases.put("delete_records", OffsetCases::deleteRecords);
        cases.put("group_offsets", OffsetCases::groupOffsets);
    }

    private static void timestamps(Case c) throws Exception {
        c.create(1, Map.of());
        int count = 500;
        List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            // Two records per timestamp: a lookup must find the first of them, inside a batch.
            long time = Case.START_MS + i / 2 * 1000L;
            sent.add(new ProducerRecord<>(c.topic, 0, time, null, Case.bytes("" + i)));
        }
        c.send(c.producer(Map.of("compression.type", c.args.get("codec"), "linger.ms", 50)), sent);
        KafkaConsumer<byte[], byte[]> consumer = c.consumer(Map.of());
        for (long i : new long[] {0, 1, 17, 123, 249}) {
            long time = Case.START_MS + i * 1000;
            Case.equal(lookup(c, consumer, time).offset(), 2 * i, "offset at the time of pair " + i);
            Case.equal(lookup(c, consumer, time).timestamp(), time, "time of pair " + i);
            Case.equal(lookup(c, consumer, time - 1).offset(), 2 * i, "offset just before pair " + i);
        }
        Case.equal(lookup(c, consumer, Case.START_MS + count * 1000L), null, "offset after the last record");
        ListOffsetsResultInfo latest = list(c, 0, OffsetSpec.maxTimestamp());
        Case.equal(latest.timestamp(), Case.START_MS + (count / 2 - 1) * 1000L, "maximum timestamp");
        Case.check(latest.offset() == count - 2 || latest.offset() == count - 1, "offset of the maximum timestamp");

        consumer.assign(c.topicPartitions(1));
        consumer.seek(c.partition(0), lookup(c, consumer, Case.START_MS + 200_000).offset());
        long next = 400;
        long deadline = System.nanoTime() + Case.WAIT.toNanos();
        while (next < count) {
            Case.check(System.nanoTime() < deadline, "records missing from " + next);
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                Case.equal(record.offset(), next++, "offset consumed from a timestamp");
            }
        }
    }

    private static OffsetAndTimestamp lookup(Case c, KafkaConsumer<byte[], byte[]> consumer, long time) {
        return consumer.offsetsForTimes(Map.of(c.partition(0), time), Case.WAIT).get(c.partition(0));
    }

    private static ListOffsetsResultInfo list(Case c, int partition, OffsetSpec spec) throws Exception {
        return Case.get(c.admin().listOffsets(Map.of(c.partition(partition), spec)).all()).get(c.partition(partition));
    }

    private static void listOffsets(Case c) throws Exception {
        c.create(Case.PARTITIONS, Map.of());
        for (long[] ends : new long[][] {{0, 0, 0}, {34, 33, 33}}) {
            if (ends[0] > 0) {
                c.send(c.producer(Map.of()), c.sampleRecords(100, Case.PARTITIONS));
            }
            for (int p = 0; p < Case.PARTITIONS; p++) {
                Case.equal(list(c, p, OffsetSpec.earliest()).offset(), 0L, "earliest of partition " + p);
                Case.equal(list(c, p, OffsetSpec.latest()).offset(), ends[p], "latest of partition " + p);
            }
        }
        KafkaConsumer<byte[], byte[]> committed = c.consumer(Map.of("isolation.level", "read_committed"));
        Map<TopicPartition, Long> ends = committed.endOffsets(c.topicPartitions(Case.PARTITIONS), Case.WAIT);
        Case.equal(ends, Map.of(c.partition(0), 34L, c.partition(1), 33L, c.partition(2), 33L), "committed ends");
    }

    private static void deleteRecords(Case c) throws Exception {
        c.create(Case.PARTITIONS, Map.of());
        List<ProducerRecord<byte[], byte[]>> sent = c.sampleRecords(300, Case.PARTITIONS);
        c.send(c.producer(Map.of()), sent);
        Case.equal(deleteTo(c, 0, 40).get().lowWatermark(), 40L, "new start of partition 0");
        Case.equal(deleteTo(c, 1, -1).get().lowWatermark(), 100L, "new start of partition 1");
        Case.fails(deleteTo(c, 2, 101), OffsetOutOfRangeException.class, "deletion past the end");
        Map<TopicPartition, Long> starts =
                c.consumer(Map.of()).beginningOffsets(c.topicPartitions(Case.PARTITIONS), Case.WAIT);
        Case.equal(starts, Map.of(c.partition(0), 40L, c.partition(1), 100L, c.partition(2), 0L), "starts");
        long[] next = {40};
        c.read(1, 0, Map.of(), record -> {
            Case.equal(record.offset(), next[0]++, "offset");
            Case.same(record, sent.get((int) record.offset() * Case.PARTITIONS));
        });
        Case.equal(next[0], 100L, "end of what is left of partition 0");
    }

    private static java.util.concurrent.Future<org.apache.kafka.clients.admin.DeletedRecords> deleteTo(
            Case c, int partition, long offset) {
        Map<TopicPartition, RecordsToDelete> asked =
                Map.of(c.partition(partition), RecordsToDelete.beforeOffset(offset));
        return c.admin().deleteRecords(asked).lowWatermarks().get(c.partition(partition));
    }

    /** Offsets committed under a group id, with assigned partitions, survive restarts of both kinds. */
    private static void groupOffsets(Case c) throws Exception {
        c.create(Case.PARTITIONS, Map.of());
        c.send(c.producer(Map.of()), c.sampleRecords(90, Case.PARTITIONS));
        String group = c.topic + "-group";
        Map<TopicPartition, OffsetAndMetadata> expected = new HashMap<>();
        expectCommitted(c, group, expected);
        expected.put(c.partition(0), new OffsetAndMetadata(5, "five"));
        expected.put(c.partition(1), new OffsetAndMetadata(7));
        commit(c, group, expected);
        expectCommitted(c, group, expected);
        c.restart("term");
        expectCommitted(c, group, expected);
        expected.put(c.partition(0), new OffsetAndMetadata(6));
        expected.put(c.partition(1), new OffsetAndMetadata(30, "end"));
        expected.put(c.partition(2), new OffsetAndMetadata(0, "zero"));
        commit(c, group, expected);
        c.restart("kill");
        expectCommitted(c, group, expected);
        KafkaConsumer<byte[], byte[]> consumer = c.consumer(Map.of("group.id", group));
        consumer.assign(c.topicPartitions(1));
        long first = -1;
        long deadline = System.nanoTime() + Case.WAIT.toNanos();
        while (first < 0) {
            Case.check(System.nanoTime() < deadline, "no record from the committed offset on");
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                first = first < 0 ? record.offset() : first;
            }
        }
        Case.equal(first, 6L, "first record after the committed offset");
        Case.equal(Case.get(c.admin().listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()), expected,
                "all offsets of the group");
    }

    private static void commit(Case c, String group, Map<TopicPartition, OffsetAndMetadata> offsets) {
        KafkaConsumer<byte[], byte[]> consumer = c.consumer(Map.of("group.id", group));
        consumer.assign(c.topicPartitions(Case.PARTITIONS));
        consumer.commitSync(offsets, Case.WAIT);
    }

    private static void expectCommitted(Case c, String group, Map<TopicPartition, OffsetAndMetadata> expected) {
        KafkaConsumer<byte[], byte[]> consumer = c.consumer(Map.of("group.id", group));
        Map<TopicPartition, OffsetAndMetadata> found =
                new HashMap<>(consumer.committed(new HashSet<>(c.topicPartitions(Case.PARTITIONS)), Case.WAIT));
        found.values().removeIf(java.util.Objects::isNull);
        Case.equal(found, expected, "committed offsets");
    }

    private OffsetCases() {}
}
