package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Cases of writing and reading records.

func roundtrip(t *T) {
	t.create(partitions, nil)
	options := []kgo.Opt{
		kgo.ProducerBatchCompression(codecs[t.args["codec"]]),
		kgo.ProducerLinger(20 * time.Millisecond),
	}
	// franz-go writes idempotently unless told otherwise, and can only do so with all acks.
	switch t.args["acks"] {
	case "0":
		options = append(options, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	case "1":
		options = append(options, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	}
	sent := t.sampleRecords(600, partitions)
	t.send(t.client(options...), sent)
	if t.args["acks"] == "0" {
		// Nothing tells when the records have arrived, so the ends are polled.
		for deadline := time.Now().Add(waitMax); sum(t.ends()) < int64(len(sent)); {
			t.check(time.Now().Before(deadline), "records sent with acks=0 did not arrive")
			time.Sleep(10 * time.Millisecond)
		}
	}
	t.expect(sent, partitions)
	t.expect(sent, partitions, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	// Without incremental fetch sessions the same must come out.
	t.expect(sent, partitions, kgo.DisableFetchSessions())
	t.drop()
}

func sum(of map[int32]int64) (total int64) {
	for _, n := range of {
		total += n
	}
	return total
}

// idempotent goes on producing while the broker is restarted under it, twice.
func idempotent(t *T) {
	t.create(partitions, nil)
	client := t.client(
		kgo.ProducerLinger(time.Millisecond),
		kgo.ProducerBatchMaxBytes(4000),
		kgo.StopProducerOnDataLossDetected(),
		kgo.MaxBufferedRecords(20_000),
	)
	const count = 15_000
	// Apache Kafka forgets a producer at a restart when its last record's timestamp is a day old.
	begin := time.Now().Truncate(time.Millisecond)
	sent := make([]*kgo.Record, count)
	results := make(chan error, count)
	acked := 0
	receive := func() {
		t.must(<-results, "produce")
		acked++
	}
	for i := range sent {
		sent[i] = &kgo.Record{
			Topic:     t.topic,
			Partition: int32(i) % partitions,
			Key:       fmt.Appendf(nil, "%d", i),
			Value:     fmt.Appendf(nil, "value %d", i),
			Headers:   []kgo.RecordHeader{{Key: "i", Value: fmt.Appendf(nil, "%d", i)}},
			Timestamp: begin.Add(time.Duration(i) * time.Millisecond),
		}
		client.Produce(t.ctx, sent[i], func(_ *kgo.Record, err error) { results <- err })
		if i == count/3 || i == 2*count/3 {
			for acked < i/2 {
				receive()
			}
			t.restart(t.args["how"])
		}
	}
	for acked < count {
		receive()
	}
	t.expect(sent, partitions)
	t.restart(t.args["how"])
	t.expect(sent, partitions)
}

// recreatedTopic has a producer and a consumer go on when their topic was deleted and created again. franz-go
// takes a topic with another id for another topic: it says so, and goes on when it is told to forget the first.
func recreatedTopic(t *T) {
	t.create(partitions, nil)
	producer := t.client()
	consumer := t.client(kgo.ConsumeTopics(t.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	pass := func(count int) {
		sent := t.sampleRecords(count, partitions)
		t.send(producer, sent)
		var next [partitions]int64
		for got := 0; got < count; {
			t.poll(consumer, func(r *kgo.Record) {
				p := r.Partition
				equal(t, r.Offset, next[p], fmt.Sprintf("offset in partition %d", p))
				t.check(int(next[p])*partitions+int(p) < count, "more records than were sent")
				t.sameRecord(r, sent[int(next[p])*partitions+int(p)])
				next[p]++
				got++
			})
		}
		t.expect(sent, partitions)
	}
	pass(90)
	t.drop()
	t.create(partitions, nil)
	t.isError(producer.ProduceSync(t.ctx, t.sampleRecords(3, partitions)...).FirstErr(), kerr.UnknownTopicID,
		"records for a topic that is gone")
	t.until("the consumer to hear of the new topic", func() bool {
		ctx, cancel := context.WithTimeout(t.ctx, time.Second)
		defer cancel()
		fetches := consumer.PollFetches(ctx)
		equal(t, fetches.NumRecords(), 0, "records of a topic that is gone")
		return errors.Is(fetches.Err(), kerr.UnknownTopicID)
	})
	producer.PurgeTopicsFromProducing(t.topic)
	consumer.PurgeTopicsFromConsuming(t.topic)
	consumer.AddConsumeTopics(t.topic)
	pass(30)
	t.drop()
}

func tooLarge(t *T) {
	t.create(partitions, nil)
	client := t.client(kgo.ProducerBatchMaxBytes(3_000_000), kgo.ProducerBatchCompression(kgo.NoCompression()))
	noise := func(size int) []byte {
		content := make([]byte, size)
		rand.New(rand.NewSource(3)).Read(content)
		return content
	}
	largest := &kgo.Record{Topic: t.topic, Value: noise(1_048_000), Timestamp: start}
	t.send(client, []*kgo.Record{largest})
	err := client.ProduceSync(t.ctx, &kgo.Record{Topic: t.topic, Value: noise(1_048_600)}).FirstErr()
	t.isError(err, kerr.MessageTooLarge, "a record above the limit")
	after := &kgo.Record{Topic: t.topic, Value: []byte("after"), Timestamp: start}
	t.send(client, []*kgo.Record{after})
	t.expect([]*kgo.Record{largest, after}, partitions)
	// A reader whose limit is far below the record must still get it, or it would stand still for ever.
	t.expect([]*kgo.Record{largest, after}, partitions, kgo.FetchMaxBytes(1000), kgo.FetchMaxPartitionBytes(1000))
}

// autoCreate produces to a topic that does not exist, with the client's leave to create it.
func autoCreate(t *T) {
	sent := []*kgo.Record{{Topic: t.topic, Value: []byte("v"), Timestamp: time.Now()}}
	t.send(t.client(kgo.AllowAutoTopicCreation()), sent)
	t.expect(sent, 1)
}

func invalidTopic(t *T) {
	client := t.client(kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(2))
	err := client.ProduceSync(t.ctx, &kgo.Record{Topic: t.topic + " with blanks", Value: []byte("v")}).FirstErr()
	t.isError(err, kerr.InvalidTopicException, "a record in a topic with an invalid name")
}

// longPoll sees that a parked fetch is answered when a record becomes durable, not at the end of its wait.
func longPoll(t *T) {
	t.create(1, nil)
	const wait = 6 * time.Second
	consumer := t.client(
		kgo.FetchMaxWait(wait),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.topic: {0: kgo.NewOffset().At(0)}}),
	)
	producer := t.client(kgo.ProducerLinger(0))
	for i := range 5 {
		quiet, cancel := context.WithTimeout(t.ctx, 200*time.Millisecond)
		fetches := consumer.PollFetches(quiet)
		cancel()
		equal(t, fetches.NumRecords(), 0, "records out of nowhere")
		sentAt := time.Now()
		t.send(producer, []*kgo.Record{{Topic: t.topic, Value: fmt.Appendf(nil, "%d", i)}})
		got := 0
		t.poll(consumer, func(r *kgo.Record) {
			equal(t, string(r.Value), fmt.Sprint(i), "value")
			got++
		})
		equal(t, got, 1, "records")
		t.check(time.Since(sentAt) < wait/2, "the record took %v", time.Since(sentAt))
	}
}

func logAppendTime(t *T) {
	t.create(partitions, map[string]*string{"message.timestamp.type": kadm.StringPtr("LogAppendTime")})
	before := time.Now().Add(-time.Second)
	t.send(t.client(), t.sampleRecords(30, partitions))
	after := time.Now().Add(time.Second)
	t.read(fromStart(partitions), func(r *kgo.Record) {
		equal(t, r.Attrs.TimestampType(), 1, "timestamp type (1 is log-append time)")
		t.check(r.Timestamp.After(before) && r.Timestamp.Before(after), "append time %v is not now", r.Timestamp)
	})
}

func outOfRange(t *T) {
	t.create(partitions, nil)
	t.send(t.client(), t.sampleRecords(30, partitions))
	at := kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.topic: {0: kgo.NewOffset().At(5000)}})
	ctx, cancel := context.WithTimeout(t.ctx, waitMax)
	defer cancel()
	client := t.client(at, kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	t.isError(client.PollFetches(ctx).Err(), kerr.OffsetOutOfRange, "reading past the end")
	client = t.client(at, kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	first := int64(-1)
	t.poll(client, func(r *kgo.Record) {
		if first < 0 {
			first = r.Offset
		}
	})
	equal(t, first, 0, "offset after the reset")
}

func unknownTopic(t *T) {
	listed, err := t.admin().ListEndOffsets(t.ctx, t.topic)
	if err == nil {
		err = listed.Error()
	}
	t.isError(err, kerr.UnknownTopicOrPartition, "end offsets")
	err = t.client(kgo.UnknownTopicRetries(1)).ProduceSync(t.ctx, &kgo.Record{Topic: t.topic}).FirstErr()
	t.isError(err, kerr.UnknownTopicOrPartition, "producing without leave to create")
	found, err := t.admin().ListTopics(t.ctx)
	t.must(err, "list topics")
	t.check(!found.Has(t.topic), "asking created the topic")
}

// write is one side of the cross matrix; see the same case in ../librdkafka/client.py.
func write(t *T) {
	t.create(partitions, nil)
	binary := make([]byte, 256)
	for i := range binary {
		binary[i] = byte(i)
	}
	var records []*kgo.Record
	digests := [partitions]*digest{newDigest(), newDigest(), newDigest()}
	for i := range 300 {
		text := []byte{}
		for range i % 50 {
			text = fmt.Appendf(text, "franz-go %d ", i)
		}
		record := &kgo.Record{
			Topic:     t.topic,
			Partition: int32(i/7) % partitions,
			Key:       [][]byte{nil, {}, fmt.Appendf(nil, "key-%d", i)}[i%3],
			Value:     [][]byte{nil, {}, text, binary}[i%4],
			Timestamp: start.Add(time.Duration(i) * time.Millisecond),
			Headers: [][]kgo.RecordHeader{
				nil,
				{{Key: "a", Value: fmt.Appendf(nil, "%d", i)}, {Key: "b", Value: []byte{}}},
				{{Key: "a", Value: []byte("x")}, {Key: "a", Value: []byte("y")}},
			}[i%3],
		}
		records = append(records, record)
		digests[record.Partition].add(record)
	}
	t.send(t.client(kgo.ProducerBatchCompression(codecs[t.args["codec"]])), records)
	for p, digest := range digests {
		t.value(fmt.Sprintf("p%d", p), digest.text())
	}
}

// readDigests is the other side: the digest of every partition, whoever wrote it.
func readDigests(t *T) {
	count := int32(len(t.ends()))
	digests := make([]*digest, count)
	for p := range digests {
		digests[p] = newDigest()
	}
	t.read(fromStart(count), func(r *kgo.Record) {
		equal(t, r.Offset, digests[r.Partition].count, "offset")
		digests[r.Partition].add(r)
	})
	for p, digest := range digests {
		t.value(fmt.Sprintf("p%d", p), digest.text())
	}
}
