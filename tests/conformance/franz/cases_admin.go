package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Cases of topics, their configs, and the cluster.

func topics(t *T) {
	t.create(5, nil)
	first := t.describe()
	equal(t, len(first.Partitions), 5, "partitions")
	_, err := t.admin().CreateTopic(t.ctx, 5, 1, nil, t.topic)
	t.isError(err, kerr.TopicAlreadyExists, "second creation")
	t.send(t.client(), t.sampleRecords(10, 5))
	t.drop()
	found, err := t.admin().ListTopics(t.ctx)
	t.must(err, "list topics")
	t.check(!found.Has(t.topic), "a deleted topic is listed")
	_, err = t.admin().DeleteTopic(t.ctx, t.topic)
	t.isError(err, kerr.UnknownTopicOrPartition, "second deletion")
	t.create(2, nil)
	t.check(t.describe().ID != first.ID, "a topic created again has its old id")
	equal(t, sum(t.ends()), 0, "a topic created again begins empty")
	t.drop()
}

func (t *T) describe() kadm.TopicDetail {
	found, err := t.admin().ListTopics(t.ctx, t.topic)
	t.must(err, "list topics")
	t.must(found[t.topic].Err, "describe "+t.topic)
	return found[t.topic]
}

func invalidCreations(t *T) {
	text := kadm.StringPtr
	for _, try := range []struct {
		name       string
		partitions int32
		replicas   int16
		config     map[string]*string
		expected   *kerr.Error
	}{
		{"bad/name", 1, 1, nil, kerr.InvalidTopicException},
		{"..", 1, 1, nil, kerr.InvalidTopicException},
		{strings.Repeat("x", 250), 1, 1, nil, kerr.InvalidTopicException},
		{t.topic, 0, 1, nil, kerr.InvalidPartitions},
		{t.topic, 1, 3, nil, kerr.InvalidReplicationFactor},
		{t.topic, 1, 1, map[string]*string{"no.such.config": text("1")}, kerr.InvalidConfig},
		{t.topic, 1, 1, map[string]*string{"retention.ms": text("soon")}, kerr.InvalidConfig},
	} {
		_, err := t.admin().CreateTopic(t.ctx, try.partitions, try.replicas, try.config, try.name)
		t.isError(err, try.expected, fmt.Sprintf("creation of %.20s with %v", try.name, try.config))
	}
	_, err := t.admin().ValidateCreateTopics(t.ctx, 1, 1, nil, t.topic)
	t.must(err, "validate a creation")
	found, err := t.admin().ListTopics(t.ctx)
	t.must(err, "list topics")
	t.check(!found.Has(t.topic), "a validation created the topic")
}

// manyTopics makes one request for many topics, writes one record to each partition, and deletes them all.
func manyTopics(t *T) {
	var names []string
	var sent []*kgo.Record
	assigned := map[string]map[int32]kgo.Offset{}
	for i := range 20 {
		name := fmt.Sprintf("%s-%d", t.topic, i)
		names = append(names, name)
		assigned[name] = map[int32]kgo.Offset{}
		for p := range int32(10) {
			sent = append(sent, &kgo.Record{Topic: name, Partition: p, Value: fmt.Appendf(nil, "%s/%d", name, p)})
			assigned[name][p] = kgo.NewOffset().At(0)
		}
	}
	created, err := t.admin().CreateTopics(t.ctx, 10, 1, nil, names...)
	t.must(err, "create topics")
	t.must(created.Error(), "create topics")
	t.send(t.client(), sent)
	consumer := t.client(kgo.ConsumePartitions(assigned))
	seen := map[string]bool{}
	for len(seen) < len(sent) {
		t.poll(consumer, func(r *kgo.Record) {
			equal(t, string(r.Value), fmt.Sprintf("%s/%d", r.Topic, r.Partition), "value")
			seen[string(r.Value)] = true
		})
	}
	deleted, err := t.admin().DeleteTopics(t.ctx, names...)
	t.must(err, "delete topics")
	t.must(deleted.Error(), "delete topics")
}

func metadata(t *T) {
	t.create(partitions, nil)
	found, err := t.admin().Metadata(t.ctx)
	t.must(err, "metadata")
	t.check(found.Cluster != "", "no cluster id")
	nodes := found.Brokers.NodeIDs()
	t.check(contains(nodes, found.Controller), "the controller is not among the brokers")
	topic := found.Topics[t.topic]
	t.check(topic.ID != kadm.TopicID{}, "no topic id")
	equal(t, len(topic.Partitions), partitions, "partitions")
	for _, p := range topic.Partitions {
		t.must(p.Err, "partition")
		t.check(contains(nodes, p.Leader), "leader %d is not among the brokers", p.Leader)
		t.check(contains(p.ISR, p.Leader), "the leader is not in sync with itself")
		t.check(p.LeaderEpoch >= 0, "no leader epoch")
	}
}

func contains(list []int32, item int32) bool {
	for _, candidate := range list {
		if candidate == item {
			return true
		}
	}
	return false
}

