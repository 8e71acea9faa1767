import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ConsumerGroupListing;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupResult;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.clients.consumer.StickyAssignor;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.UnknownMemberIdException;

/** Groups, as the members of the Java client see them. All members are polled by one thread, in turn. */
final class GroupCases {
    private static final int PARTITIONS = 6;
    private static final int SESSION_MS = 6_000;
    /** Of one that comes back in time: a JVM takes its time to start on a busy machine. */
    private static final int LONG_SESSION_MS = 30_000;

    static void register(Map<String, Client.Body> cases) {
        cases.put("group_members", GroupCases::groupMembers);
        cases.put("group_commits", GroupCases::groupCommits);
        cases.put("group_static", GroupCases::groupStatic);
        cases.put("group_static_killed", GroupCases::groupStaticKilled);
        cases.put("group_static_fenced", GroupCases::groupStaticFenced);
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
            this(c, group, strategy, instance, SESSION_MS);
        }

        Member(Case c, String group, String strategy, String instance, int sessionMs) {
            Map<String, Object> settings = new HashMap<>(Map.of(
                    "group.id", group,
                    "auto.offset.reset", "earliest",
                    "session.timeout.ms", sessionMs,
                    "heartbeat.interval.ms", 500,
                    // Goes along with each join and each fetch; no replica is nearer than another.
                    "client.rack", "east",
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

        /** Has it been told, by its next poll, that another has its place? */
        boolean isFenced() {
            try {
                consumer.poll(Duration.ofMillis(20));
                return false;
            } catch (FencedInstanceIdException told) {
                return true;
            }
        }
    }

    private static void poll(List<Member> members) {
        members.forEach(member -> member.consumer.poll(Duration.ofMillis(20)));
    }

    /** The partitions of all these members; one that two have is there twice. */
    private static List<Integer> owned(List<Member> members) {
        List<Integer> owned = new ArrayList<>();
        members.forEach(member -> member.consumer.assignment().forEach(tp -> owned.add(tp.partition())));
        return owned;
    }

    /** Do these members own all partitions, but those that are owned elsewhere, each partition one of them? */
    private static boolean share(List<Member> members, Set<Integer> elsewhere) {
        List<Integer> owned = owned(members);
        owned.addAll(elsewhere);
        boolean idle = members.stream().anyMatch(member -> member.consumer.assignment().isEmpty());
        return !idle && owned.size() == PARTITIONS && new TreeSet<>(owned).size() == PARTITIONS;
    }

    private static void await(String what, List<Member> members, BooleanSupplier holds) {
        long deadline = System.nanoTime() + Case.WAIT.toNanos();
        do {
            Case.check(System.nanoTime() < deadline, what + ": " + owned(members));
            poll(members);
        } while (!holds.getAsBoolean());
    }

    /** Polls until these members own all partitions, each partition one of them. */
    private static void awaitShares(String what, Member... sharing) {
        List<Member> members = List.of(sharing);
        await(what, members, () -> share(members, Set.of()));
    }

    private static void awaitShares(String what, MemberProcess apart, List<Member> members) {
        await(what, members, () -> !apart.owned.isEmpty() && share(members, apart.owned));
    }

    /** A member in a process of its own, made to be killed, and the partitions that it had when it last told them. */
    private static final class MemberProcess {
        volatile Set<Integer> owned = Set.of();
        private final Process process;

        /** After the group and the strategy, for a static one: its instance id and its session timeout. */
        MemberProcess(Case c, String... args) throws IOException {
            List<String> words = new ArrayList<>(List.of("member", c.bootstrap, c.topic));
            words.addAll(List.of(args));
            process = c.start(words.toArray(String[]::new));
            Thread reader = new Thread(() -> {
                try (var lines = process.inputReader()) {
                    lines.lines().forEach(line -> owned = partitions(line));
                } catch (IOException | UncheckedIOException killed) {
                    // It says no more.
                }
            });
            reader.setDaemon(true);
            reader.start();
        }

        private static Set<Integer> partitions(String line) {
            return Arrays.stream(line.split(","))
                    .filter(number -> !number.isEmpty())
                    .map(Integer::valueOf)
                    .collect(Collectors.toUnmodifiableSet());
        }

        void kill() throws InterruptedException {
            // SIGKILL, as Java calls it.
            process.destroyForcibly().waitFor();
        }
    }

    /** The program of such a process. */
    static void memberMain(String bootstrap, String topic, List<String> args) {
        Case c = new Case(null, bootstrap, topic, Map.of());
        Member member = args.size() == 2
                ? new Member(c, args.get(0), args.get(1), null)
                : new Member(c, args.get(0), args.get(1), args.get(2), Integer.parseInt(args.get(3)));
        String told = "";
        while (true) {
            poll(List.of(member));
            String owned = member.consumer.assignment().stream()
                    .map(partition -> String.valueOf(partition.partition()))
                    .sorted()
                    .collect(Collectors.joining(","));
            if (!owned.equals(told)) {
                told = owned;
                System.out.println(told);
            }
        }
    }

    /** Three share the partitions; one is killed, one leaves, and the last takes over. */
    @SuppressWarnings("deprecation") // Of Kafka 4.1's listConsumerGroups: 3.9 has no other.
    private static void groupMembers(Case c) throws Exception {
        c.create(PARTITIONS, Map.of());
        String group = c.topic + "-members";
        String strategy = STRATEGIES.get(c.args.get("strategy")).getName();
        Member first = new Member(c, group, strategy, null);
        Member second = new Member(c, group, strategy, null);
        awaitShares("two members", first, second);
        MemberProcess third = new MemberProcess(c, group, strategy);
        // The others are polled until it has told: a cooperative rebalance has more than one step.
        awaitShares("a third member", third, List.of(first, second));
        third.kill();
        awaitShares("the third was killed", first, second);
        second.consumer.close();
        awaitShares("the second has left", first);
        Collection<ConsumerGroupListing> listed = Case.get(c.admin().listConsumerGroups().all());
        Case.check(listed.stream().anyMatch(one -> one.groupId().equals(group) && !one.isSimpleConsumerGroup()),
                "the group is not listed");
        Case.equal(describe(c, group).members().size(), 1, "members");
        first.consumer.close();
        Case.get(c.admin().deleteConsumerGroups(Set.of(group)).all());
        Case.fails(
                c.admin().deleteConsumerGroups(Set.of(group)).all(),
                GroupIdNotFoundException.class,
                "a group that is gone");
    }

    private static ConsumerGroupDescription describe(Case c, String group) throws Exception {
        return Case.get(c.admin().describeConsumerGroups(Set.of(group)).describedGroups().get(group));
    }

    /** A group reads on where it committed, from the start when it was reset, and only its members commit. */
    private static void groupCommits(Case c) throws Exception {
        c.create(Case.PARTITIONS, Map.of());
        c.send(c.producer(Map.of()), c.sampleRecords(90, Case.PARTITIONS));
        String group = c.topic + "-commits";
        firstOffsets(c, group, List.of(0L, 0L, 0L), member -> member.commitSync(offsets(c, 5, 10, 29)));
        Set<TopicPartition> one = Set.of(c.partition(1));
        firstOffsets(c, group, List.of(5L, 10L, 29L), member -> {
            Case.fails(
                    c.admin().alterConsumerGroupOffsets(group, offsets(c, 0, 0, 0)).all(),
                    UnknownMemberIdException.class,
                    "a commit into a group that has members");
            Case.fails(
                    c.admin().deleteConsumerGroupOffsets(group, one).partitionResult(c.partition(1)),
                    GroupSubscribedToTopicException.class,
                    "a deletion of offsets that a member goes by");
        });
        Case.get(c.admin().alterConsumerGroupOffsets(group, offsets(c, 0, 0, 0)).all());
        firstOffsets(c, group, List.of(0L, 0L, 0L), member -> {});
        Case.get(c.admin().deleteConsumerGroupOffsets(group, one).all());
        Map<TopicPartition, OffsetAndMetadata> left = new HashMap<>(
                Case.get(c.admin().listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()));
        left.values().removeIf(java.util.Objects::isNull);
        Case.equal(left.keySet(), Set.of(c.partition(0), c.partition(2)), "partitions with committed offsets");
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

    /** A static member restarts, and the broker does: no reason for anybody to be rebalanced. Then they are removed. */
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
        removeMembers(c, group, one, two);
    }

    /** An operator removes members whose clients are there, and send heartbeats: no session runs out meanwhile. */
    private static void removeMembers(Case c, String group, Member one, Member two) throws Exception {
        MemberToRemove named = new MemberToRemove("two");
        MemberToRemove nobody = new MemberToRemove("nobody");
        RemoveMembersFromConsumerGroupResult removed = c.admin().removeMembersFromConsumerGroup(
                group, new RemoveMembersFromConsumerGroupOptions(Set.of(named, nobody)));
        Case.get(removed.memberResult(named));
        Case.fails(removed.memberResult(nobody), UnknownMemberIdException.class, "the removal of nobody");
        awaitShares("the second was removed", one);
        Case.equal(describe(c, group).members().size(), 1, "members after a removal");
        awaitShares("the second has joined again", one, two);
        Case.get(c.admin().removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions()).all());
        Case.equal(describe(c, group).members().size(), 0, "members after the removal of all");
    }

    /** Who comes back within its session finds its partitions, and nobody is rebalanced; who stays away loses them. */
    private static void groupStaticKilled(Case c) throws Exception {
        c.create(PARTITIONS, Map.of());
        String group = c.topic + "-killed";
        String strategy = RangeAssignor.class.getName();
        Member one = new Member(c, group, strategy, "one");
        Member two = new Member(c, group, strategy, "two");
        List<Member> others = List.of(one, two);
        MemberProcess killed = new MemberProcess(c, group, strategy, "three", String.valueOf(LONG_SESSION_MS));
        awaitShares("three static members", killed, others);
        List<Integer> before = List.of(one.rebalances, two.rebalances);
        killed.kill();
        MemberProcess again = new MemberProcess(c, group, strategy, "three", String.valueOf(SESSION_MS));
        await("the third came back", others, () -> again.owned.equals(killed.owned));
        Case.equal(List.of(one.rebalances, two.rebalances), before, "rebalances of members that never went");
        Case.check(share(others, again.owned), "the others lost their partitions");
        again.kill();
        awaitShares("the third stayed away", one, two);
    }

    /** Who comes with the instance id of one that lives takes its place, and the other is told so. */
    private static void groupStaticFenced(Case c) throws Exception {
        c.create(PARTITIONS, Map.of());
        String group = c.topic + "-fenced";
        String strategy = RangeAssignor.class.getName();
        Member one = new Member(c, group, strategy, "one");
        Member two = new Member(c, group, strategy, "two");
        awaitShares("two static members", one, two);
        Set<TopicPartition> place = Set.copyOf(one.consumer.assignment());
        int before = two.rebalances;
        Member again = new Member(c, group, strategy, "one");
        List<Member> left = List.of(two, again);
        await("another one", left, () -> again.consumer.assignment().equals(place));
        await("the first is told", left, one::isFenced);
        Case.equal(two.rebalances, before, "rebalances of a member that never went");
        Case.check(share(left, Set.of()), "the other one did not stay");
    }

    private GroupCases() {}
}
