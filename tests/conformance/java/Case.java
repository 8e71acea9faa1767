import java.io.BufferedReader;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.Utils;

/** One run of a case: where it runs, the clients that it opened, and the pieces that cases share. */
final class Case implements AutoCloseable {
    static final int PARTITIONS = 3;
    static final Duration WAIT = Duration.ofSeconds(60);
    /** The time of the first record: any fixed past time, only not "now". */
    static final long START_MS = 1_700_000_000_000L;

    final String bootstrap;
    final String topic;
    final Map<String, String> args;
    private final BufferedReader input;
    private final Deque<AutoCloseable> open = new ArrayDeque<>();
    private Admin admin;

    Case(BufferedReader input, String bootstrap, String topic, Map<String, String> args) {
        this.input = input;
        this.bootstrap = bootstrap;
        this.topic = topic;
        this.args = args;
    }

    @Override
    public void close() {
        while (!open.isEmpty()) {
            Utils.closeQuietly(open.pop(), "a client");
        }
    }

    /** Starts this program once more, with arguments; it is killed with the case. */
    Process start(String... args) throws IOException {
        List<String> command = new ArrayList<>(List.of(
                ProcessHandle.current().info().command().orElse("java"),
                "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                "-cp", System.getProperty("java.class.path"), "Client"));
        command.addAll(List.of(args));
        Process process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        open.push(process::destroyForcibly);
        return process;
    }

    /** Has the runner restart the broker: "term" or "kill". */
    void restart(String how) throws IOException {
        System.out.println("restart\t" + how);
        equal(input.readLine(), "done", "the runner's answer");
    }

    /** Hands a result to the runner. */
    void value(String name, String text) {
        System.out.println("value\t" + name + "\t" + text);
    }

    static void check(boolean condition, String message) {
        if (!condition) {
            throw new AssertionError(message);
        }
    }

    static void equal(Object got, Object expected, String what) {
        check(Objects.equals(got, expected), what + ": got " + got + ", expected " + expected);
    }

    /** The result of a future, or the Kafka error that it ended with. */
    static <T> T get(Future<T> future) throws Exception {
        try {
            return future.get(WAIT.toMillis(), TimeUnit.MILLISECONDS);
        } catch (ExecutionException failure) {
            throw failure.getCause() instanceof Exception cause ? cause : failure;
        }
    }

    /** Fails unless the future ends with this error. */
    static void fails(Future<?> future, Class<? extends Exception> expected, String what) {
        try {
            get(future);
        } catch (Exception failure) {
            check(expected.isInstance(failure), what + ": got " + failure + ", expected " + expected);
            return;
        }
        throw new AssertionError(what + ": no error, expected " + expected);
    }

    Admin admin() {
        if (admin == null) {
            admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
            open.push(admin);
        }
        return admin;
    }

    KafkaProducer<byte[], byte[]> producer(Map<String, Object> settings) {
        Map<String, Object> all = new HashMap<>(Map.of(
                "bootstrap.servers", bootstrap,
                "delivery.timeout.ms", (int) WAIT.toMillis(),
                "request.timeout.ms", 10_000,
                "retry.backoff.ms", 20,
                "reconnect.backoff.ms", 20,
                "reconnect.backoff.max.ms", 100));
        all.putAll(settings);
        KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(all, new ByteArraySerializer(), new ByteArraySerializer());
        open.push(producer);
        return producer;
    }

    KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> settings) {
        Map<String, Object> all = new HashMap<>(Map.of(
                "bootstrap.servers", bootstrap,
                "enable.auto.commit", false,
                "auto.offset.reset", "none",
                "allow.auto.create.topics", false));
        all.putAll(settings);
        KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(all, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        open.push(consumer);
        return consumer;
    }

    void create(int partitions, Map<String, String> config) throws Exception {
        // The records carry timestamps of the past, which retention by age would act upon.
        Map<String, String> all = new HashMap<>(Map.of("retention.ms", "-1"));
        all.putAll(config);
        get(admin().createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(all))).all());
        awaitLeaders(partitions);
    }

    /** Apache Kafka answers a creation before its brokers lead the partitions; a case begins after that. */
    private void awaitLeaders(int partitions) {
        try (KafkaConsumer<byte[], byte[]> asking = consumer(Map.of())) {
            asking.endOffsets(topicPartitions(partitions), WAIT);
        }
    }

    void drop() throws Exception {
        get(admin().deleteTopics(List.of(topic)).all());
    }

    TopicPartition partition(int number) {
        return new TopicPartition(topic, number);
    }

    List<TopicPartition> topicPartitions(int count) {
        List<TopicPartition> all = new ArrayList<>();
        for (int p = 0; p < count; p++) {
            all.add(partition(p));
        }
        return all;
    }

