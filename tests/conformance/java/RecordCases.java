import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;

/** Cases of writing and reading records. */
final class RecordCases {
    static void register(Map<String, Client.Body> cases) {
        cases.put("roundtrip", RecordCases::roundtrip);
        cases.put("idempotent", RecordCases::idempotent);
        cases.put("too_large", RecordCases::tooLarge);
        cases.put("auto_create", RecordCases::autoCreate);
        cases.put("invalid_topic", RecordCases::invalidTopic);
        cases.put("unknown_partition", RecordCases::unknownPartition);
        cases.put("unknown_topic", RecordCases::unknownTopic);
        cases.put("long_poll", RecordCases::longPoll);
        cases.put("log_append_time", RecordCases::logAppendTime);
        cases.put("out_of_range", RecordCases::outOfRange);
        cases.put("recreated_topic", RecordCases::recreatedTopic);
        cases.put("write", RecordCases::write);
        cases.put("read_digests", RecordCases::readDigests);
    }

    private static void roundtrip(Case c) throws Exception {
        c.create(Case.PARTITIONS, Map.of());
        List<ProducerRecord<byte[], byte[]>> sent = c.sampleRecords(600, Case.PARTITIONS);
        String acks = c.args.get("acks");
        c.send(c.producer(Map.of(
                "acks", acks,
                // Idempotence, which is the default, needs all acks.
                "enable.idempotence", acks.equals("-1"),
                "compression.type", c.args.get("codec"),
                "linger.ms", 20)), sent);
        if (acks.equals("0")) {
            awaitEnd(c, sent.size());
        }
        c.expect(sent, Case.PARTITIONS, Map.of());
        c.expect(sent, Case.PARTITIONS, Map.of("isolation.level", "read_committed", "client.rack", "east"));
        c.drop();
    }

    /** With acks=0 nothing tells when the records have arrived, so the ends are polled. */
    private static void awaitEnd(Case c, long count) throws InterruptedException {
        KafkaConsumer<byte[], byte[]> consumer = c.consumer(Map.of());
        long deadline = System.nanoTime() + Case.WAIT.toNanos();
        while (consumer.endOffsets(c.topicPartitions(Case.PARTITIONS), Case.WAIT).values().stream()
                .mapToLong(Long::longValue).sum() < count) {
            Case.check(System.nanoTime() < deadline, "records sent with acks=0 did not arrive");
            Thread.sleep(10);
        }
    }

