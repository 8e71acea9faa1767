import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.Consumer;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.clients.consumer.StickyAssignor;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.UnknownMemberIdException;

/** Groups, as the members of the Java client see them. All members are polled by one thread, in turn. */
final class GroupCases {
    private static final int PARTITIONS = 6;
    private static final int SESSION_MS = 6_000;

    static void register(Map<String, Client.Body> cases) {
        cases.put("group_members", GroupCases::groupMembers);
        cases.put("group_commits", GroupCases::groupCommits);
        cases.put("group_static", GroupCases::groupStatic);
    }

    private static final Map<String, Class<?>> STRATEGIES = Map.of(
            "range", RangeAssignor.class,
            "roundrobin", RoundRobinAssignor.class,
            "sticky", StickyAssignor.class,
            "cooperative-sticky", CooperativeStickyAssignor.class);

    /** A consumer that counts how often it is told what it owns. */
    private static final class Member implements ConsumerRebalanceListener {
        final KafkaConsumer<byte[], byte[]> consumer;
        int rebalances;

        Member(Case c, String group, String strategy, String instance) {
            Map<String, Object> settings = new HashMap<>(Map.of(
                    "group.id", group,
                    "auto.offset.reset", "earliest",
                    "session.timeout.ms", SESSION_MS,
                    "heartbeat.interval.ms", 500,
                    "partition.assignment.strategy", strategy));
            if (instance != null) {
                settings.put("group.instance.id", instance);
            }
            consumer = c.consumer(settings);
            consumer.subscribe(List.of(c.topic), this);
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            rebalances++;
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {}
    }

    private static void poll(List<Member> members) {
        members.forEach(member -> member.consumer.poll(Duration.ofMillis(20)));
    }

    /** Polls until these members own all partitions, each partition one of them. */
    private static void awaitShares(String what, Member... sharing) {
        List<Member> members = List.of(sharing);
        long deadline = System.nanoTime() + Case.WAIT.toNanos();
        while (true) {
            poll(members);
            List<Integer> owned = new ArrayList<>();
            members.forEach(member -> member.consumer.assignment().forEach(tp -> owned.add(tp.partition())));
            boolean idle = members.stream().anyMatch(member -> member.consumer.assignment().isEmpty());
            if (!idle && owned.size() == PARTITIONS && new TreeSet<>(owned).size() == PARTITIONS) {
                return;
            }
            Case.check(System.nanoTime() < deadline, what + ": " + owned);
        }
    }

    /** Members join, leave, and vanish: a static one does not say that it goes. */
    private static void groupMembers(Case c) throws Exception {
        c.create(PARTITIONS, Map.of());
        String group = c.topic + "-members";
        String strategy = STRATEGIES.get(c.args.get("strategy")).getName();
        Member first = new Member(c, group, strategy, null);
        Member second = new Member(c, group, strategy, null);
        awaitShares("two members", first, second);
        Member third = new Member(c, group, strategy, "third");
        awaitShares("a third member", first, second, third);
        third.consumer.close();
        awaitShares("the third has vanished", first, second);
        second.consumer.close();
        awaitShares("the second has left", first);
        ConsumerGroupDescription described =
                Case.get(c.admin().describeConsumerGroups(Set.of(group)).describedGroups().get(group));
        Case.equal(described.members().size(), 1, "members");
        first.consumer.close();
        Case.get(c.admin().deleteConsumerGroups(Set.of(group)).all());
        Case.fails(
                c.admin().deleteConsumerGroups(Set.of(group)).all(),
                GroupIdNotFoundException.class,
                "a group that is gone");
    }

    /** A group reads on where it committed, from the start when it was reset, and only its members commit. */
    private static void groupCommits(Case c) throws Exception {
        c.create(Case.PARTITIONS, Map.of());
        c.send(c.producer(Map.of()), c.sampleRecords(90, Case.PARTITIONS));
        String group = c.topic + "-commits";
        firstOffsets(c, group, List.of(0L, 0L, 0L), member -> member.commitSync(offsets(c, 5, 10, 29)));
        firstOffsets(c, group, List.of(5L, 10L, 29L), member -> Case.fails(
                c.admin().alterConsumerGroupOffsets(group, offsets(c, 0, 0, 0)).all(),
                UnknownMemberIdException.class,
                "a commit into a group that has members"));
        Case.get(c.admin().alterConsumerGroupOffsets(group, offsets(c, 0, 0, 0)).all());
        firstOffsets(c, group, List.of(0L, 0L, 0L), member -> {});
    }

    private static Map<TopicPartition, OffsetAndMetadata> offsets(Case c, long... at) {
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        for (int p = 0; p < at.length; p++) {
            offsets.put(new TopicPartition(c.topic, p), new OffsetAndMetadata(at[p]));
        }
        return offsets;
    }

    /** A new, only member gets the records of each partition (30) from these offsets on. */
    private static void firstOffsets(
            Case c, String group, List<Long> expected, Consumer<KafkaConsumer<byte[], byte[]>> beforeLeaving) {
        Member member = new Member(c, group, RangeAssignor.class.getName(), null);
        Map<Integer, Long> firsts = new TreeMap<>();
        long count = 30L * expected.size() - expected.stream().mapToLong(Long::longValue).sum();
        long deadline = System.nanoTime() + Case.WAIT.toNanos();
        while (count > 0) {
            Case.check(System.nanoTime() < deadline, count + " records missing");
            for (ConsumerRecord<byte[], byte[]> got : member.consumer.poll(Duration.ofMillis(50))) {
                firsts.putIfAbsent(got.partition(), got.offset());
                count--;
            }
        }
        Case.equal(List.copyOf(firsts.values()), expected, "first offsets");
        Case.equal(count, 0L, "records too many");
        beforeLeaving.accept(member.consumer);
        member.consumer.close();
    }

    /** A static member restarts, and the broker does: no reason for anybody to be rebalanced. */
    private static void groupStatic(Case c) throws Exception {
        c.create(PARTITIONS, Map.of());
        String group = c.topic + "-static";
        String strategy = RangeAssignor.class.getName();
        Member one = new Member(c, group, strategy, "one");
        Member two = new Member(c, group, strategy, "two");
        awaitShares("two static members", one, two);
        int before = two.rebalances;
        one.consumer.close();
        one = new Member(c, group, strategy, "one");
        awaitShares("the first came back", one, two);
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        for (TopicPartition partition : c.topicPartitions(PARTITIONS)) {
            offsets.put(partition, new OffsetAndMetadata(10 + partition.partition(), "note"));
        }
        one.consumer.commitSync(offsets, Case.WAIT);
        for (String how : List.of("kill", "term")) {
            c.restart(how);
            // Longer than a session: whoever was not recognised would be gone by then.
            long until = System.nanoTime() + (SESSION_MS + 2_000) * 1_000_000L;
            while (System.nanoTime() < until) {
                poll(List.of(one, two));
            }
            awaitShares("after a restart: " + how, one, two);
        }
        Case.equal(two.rebalances, before, "rebalances of a member that never went");
        Case.equal(one.consumer.committed(offsets.keySet(), Case.WAIT), offsets, "committed offsets");
    }

    private GroupCases() {}
}