func describeConfigs(t *T) {
	t.create(partitions, map[string]*string{
		"retention.ms":      kadm.StringPtr("7200000"),
		"max.message.bytes": kadm.StringPtr("500000"),
	})
	found := t.configs()
	equal(t, found["retention.ms"], "7200000", "retention.ms")
	equal(t, found["max.message.bytes"], "500000", "max.message.bytes")
	equal(t, found["cleanup.policy"], "delete", "cleanup.policy")
	for _, name := range []string{"retention.bytes", "segment.bytes", "message.timestamp.type", "compression.type"} {
		_, listed := found[name]
		t.check(listed, "%s is not listed", name)
	}
	missing, err := t.admin().DescribeTopicConfigs(t.ctx, t.topic+"-missing")
	t.must(err, "describe configs")
	t.isError(missing[0].Err, kerr.UnknownTopicOrPartition, "configs of a topic that does not exist")
	brokers, err := t.admin().ListBrokers(t.ctx)
	t.must(err, "list brokers")
	broker, err := t.admin().DescribeBrokerConfigs(t.ctx, brokers.NodeIDs()...)
	t.must(err, "describe broker configs")
	t.must(broker[0].Err, "describe broker configs")
	t.check(len(broker[0].Configs) > 0, "a broker without configs")
}

func (t *T) configs() map[string]string {
	described, err := t.admin().DescribeTopicConfigs(t.ctx, t.topic)
	t.must(err, "describe configs")
	t.must(described[0].Err, "describe configs")
	values := map[string]string{}
	for _, config := range described[0].Configs {
		values[config.Key] = config.MaybeValue()
	}
	return values
}

func createPartitions(t *T) {
	t.create(2, nil)
	update := func(count int) error {
		answers, err := t.admin().UpdatePartitions(t.ctx, count, t.topic)
		t.must(err, "create partitions")
		return answers[t.topic].Err
	}
	t.must(update(5), "grow to 5")
	equal(t, len(t.describe().Partitions), 5, "partitions")
	t.isError(update(3), kerr.InvalidPartitions, "fewer partitions")
	t.isError(update(5), kerr.InvalidPartitions, "as many partitions as there are")
	sent := t.sampleRecords(50, 5)
	t.send(t.client(), sent)
	t.expect(sent, 5)
}

func alterConfigs(t *T) {
	t.create(1, map[string]*string{"max.message.bytes": kadm.StringPtr("500000")})
	alter := func(op kadm.IncrementalOp, name, value string) error {
		config := kadm.AlterConfig{Op: op, Name: name, Value: &value}
		answers, err := t.admin().AlterTopicConfigs(t.ctx, []kadm.AlterConfig{config}, t.topic)
		t.must(err, "alter configs")
		return answers[0].Err
	}
	before := t.configs()["retention.ms"]
	t.must(alter(kadm.SetConfig, "retention.ms", "3600000"), "set")
	equal(t, t.configs()["retention.ms"], "3600000", "retention.ms")
	t.must(alter(kadm.DeleteConfig, "retention.ms", ""), "take back")
	t.check(t.configs()["retention.ms"] != "3600000" && before == "-1", "a config that was taken back")
	equal(t, t.configs()["max.message.bytes"], "500000", "the config that was left alone")
	t.isError(alter(kadm.SetConfig, "no.such.config", "1"), kerr.InvalidConfig, "an unknown config")
	t.isError(alter(kadm.SetConfig, "retention.ms", "soon"), kerr.InvalidConfig, "a config without a number")
}

func describeCluster(t *T) {
	found, err := t.admin().BrokerMetadata(t.ctx)
	t.must(err, "metadata of the brokers")
	var addresses []string
	for _, node := range found.Brokers {
		addresses = append(addresses, net.JoinHostPort(node.Host, strconv.Itoa(int(node.Port))))
	}
	listed := strings.Contains(strings.Join(addresses, " "), t.bootstrap)
	equal(t, listed, t.args["own_address"] == "listed", fmt.Sprintf("whether the own address is in %v", addresses))
	equal(t, len(found.Topics), 0, "topics that nobody asked for")
	described := t.clusterID()
	equal(t, described, found.Cluster, "cluster id")
}

// restartKeeps sees that what a topic is outlives both kinds of restart.
func restartKeeps(t *T) {
	const count = 4
	t.create(count, map[string]*string{"retention.ms": kadm.StringPtr("630720000000")})
	sent := t.sampleRecords(400, count)
	t.send(t.client(), sent)
	gone := t.topic + "-gone"
	_, err := t.admin().CreateTopic(t.ctx, 1, 1, nil, gone)
	t.must(err, "create "+gone)
	_, err = t.admin().DeleteTopic(t.ctx, gone)
	t.must(err, "delete "+gone)
	before := t.describe().ID
	cluster := t.clusterID()
	for _, how := range []string{"term", "kill"} {
		t.restart(how)
		equal(t, t.describe().ID, before, "topic id after "+how)
		equal(t, t.clusterID(), cluster, "cluster id after "+how)
		found, err := t.admin().ListTopics(t.ctx)
		t.must(err, "list topics")
		t.check(!found.Has(gone), "a deleted topic is back after %s", how)
		equal(t, t.configs()["retention.ms"], "630720000000", "retention.ms after "+how)
		t.expect(sent, count)
	}
}