    /** Produces the records and fails unless each is acknowledged. */
    void send(KafkaProducer<byte[], byte[]> producer, List<ProducerRecord<byte[], byte[]>> records)
            throws Exception {
        List<Future<RecordMetadata>> answers = new ArrayList<>();
        for (ProducerRecord<byte[], byte[]> record : records) {
            answers.add(producer.send(record));
        }
        producer.flush();
        for (Future<RecordMetadata> answer : answers) {
            get(answer);
        }
    }

    /** Visits the records of assigned partitions from `from` (or their start) to the ends of now. */
    void read(int partitions, long from, Map<String, Object> settings,
            Consumer<ConsumerRecord<byte[], byte[]>> visit) {
        KafkaConsumer<byte[], byte[]> consumer = consumer(settings);
        List<TopicPartition> all = topicPartitions(partitions);
        consumer.assign(all);
        Map<TopicPartition, Long> starts = consumer.beginningOffsets(all, WAIT);
        Map<TopicPartition, Long> left = new HashMap<>(consumer.endOffsets(all, WAIT));
        for (TopicPartition tp : all) {
            consumer.seek(tp, Math.max(from, starts.get(tp)));
        }
        left.entrySet().removeIf(end -> end.getValue() <= Math.max(from, starts.get(end.getKey())));
        long deadline = System.nanoTime() + WAIT.toNanos();
        while (!left.isEmpty()) {
            check(System.nanoTime() < deadline, "records missing in " + left.keySet());
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                visit.accept(record);
                left.remove(partition(record.partition()), record.offset() + 1);
            }
        }
        consumer.close();
        open.remove(consumer);
    }

    /** Reads the topic and compares it with what was sent, in order per partition. */
    void expect(List<ProducerRecord<byte[], byte[]>> sent, int partitions, Map<String, Object> settings) {
        List<List<ProducerRecord<byte[], byte[]>>> expected = new ArrayList<>();
        for (int p = 0; p < partitions; p++) {
            expected.add(new ArrayList<>());
        }
        for (ProducerRecord<byte[], byte[]> record : sent) {
            expected.get(record.partition()).add(record);
        }
        int[] next = new int[partitions];
        read(partitions, 0, settings, got -> {
            int p = got.partition();
            equal(got.offset(), (long) next[p], "offset in partition " + p);
            check(next[p] < expected.get(p).size(), "partition " + p + " has more records than were sent");
            same(got, expected.get(p).get(next[p]++));
        });
        for (int p = 0; p < partitions; p++) {
            equal(next[p], expected.get(p).size(), "records in partition " + p);
        }
    }

    static void same(ConsumerRecord<byte[], byte[]> got, ProducerRecord<byte[], byte[]> expected) {
        String where = "record " + got.partition() + "/" + got.offset();
        check(Arrays.equals(got.key(), expected.key()), where + ": the key differs");
        check(Arrays.equals(got.value(), expected.value()), where + ": the value differs");
        check(got.headers().equals(expected.headers()), where + ": the headers differ");
        equal(got.timestamp(), expected.timestamp(), where + ", timestamp");
    }

    /** Keys, values and headers of every kind: null, empty, binary, text, and compressible. */
    List<ProducerRecord<byte[], byte[]>> sampleRecords(int count, int partitions) {
        Random random = new Random(1);
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            byte[] key = switch (i % 4) {
                case 0 -> null;
                case 1 -> new byte[0];
                case 2 -> bytes("key-" + i);
                default -> noise(random, random.nextInt(40));
            };
            byte[] value = switch (i % 5) {
                case 0 -> null;
                case 1 -> new byte[0];
                case 2 -> noise(random, random.nextInt(2000));
                case 3 -> bytes("value " + i);
                default -> bytes(("value " + i + " ").repeat(random.nextInt(500)));
            };
            List<Header> headers = switch (i % 4) {
                case 0 -> List.of();
                case 1 -> List.of(new RecordHeader("trace", bytes("t-" + i)));
                case 2 -> List.of(new RecordHeader("null", (byte[]) null),
                        new RecordHeader("empty", new byte[0]), new RecordHeader("binary", noise(random, 16)));
                default -> List.of(new RecordHeader("twice", bytes("1")), new RecordHeader("twice", bytes("2")),
                        new RecordHeader("größe", bytes("ünï")));
            };
            records.add(new ProducerRecord<>(topic, i % partitions, START_MS + i * 10L, key, value, headers));
        }
        return records;
    }

    static byte[] bytes(String text) {
        return text.getBytes(java.nio.charset.StandardCharsets.UTF_8);
    }

    static byte[] noise(Random random, int size) {
        byte[] content = new byte[size];
        random.nextBytes(content);
        return content;
    }
}