    /** An idempotent producer goes on while the broker is restarted under it, twice. */
    private static void idempotent(Case c) throws Exception {
        c.create(Case.PARTITIONS, Map.of());
        KafkaProducer<byte[], byte[]> producer = c.producer(Map.of("linger.ms", 1, "batch.size", 4000));
        int count = 15_000;
        // Apache Kafka forgets a producer at a restart when its last record's timestamp is a day old.
        long now = System.currentTimeMillis();
        AtomicInteger acked = new AtomicInteger();
        List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
        List<Future<RecordMetadata>> answers = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            byte[] key = Case.bytes(Integer.toString(i));
            sent.add(new ProducerRecord<>(c.topic, i % Case.PARTITIONS, now + i, key,
                    Case.bytes("value " + i), List.of(new RecordHeader("i", key))));
            answers.add(producer.send(sent.get(i), (metadata, error) -> acked.incrementAndGet()));
            if (i == count / 3 || i == 2 * count / 3) {
                while (acked.get() < i / 2) {
                    Thread.sleep(1);
                }
                c.restart(c.args.get("how"));
            }
        }
        for (Future<RecordMetadata> answer : answers) {
            Case.get(answer);
        }
        c.expect(sent, Case.PARTITIONS, Map.of());
        c.restart(c.args.get("how"));
        c.expect(sent, Case.PARTITIONS, Map.of());
    }

    private static void tooLarge(Case c) throws Exception {
        c.create(Case.PARTITIONS, Map.of());
        KafkaProducer<byte[], byte[]> producer = c.producer(Map.of("max.request.size", 3_000_000));
        Random random = new Random(3);
        ProducerRecord<byte[], byte[]> largest = new ProducerRecord<>(c.topic, 0, Case.START_MS, null,
                Case.noise(random, 1_048_000), List.of());
        c.send(producer, List.of(largest));
        byte[] above = Case.noise(random, 1_048_600);
        Case.fails(producer.send(new ProducerRecord<>(c.topic, 0, null, above)), RecordTooLargeException.class,
                "a record above the limit");
        ProducerRecord<byte[], byte[]> after = new ProducerRecord<>(c.topic, 0, Case.START_MS, null,
                Case.bytes("after"), List.of());
        c.send(producer, List.of(after));
        c.expect(List.of(largest, after), Case.PARTITIONS, Map.of());
        // A reader whose limit is far below the record must still get it, or it would stand still for ever.
        c.expect(List.of(largest, after), Case.PARTITIONS,
                Map.of("fetch.max.bytes", 1000, "max.partition.fetch.bytes", 1000));
    }

    /** Producing to a topic that does not exist creates it, as this client does by default. */
    private static void autoCreate(Case c) throws Exception {
        List<ProducerRecord<byte[], byte[]>> sent = List.of(
                new ProducerRecord<>(c.topic, 0, System.currentTimeMillis(), null, Case.bytes("v"), List.of()));
        c.send(c.producer(Map.of()), sent);
        c.expect(sent, 1, Map.of());
    }

    private static void invalidTopic(Case c) throws Exception {
        String name = c.topic + " with blanks";
        Case.fails(c.producer(Map.of()).send(new ProducerRecord<>(name, Case.bytes("v"))),
                InvalidTopicException.class, "a record in a topic with an invalid name");
        Case.check(!Case.get(c.admin().listTopics().names()).contains(name), "an invalid topic exists");
    }

    private static void unknownPartition(Case c) throws Exception {
        c.create(Case.PARTITIONS, Map.of());
        // The client waits for the partition to come into being, until this time is over.
        KafkaProducer<byte[], byte[]> producer = c.producer(Map.of("max.block.ms", 1000));
        Case.fails(producer.send(new ProducerRecord<>(c.topic, 7, null, Case.bytes("v"))), TimeoutException.class,
                "a record for a partition that does not exist");
    }

    private static void unknownTopic(Case c) throws Exception {
        List<PartitionInfo> found = c.consumer(Map.of()).partitionsFor(c.topic, Case.WAIT);
        Case.check(found == null || found.isEmpty(), "a topic that does not exist has partitions");
        Case.check(!Case.get(c.admin().listTopics().names()).contains(c.topic), "asking created the topic");
    }

    /** A parked fetch is answered when a record becomes durable, not when its wait is over. */
    private static void longPoll(Case c) throws Exception {
        c.create(1, Map.of());
        Duration wait = Duration.ofSeconds(6);
        KafkaConsumer<byte[], byte[]> consumer = c.consumer(Map.of("fetch.max.wait.ms", (int) wait.toMillis()));
        consumer.assign(c.topicPartitions(1));
        consumer.seekToBeginning(c.topicPartitions(1));
        KafkaProducer<byte[], byte[]> producer = c.producer(Map.of("linger.ms", 0));
        for (int i = 0; i < 5; i++) {
            Case.equal(consumer.poll(Duration.ofMillis(200)).count(), 0, "records out of nowhere");
            long sentAt = System.nanoTime();
            c.send(producer, List.of(new ProducerRecord<>(c.topic, 0, null, Case.bytes("" + i))));
            List<String> got = new ArrayList<>();
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Case.WAIT)) {
                got.add(new String(record.value()));
            }
            Case.equal(got, List.of("" + i), "values");
            long tookMs = (System.nanoTime() - sentAt) / 1_000_000;
            Case.check(tookMs < wait.toMillis() / 2, "the record took " + tookMs + " ms");
        }
    }

    private static void logAppendTime(Case c) throws Exception {
        c.create(Case.PARTITIONS, Map.of("message.timestamp.type", "LogAppendTime"));
        long beforeMs = System.currentTimeMillis() - 1000;
        Future<RecordMetadata> answer = c.producer(Map.of()).send(
                new ProducerRecord<>(c.topic, 0, Case.START_MS, null, Case.bytes("v")));
        Case.check(Case.get(answer).timestamp() > beforeMs, "the answer has not the append time");
        c.send(c.producer(Map.of()), c.sampleRecords(30, Case.PARTITIONS));
        long afterMs = System.currentTimeMillis() + 1000;
        c.read(Case.PARTITIONS, 0, Map.of(), record -> {
            Case.equal(record.timestampType(), TimestampType.LOG_APPEND_TIME, "timestamp type");
            Case.check(beforeMs < record.timestamp() && record.timestamp() < afterMs, "append time is not now");
        });
    }

    private static void outOfRange(Case c) throws Exception {
        c.create(Case.PARTITIONS, Map.of());
        c.send(c.producer(Map.of()), c.sampleRecords(30, Case.PARTITIONS));
        KafkaConsumer<byte[], byte[]> strict = c.consumer(Map.of());
        strict.assign(c.topicPartitions(1));
        strict.seek(c.partition(0), 5000);
        try {
            strict.poll(Case.WAIT);
            throw new AssertionError("an offset past the end is readable");
        } catch (OffsetOutOfRangeException expected) {
            Case.equal(expected.offsetOutOfRangePartitions(), Map.of(c.partition(0), 5000L), "partitions");
        }
        KafkaConsumer<byte[], byte[]> lenient = c.consumer(Map.of("auto.offset.reset", "earliest"));
        lenient.assign(c.topicPartitions(1));
        lenient.seek(c.partition(0), 5000);
        long deadline = System.nanoTime() + Case.WAIT.toNanos();
        while (true) {
            Case.check(System.nanoTime() < deadline, "no reset to the earliest offset");
            List<ConsumerRecord<byte[], byte[]>> got = lenient.poll(Case.WAIT).records(c.partition(0));
            if (!got.isEmpty()) {
                Case.equal(got.get(0).offset(), 0L, "offset after the reset");
                return;
            }
        }
    }

    /** A producer and a consumer go on when their topic was deleted and created again. */
    private static void recreatedTopic(Case c) throws Exception {
        c.create(Case.PARTITIONS, Map.of());
        KafkaProducer<byte[], byte[]> producer = c.producer(Map.of());
        KafkaConsumer<byte[], byte[]> consumer = c.consumer(Map.of("auto.offset.reset", "earliest"));
        consumer.assign(c.topicPartitions(Case.PARTITIONS));
        // The second topic never gets as long as the first was: a position in that one is beyond its end.
        for (int count : new int[] {90, 30}) {
            List<ProducerRecord<byte[], byte[]>> sent = c.sampleRecords(count, Case.PARTITIONS);
            c.send(producer, sent);
            int[] next = new int[Case.PARTITIONS];
            long deadline = System.nanoTime() + Case.WAIT.toNanos();
            for (int got = 0; got < count;) {
                Case.check(System.nanoTime() < deadline, "only " + got + " of " + count + " records");
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(50))) {
                    int p = record.partition();
                    Case.equal(record.offset(), (long) next[p], "offset in partition " + p);
                    Case.same(record, sent.get(next[p]++ * Case.PARTITIONS + p));
                    got++;
                }
            }
            c.expect(sent, Case.PARTITIONS, Map.of());
            c.drop();
            if (count == 90) {
                c.create(Case.PARTITIONS, Map.of());
            }
        }
    }

    /** One side of the cross matrix; see the same case in ../librdkafka/client.py. */
    private static void write(Case c) throws Exception {
        c.create(Case.PARTITIONS, Map.of());
        byte[] binary = new byte[256];
        for (int i = 0; i < binary.length; i++) {
            binary[i] = (byte) i;
        }
        Map<Integer, Digest> digests = new HashMap<>();
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int i = 0; i < 300; i++) {
            byte[] key = i % 3 == 0 ? null : i % 3 == 1 ? new byte[0] : Case.bytes("key-" + i);
            byte[] value = switch (i % 4) {
                case 0 -> null;
                case 1 -> new byte[0];
                case 2 -> Case.bytes(("java " + i + " ").repeat(i % 50));
                default -> binary;
            };
            List<Header> headers = switch (i % 3) {
                case 0 -> List.of();
                case 1 -> List.of(new RecordHeader("a", Case.bytes("" + i)), new RecordHeader("b", new byte[0]));
                default -> List.of(new RecordHeader("a", Case.bytes("x")), new RecordHeader("a", Case.bytes("y")));
            };
            ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(
                    c.topic, i / 7 % Case.PARTITIONS, Case.START_MS + i, key, value, headers);
            records.add(record);
            digests.computeIfAbsent(record.partition(), p -> new Digest())
                    .add(key, value, record.headers(), record.timestamp());
        }
        c.send(c.producer(Map.of("compression.type", c.args.get("codec"), "linger.ms", 20)), records);
        digests.forEach((p, digest) -> c.value("p" + p, digest.text()));
    }

    /** The other side: the digest of every partition, whoever wrote it. */
    private static void readDigests(Case c) {
        int partitions = c.consumer(Map.of()).partitionsFor(c.topic, Case.WAIT).size();
        List<Digest> digests = new ArrayList<>();
        for (int p = 0; p < partitions; p++) {
            digests.add(new Digest());
        }
        c.read(partitions, 0, Map.of(), record -> {
            Digest digest = digests.get(record.partition());
            Case.equal(record.offset(), digest.count, "offset");
            digest.add(record.key(), record.value(), record.headers(), record.timestamp());
        });
        for (int p = 0; p < partitions; p++) {
            c.value("p" + p, digests.get(p).text());
        }
    }

    private RecordCases() {}
}
