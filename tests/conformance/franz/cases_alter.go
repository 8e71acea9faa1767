package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Cases of topics that change, and of what tools ask about partitions.

func set(name, value string) kadm.AlterConfig {
	return kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value}
}

// alter changes single configs of the topic, or only asks whether they could be changed.
func (t *T) alter(validate bool, changes ...kadm.AlterConfig) error {
	ask := t.admin().AlterTopicConfigs
	if validate {
		ask = t.admin().ValidateAlterTopicConfigs
	}
	altered, err := ask(t.ctx, changes, t.topic)
	t.must(err, "alter configs")
	equal(t, len(altered), 1, "answers")
	return altered[0].Err
}

// alterConfigsLive sees that a config works as soon as it is set, on every shard, and still after a restart.
func alterConfigsLive(t *T) {
	t.create(partitions, map[string]*string{"max.message.bytes": kadm.StringPtr("500000")})
	large := make([]*kgo.Record, partitions)
	for p := range large {
		// Of letters that no codec makes much smaller; the producer does not compress anyway.
		large[p] = &kgo.Record{Topic: t.topic, Partition: int32(p), Value: []byte(strings.Repeat("large", 2000))}
	}
	sendLarge := func() []error {
		var errs []error
		for _, result := range t.client(kgo.ProducerBatchCompression(kgo.NoCompression())).ProduceSync(t.ctx, large...) {
			errs = append(errs, result.Err)
		}
		return errs
	}
	refused := func(when string) {
		for _, err := range sendLarge() {
			t.isError(err, kerr.MessageTooLarge, "a batch of 10 KB "+when)
		}
	}
	accepted := func(when string) {
		for _, err := range sendLarge() {
			t.must(err, "a batch of 10 KB "+when)
		}
	}

	t.must(t.alter(true, set("max.message.bytes", "2000")), "validate an alteration")
	equal(t, t.configs()["max.message.bytes"], "500000", "max.message.bytes after a validation")
	accepted("before the alteration")
	t.must(t.alter(false, set("max.message.bytes", "2000")), "alter")
	equal(t, t.configs()["max.message.bytes"], "2000", "max.message.bytes")
	refused("after the alteration")

	t.must(t.alter(false, set("message.timestamp.type", "LogAppendTime")), "alter")
	before := time.Now().Add(-time.Minute)
	stamped := &kgo.Record{Topic: t.topic, Value: []byte("v"), Timestamp: start}
	t.send(t.client(), []*kgo.Record{stamped})
	var last time.Time
	t.read(map[int32]int64{0: t.ends()[0] - 1}, func(r *kgo.Record) { last = r.Timestamp })
	t.check(last.After(before), "a record has its producer's time %v", last)

	const throttled = "leader.replication.throttled.replicas"
	list := func(op kadm.IncrementalOp, value string) kadm.AlterConfig {
		return kadm.AlterConfig{Op: op, Name: throttled, Value: &value}
	}
	t.must(t.alter(false, list(kadm.AppendConfig, "0:1,1:1")), "append")
	t.must(t.alter(false, list(kadm.AppendConfig, "2:1,1:1")), "append")
	t.must(t.alter(false, list(kadm.SubtractConfig, "0:1")), "subtract")
	equal(t, t.configs()[throttled], "1:1,2:1", throttled)

	for what, change := range map[string]kadm.AlterConfig{
		"a value of another type":      set("retention.ms", "soon"),
		"a value out of range":         set("retention.ms", "-2"),
		"a config that is not known":   set("no.such.config", "1"),
		"compaction":                   set("cleanup.policy", "compact"),
		"acks before a sync":           set("flush.messages", "1000"),
		"to append to what is no list": {Op: kadm.AppendConfig, Name: "retention.ms", Value: kadm.StringPtr("1")},
	} {
		for _, validate := range []bool{true, false} {
			t.isError(t.alter(validate, change), kerr.InvalidConfig, what)
		}
	}
	missing, err := t.admin().AlterTopicConfigs(t.ctx, []kadm.AlterConfig{set("retention.ms", "1")}, t.topic+"-missing")
	t.must(err, "alter configs")
	t.isError(missing[0].Err, kerr.UnknownTopicOrPartition, "configs of a topic that does not exist")
	found, err := t.admin().Metadata(t.ctx)
	t.must(err, "metadata")
	broker, err := t.admin().AlterBrokerConfigs(t.ctx, []kadm.AlterConfig{set("num.partitions", "7")}, found.Controller)
	t.must(err, "alter configs of the broker")
	t.isError(broker[0].Err, kerr.InvalidRequest, "a config of the broker")

	for _, how := range []string{"term", "kill"} {
		t.restart(how)
		equal(t, t.configs()["max.message.bytes"], "2000", "max.message.bytes after "+how)
		equal(t, t.configs()[throttled], "1:1,2:1", throttled+" after "+how)
		refused("after " + how)
	}
	t.must(t.alter(false, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "max.message.bytes"}), "delete a config")
	accepted("when its limit is deleted")

	// The older request says all configs: what it leaves out goes back to its default.
	states, err := t.admin().AlterTopicConfigsState(t.ctx, []kadm.AlterConfig{set("retention.ms", "7200000")}, t.topic)
	t.must(err, "alter the state of configs")
	t.must(states[0].Err, "alter the state of configs")
	configs := t.configs()
	equal(t, configs["retention.ms"], "7200000", "retention.ms")
	equal(t, configs["message.timestamp.type"], "CreateTime", "message.timestamp.type")
}

