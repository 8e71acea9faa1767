package main

import (
	"hash/crc32"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// Cases whose requests no client would send by itself. They go out in the versions of Kafka 2.8, the last
// in which a produce and a fetch name their topic.

func unknownPartition(t *T) {
	t.create(partitions, nil)
	t.isError(t.rawProduce(7, batch("v")), kerr.UnknownTopicOrPartition, "produce to partition 7")
	t.isError(t.rawFetch(7), kerr.UnknownTopicOrPartition, "fetch of partition 7")
	err := t.client().ProduceSync(t.ctx, &kgo.Record{Topic: t.topic, Partition: 7}).FirstErr()
	t.check(err != nil, "the client took a record for a partition that does not exist")
}

func rawErrors(t *T) {
	t.create(partitions, nil)
	t.must(t.rawProduce(0, batch("v")), "a batch without fault")

	corrupt := batch("v")
	corrupt[len(corrupt)-2] ^= 1
	t.isError(t.rawProduce(0, corrupt), kerr.CorruptMessage, "a batch with a flipped bit")

	// A broker may call these corrupt or invalid, but must take neither.
	for what, records := range map[string][]byte{
		"half a batch":                 batch("v")[:40],
		"two batches in one partition": append(batch("a"), batch("b")...),
		"nothing":                      {},
	} {
		t.check(t.rawProduce(0, records) != nil, "a produce of %s was acked", what)
	}
	s := &sweep{T: t, connection: t.dial(), name: "a produce by an id"}
	for _, id := range [][16]byte{{}, {15: 7}} {
		request := produceRequest(0, batch("v"))
		request.Topics[0].TopicID = id
		reply := s.ask(request, 13).(*kmsg.ProduceResponse)
		t.isError(kerr.ErrorForCode(reply.Topics[0].Partitions[0].ErrorCode), kerr.UnknownTopicID, "a produce by a wrong id")
	}
	equal(t, t.ends()[0], 1, "end offset after the refused batches")
	t.must(t.rawFetch(0), "a fetch without fault")
	t.isError(t.rawFetchAs(4711, 0), kerr.NotLeaderForPartition, "a fetch by a replica that there is not")
}

// rawProduce sends one produce request and returns the error of its only partition.
func (t *T) rawProduce(partition int32, records []byte) error {
	request := produceRequest(partition, records)
	request.Topics[0].Topic = t.topic
	reply, err := t.old().Request(t.ctx, request)
	t.must(err, "produce request")
	return kerr.ErrorForCode(reply.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
}

// produceRequest has one partition of a topic that is not named yet.
func produceRequest(partition int32, records []byte) *kmsg.ProduceRequest {
	request := kmsg.NewPtrProduceRequest()
	request.Acks = -1
	request.TimeoutMillis = 5000
	topic := kmsg.NewProduceRequestTopic()
	one := kmsg.NewProduceRequestTopicPartition()
	one.Partition = partition
	one.Records = records
	topic.Partitions = append(topic.Partitions, one)
	request.Topics = append(request.Topics, topic)
	return request
}

// rawFetch sends one fetch request from offset 0 and returns the error of its only partition.
func (t *T) rawFetch(partition int32) error { return t.rawFetchAs(-1, partition) }

// rawFetchAs is rawFetch by a replica, or by a consumer, whose number is -1.
func (t *T) rawFetchAs(replica, partition int32) error {
	request := kmsg.NewPtrFetchRequest()
	request.ReplicaID = replica
	request.MaxBytes = 1000
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic = t.topic
	one := kmsg.NewFetchRequestTopicPartition()
	one.Partition = partition
	one.PartitionMaxBytes = 1000
	topic.Partitions = append(topic.Partitions, one)
	request.Topics = append(request.Topics, topic)
	reply, err := t.old().Request(t.ctx, request)
	t.must(err, "fetch request")
	return kerr.ErrorForCode(reply.(*kmsg.FetchResponse).Topics[0].Partitions[0].ErrorCode)
}

// old is the leader of the topic's partitions, spoken to in the versions of Kafka 2.8. The requests go to
// the first partition's leader, which is the only broker here.
func (t *T) old() *kgo.Broker {
	found, err := t.admin().Metadata(t.ctx, t.topic)
	t.must(err, "metadata")
	leader := found.Topics[t.topic].Partitions[0].Leader
	return t.client(kgo.MaxVersions(kversion.V2_8_0())).Broker(int(leader))
}

// batch is a record batch of one record, as a producer without idempotence would make it.
func batch(value string) []byte {
	record := kmsg.NewRecord()
	record.Value = []byte(value)
	// A record's length, and this one's is below 64, is one varint byte that counts what follows it.
	record.Length = int32(len(record.AppendTo(nil)) - 1)
	made := kmsg.NewRecordBatch()
	made.PartitionLeaderEpoch = -1
	made.Magic = 2
	made.ProducerID = -1
	made.ProducerEpoch = -1
	made.FirstSequence = -1
	made.FirstTimestamp = start.UnixMilli()
	made.MaxTimestamp = start.UnixMilli()
	made.NumRecords = 1
	made.Records = record.AppendTo(nil)
	const lengthEnd, crcEnd = 12, 21
	made.Length = int32(len(made.AppendTo(nil)) - lengthEnd)
	made.CRC = int32(crc32.Checksum(made.AppendTo(nil)[crcEnd:], crc32.MakeTable(crc32.Castagnoli)))
	return made.AppendTo(nil)
}
