package main

import (
	"fmt"
	"strings"

	"github.com/IBM/sarama"
)

// Cases of topics, their configs, and the cluster.

func (t *T) describe() *sarama.TopicMetadata {
	var found []*sarama.TopicMetadata
	t.patient("describe topics", func() (err error) {
		found, err = t.admin().DescribeTopics([]string{t.topic})
		return err
	})
	return found[0]
}

func topics(t *T) {
	t.create(5, nil)
	first := t.describe()
	equal(t, len(first.Partitions), 5, "partitions")
	err := t.admin().CreateTopic(t.topic, detail(5, nil), false)
	t.isError(err, sarama.ErrTopicAlreadyExists, "second creation")
	t.send(t.sampleRecords(10, 5), nil)
	t.drop()
	_, exists := t.listed()[t.topic]
	t.check(!exists, "a deleted topic is listed")
	err = t.adminWith(hasty()).DeleteTopic(t.topic)
	t.isError(err, sarama.ErrUnknownTopicOrPartition, "second deletion")
	t.create(2, nil)
	t.check(t.describe().Uuid != first.Uuid, "a topic created again has its old id")
	for _, b := range t.bounds(2, sarama.ReadUncommitted) {
		equal(t, b, [2]int64{0, 0}, "a topic created again begins empty")
	}
	t.drop()
}

func invalidCreations(t *T) {
	admin := t.adminWith(hasty())
	three := detail(1, nil)
	three.ReplicationFactor = 3
	for _, try := range []struct {
		name     string
		detail   *sarama.TopicDetail
		expected sarama.KError
	}{
		{"bad/name", detail(1, nil), sarama.ErrInvalidTopic},
		{"..", detail(1, nil), sarama.ErrInvalidTopic},
		{strings.Repeat("x", 250), detail(1, nil), sarama.ErrInvalidTopic},
		{t.topic, detail(0, nil), sarama.ErrInvalidPartitions},
		{t.topic, three, sarama.ErrInvalidReplicationFactor},
		{t.topic, detail(1, map[string]string{"no.such.config": "1"}), sarama.ErrInvalidConfig},
		{t.topic, detail(1, map[string]string{"retention.ms": "soon"}), sarama.ErrInvalidConfig},
	} {
		err := admin.CreateTopic(try.name, try.detail, false)
		t.isError(err, try.expected, fmt.Sprintf("creation of %.20s", try.name))
	}
	t.must(admin.CreateTopic(t.topic, detail(1, nil), true), "validate a creation")
	_, exists := t.listed()[t.topic]
	t.check(!exists, "a validation created the topic")
}

func metadata(t *T) {
	t.create(partitions, nil)
	brokers, controller, err := t.admin().DescribeCluster()
	t.must(err, "describe cluster")
	nodes := map[int32]bool{}
	for _, broker := range brokers {
		nodes[broker.ID()] = true
	}
	t.check(nodes[controller], "the controller is not among the brokers")
	topic := t.describe()
	t.check(topic.Uuid != sarama.Uuid{}, "no topic id")
	equal(t, len(topic.Partitions), partitions, "partitions")
	for _, p := range topic.Partitions {
		equal(t, p.Err, sarama.ErrNoError, "partition")
		t.check(nodes[p.Leader], "leader %d is not among the brokers", p.Leader)
		t.check(len(p.Isr) == 1 && p.Isr[0] == p.Leader, "the leader is not in sync with itself")
		t.check(p.LeaderEpoch >= 0, "no leader epoch")
	}
}

func describeCluster(t *T) {
	brokers, _, err := t.admin().DescribeCluster()
	t.must(err, "describe cluster")
	var addresses []string
	for _, broker := range brokers {
		addresses = append(addresses, broker.Addr())
	}
	listed := strings.Contains(strings.Join(addresses, " "), t.bootstrap)
	equal(t, listed, t.args["own_address"] == "listed", fmt.Sprintf("whether the own address is in %v", addresses))
}

func (t *T) configs(kind sarama.ConfigResourceType, name string) (map[string]sarama.ConfigEntry, error) {
	asked := []*sarama.ConfigResource{{Type: kind, Name: name}}
	results, err := t.admin().DescribeConfigs(asked, sarama.DescribeConfigsOptions{})
	if err != nil {
		return nil, err
	}
	values := map[string]sarama.ConfigEntry{}
	for _, entry := range results[0].Configs {
		values[entry.Name] = entry
	}
	if code := results[0].ErrorCode; code != sarama.ErrNoError {
		return nil, code
	}
	return values, nil
}