// createPartitionsLive sees that new partitions can be used as soon as they are there, and are kept.
func createPartitionsLive(t *T) {
	const before, after = 2, 7
	t.create(before, nil)
	sent := t.sampleRecords(20, before)
	t.send(t.client(), sent)
	grow := func(validate bool, count int) error {
		ask := t.admin().UpdatePartitions
		if validate {
			ask = t.admin().ValidateUpdatePartitions
		}
		grown, err := ask(t.ctx, count, t.topic)
		t.must(err, "create partitions")
		return grown[t.topic].Err
	}
	t.must(grow(true, after), "validate")
	equal(t, len(t.describe().Partitions), before, "partitions after a validation")
	t.must(grow(false, after), "grow")
	equal(t, len(t.describe().Partitions), after, "partitions")
	client := t.client()
	for p := int32(before); p < after; p++ {
		sent = append(sent, &kgo.Record{Topic: t.topic, Partition: p, Value: fmt.Appendf(nil, "new %d", p), Timestamp: start})
	}
	t.send(client, sent[20:])
	t.expect(sent, after)
	for _, count := range []int{after, before, 1, 0, -5, 1_000_000_000} {
		t.isError(grow(false, count), kerr.InvalidPartitions, fmt.Sprintf("to grow to %d", count))
	}
	missing, err := t.admin().UpdatePartitions(t.ctx, 9, t.topic+"-missing")
	t.must(err, "create partitions")
	t.isError(missing[t.topic+"-missing"].Err, kerr.UnknownTopicOrPartition, "a topic that does not exist")

	assigned := func(brokers ...int32) error {
		request := kmsg.NewPtrCreatePartitionsRequest()
		topic := kmsg.NewCreatePartitionsRequestTopic()
		topic.Topic, topic.Count = t.topic, after+1
		topic.Assignment = []kmsg.CreatePartitionsRequestTopicAssignment{{Replicas: brokers}}
		request.Topics = append(request.Topics, topic)
		response, err := request.RequestWith(t.ctx, t.client())
		t.must(err, "create partitions")
		return kerr.ErrorForCode(response.Topics[0].ErrorCode)
	}
	t.isError(assigned(4711), kerr.InvalidReplicaAssignment, "an assignment to a broker that is not there")
	for _, how := range []string{"term", "kill"} {
		t.restart(how)
		equal(t, len(t.describe().Partitions), after, "partitions after "+how)
		t.expect(sent, after)
	}
}

func logDirs(t *T) {
	t.create(2, nil)
	t.send(t.client(), []*kgo.Record{{Topic: t.topic, Value: make([]byte, 5000)}})
	for what, wanted := range map[string]kadm.TopicsSet{"all": nil, "one topic": {t.topic: {0: {}, 1: {}}}} {
		described, err := t.admin().DescribeAllLogDirs(t.ctx, wanted)
		t.must(err, "describe log dirs")
		found := 0
		described.Each(func(dir kadm.DescribedLogDir) {
			t.must(dir.Err, "log dir "+dir.Dir)
			for _, partition := range dir.Topics[t.topic] {
				found++
				equal(t, partition.OffsetLag, 0, "offset lag")
				written := partition.Partition == 0
				t.check(written == (partition.Size > 0), "%s: partition %d has %d bytes", what, partition.Partition, partition.Size)
				t.check(partition.Size < 50_000, "partition %d has %d bytes", partition.Partition, partition.Size)
			}
			t.check(wanted == nil || len(dir.Topics) == 1, "%d topics where one was asked for", len(dir.Topics))
		})
		equal(t, found, 2, "partitions of "+what)
	}
	// Asked of all brokers at once, the client merges the answers and drops the space of the file systems.
	found, err := t.admin().Metadata(t.ctx)
	t.must(err, "metadata")
	broker := t.client().Broker(int(found.Controller))
	response, err := kmsg.NewPtrDescribeLogDirsRequest().RequestWith(t.ctx, broker)
	t.must(err, "describe log dirs")
	dir := response.Dirs[0]
	t.check(dir.TotalBytes > 0 && dir.UsableBytes > 0 && dir.UsableBytes < dir.TotalBytes,
		"a file system of %d bytes with %d usable ones", dir.TotalBytes, dir.UsableBytes)
}