func describeConfigs(t *T) {
	t.create(partitions, map[string]string{"retention.ms": "7200000", "max.message.bytes": "500000"})
	found, err := t.configs(sarama.TopicResource, t.topic)
	t.must(err, "describe configs")
	equal(t, found["retention.ms"].Value, "7200000", "retention.ms")
	equal(t, found["max.message.bytes"].Value, "500000", "max.message.bytes")
	equal(t, found["cleanup.policy"].Value, "delete", "cleanup.policy")
	equal(t, found["retention.ms"].Source, sarama.SourceTopic, "source of a value that was set")
	equal(t, found["cleanup.policy"].Source, sarama.SourceDefault, "source of a default")
	for _, name := range []string{"retention.bytes", "segment.bytes", "message.timestamp.type", "compression.type"} {
		_, listed := found[name]
		t.check(listed, "%s is not listed", name)
	}
	_, err = t.configs(sarama.TopicResource, t.topic+"-missing")
	t.isError(err, sarama.ErrUnknownTopicOrPartition, "configs of a topic that does not exist")
	_, controller, err := t.admin().DescribeCluster()
	t.must(err, "describe cluster")
	broker, err := t.configs(sarama.BrokerResource, fmt.Sprint(controller))
	t.must(err, "describe broker configs")
	t.check(len(broker) > 0, "a broker without configs")
}

func createPartitions(t *T) {
	t.create(2, nil)
	admin := t.adminWith(hasty())
	t.must(admin.CreatePartitions(t.topic, 5, nil, false), "grow to 5")
	equal(t, len(t.describe().Partitions), 5, "partitions")
	for _, count := range []int32{3, 5} {
		err := admin.CreatePartitions(t.topic, count, nil, false)
		t.isError(err, sarama.ErrInvalidPartitions, fmt.Sprintf("%d partitions where there are 5", count))
	}
	sent := t.sampleRecords(50, 5)
	t.send(sent, nil)
	t.expect(sent, 5, nil)
}

func alterConfigs(t *T) {
	t.create(1, map[string]string{"max.message.bytes": "500000"})
	admin := t.adminWith(hasty())
	alter := func(op sarama.IncrementalAlterConfigsOperation, name, value string) error {
		entries := map[string]sarama.IncrementalAlterConfigsEntry{name: {Operation: op, Value: &value}}
		return admin.IncrementalAlterConfig(sarama.TopicResource, t.topic, entries, false)
	}
	value := func(name string) string {
		found, err := t.configs(sarama.TopicResource, t.topic)
		t.must(err, "describe configs")
		return found[name].Value
	}
	t.must(alter(sarama.IncrementalAlterConfigsOperationSet, "retention.ms", "3600000"), "set")
	equal(t, value("retention.ms"), "3600000", "retention.ms")
	t.must(alter(sarama.IncrementalAlterConfigsOperationDelete, "retention.ms", ""), "take back")
	t.check(value("retention.ms") != "3600000", "a config that was taken back")
	equal(t, value("max.message.bytes"), "500000", "the config that was left alone")
	for _, wrong := range [][2]string{{"no.such.config", "1"}, {"retention.ms", "soon"}} {
		err := alter(sarama.IncrementalAlterConfigsOperationSet, wrong[0], wrong[1])
		t.check(err != nil && strings.Contains(err.Error(), wrong[0]), "%v: %v", wrong, err)
	}
}

// restartKeeps sees that what a topic is outlives both kinds of restart.
func restartKeeps(t *T) {
	const count = 4
	t.create(count, map[string]string{"retention.ms": "630720000000"})
	sent := t.sampleRecords(400, count)
	t.send(sent, nil)
	before := t.describe().Uuid
	for _, how := range []string{"term", "kill"} {
		t.restart(how)
		equal(t, t.describe().Uuid, before, "topic id after "+how)
		found, err := t.configs(sarama.TopicResource, t.topic)
		t.must(err, "describe configs")
		equal(t, found["retention.ms"].Value, "630720000000", "retention.ms after "+how)
		t.expect(sent, count, nil)
	}
}