func producers(t *T) {
	t.create(2, nil)
	client := t.client()
	for range 3 {
		t.send(client, []*kgo.Record{{Topic: t.topic, Value: []byte("v")}})
	}
	id, epoch, err := client.ProducerID(t.ctx)
	t.must(err, "producer id")
	described, err := t.admin().DescribeProducers(t.ctx, kadm.TopicsSet{t.topic: {0: {}, 1: {}}})
	t.must(err, "describe producers")
	found := described[t.topic].Partitions
	equal(t, len(found), 2, "partitions")
	t.must(found[0].Err, "producers of partition 0")
	equal(t, len(found[0].ActiveProducers), 1, "producers of partition 0")
	producer := found[0].ActiveProducers[id]
	equal(t, producer.ProducerEpoch, epoch, "epoch")
	equal(t, producer.LastSequence, 2, "last sequence")
	t.check(producer.LastTimestamp > start.UnixMilli(), "last timestamp %d", producer.LastTimestamp)
	equal(t, producer.CurrentTxnStartOffset, -1, "start of a transaction")
	t.must(found[1].Err, "producers of partition 1")
	equal(t, len(found[1].ActiveProducers), 0, "producers of partition 1")
}

// topicPartitions reads topics page by page.
func topicPartitions(t *T) {
	names := []string{t.topic + "-a", t.topic + "-b"}
	created, err := t.admin().CreateTopics(t.ctx, 3, 1, nil, names...)
	t.must(err, "create topics")
	t.must(created.Error(), "create topics")
	var cursor *kmsg.DescribeTopicPartitionsRequestCursor
	var pages []string
	for {
		request := kmsg.NewPtrDescribeTopicPartitionsRequest()
		for _, name := range append(names, t.topic+"-missing") {
			topic := kmsg.NewDescribeTopicPartitionsRequestTopic()
			topic.Topic = name
			request.Topics = append(request.Topics, topic)
		}
		request.ResponsePartitionLimit = 2
		request.Cursor = cursor
		response, err := request.RequestWith(t.ctx, t.client())
		t.must(err, "describe topic partitions")
		var page []string
		for _, topic := range response.Topics {
			name := strings.TrimPrefix(*topic.Topic, t.topic)
			if topic.ErrorCode != 0 {
				page = append(page, fmt.Sprint(name, " ", topic.ErrorCode))
			}
			for _, partition := range topic.Partitions {
				t.check(partition.LeaderID >= 0 && slices.Contains(partition.ISR, partition.LeaderID), "no leader")
				page = append(page, fmt.Sprint(name, " ", partition.Partition))
			}
		}
		pages = append(pages, strings.Join(page, ","))
		next := response.NextCursor
		if next == nil {
			break
		}
		made := kmsg.NewDescribeTopicPartitionsRequestCursor()
		made.Topic, made.Partition = next.Topic, next.Partition
		cursor = &made
	}
	equal(t, strings.Join(pages, "; "), "-a 0,-a 1; -a 2,-b 0; -b 1,-b 2; -missing 3", "pages")
	deleted, err := t.admin().DeleteTopics(t.ctx, names...)
	t.must(err, "delete topics")
	t.must(deleted.Error(), "delete topics")
}

// nothingToList asks for what there is none of here.
func nothingToList(t *T) {
	t.create(1, nil)
	quotas, err := t.admin().DescribeClientQuotas(t.ctx, true, nil)
	t.must(err, "describe quotas")
	equal(t, len(quotas), 0, "quotas")
	name := "somebody"
	filter := []kadm.DescribeClientQuotaComponent{{Type: "user", MatchName: &name}}
	quotas, err = t.admin().DescribeClientQuotas(t.ctx, false, filter)
	t.must(err, "describe quotas")
	equal(t, len(quotas), 0, "quotas of a user")
	_, err = t.admin().DescribeClientQuotas(t.ctx, false, append(filter, filter...))
	t.isError(err, kerr.InvalidRequest, "a filter with a type twice")
	moving, err := t.admin().ListPartitionReassignments(t.ctx, nil)
	t.must(err, "list reassignments")
	equal(t, len(moving), 0, "reassignments")
	acls, err := anyACL().RequestWith(t.ctx, t.client())
	t.must(err, "describe ACLs")
	t.isError(kerr.ErrorForCode(acls.ErrorCode), kerr.SecurityDisabled, "ACLs")
	resources, err := t.admin().ListConfigResources(t.ctx, kadm.ConfigResourceClientMetrics, kadm.ConfigResourceGroupConfig)
	t.must(err, "list config resources")
	t.must(resources.Err, "list config resources")
	equal(t, len(resources.Resources), 0, "metrics of clients, and groups with configs")
	resources, err = t.admin().ListConfigResources(t.ctx, kadm.ConfigResourceTopic)
	t.must(err, "list config resources")
	t.check(slices.Contains(resources.Names(), t.topic), "the topic is not among those that have configs")
}
