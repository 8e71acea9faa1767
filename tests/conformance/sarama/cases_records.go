package main

import (
	"errors"
	"fmt"
	"math/rand"
	"time"

	"github.com/IBM/sarama"
)

// Cases of writing and reading records, and of offsets.

var acks = map[string]sarama.RequiredAcks{
	"0": sarama.NoResponse, "1": sarama.WaitForLocal, "-1": sarama.WaitForAll,
}

func readCommitted(c *sarama.Config) { c.Consumer.IsolationLevel = sarama.ReadCommitted }

func roundtrip(t *T) {
	t.create(partitions, nil)
	sent := t.sampleRecords(600, partitions)
	t.send(sent, func(c *sarama.Config) {
		c.Producer.Compression = codecs[t.args["codec"]]
		c.Producer.RequiredAcks = acks[t.args["acks"]]
		c.Producer.Flush.Frequency = 20 * time.Millisecond
	})
	// With acks=0 nothing tells when the records have arrived, so the ends are polled.
	t.until(func() bool { return t.end() == int64(len(sent)) }, "the records did not arrive")
	t.expect(sent, partitions, nil)
	t.expect(sent, partitions, readCommitted)
	t.drop()
}

// idempotent goes on producing while the broker is restarted under it, twice.
func idempotent(t *T) {
	t.create(partitions, nil)
	const count = 9_000
	// Apache Kafka forgets a producer at a restart when its last record's timestamp is a day old.
	begin := time.Now().Truncate(time.Millisecond)
	sent := make([]*sarama.ProducerMessage, count)
	producer := t.producer(func(c *sarama.Config) {
		c.Producer.Idempotent = true
		c.Net.MaxOpenRequests = 1
	})
	input := make(chan *sarama.ProducerMessage, count)
	go func() {
		for record := range input {
			producer.Input() <- record
		}
	}()
	acked := 0
	for i := range sent {
		text := fmt.Appendf(nil, "%d", i)
		at := begin.Add(time.Duration(i) * time.Millisecond)
		sent[i] = t.record(int32(i)%partitions, text, text, at, header("i", text))
		input <- sent[i]
		if i == count/3 || i == 2*count/3 {
			t.await(producer, i/2-acked)
			acked = i / 2
			t.restart(t.args["how"])
		}
	}
	close(input)
	t.await(producer, count-acked)
	t.expect(sent, partitions, nil)
	t.restart(t.args["how"])
	t.expect(sent, partitions, nil)
}

// recreatedTopic has a producer go on when its topic was deleted and created again. A reader ends: sarama leaves it to
// its user where to go on from a position that is out of range.
func recreatedTopic(t *T) {
	t.create(partitions, nil)
	producer := t.producer(nil)
	consumer, err := sarama.NewConsumer([]string{t.bootstrap}, config())
	t.must(err, "consumer")
	t.onEnd(func() { consumer.Close() })
	// The second topic never gets as long as the first was: a position in that one is beyond its end.
	for _, count := range []int{90, 30} {
		sent := t.sampleRecords(count, partitions)
		go func() {
			for _, record := range sent {
				producer.Input() <- record
			}
		}()
		t.await(producer, count)
		timeout := time.After(waitMax)
		readers := make([]sarama.PartitionConsumer, partitions)
		for p := range readers {
			readers[p], err = consumer.ConsumePartition(t.topic, int32(p), sarama.OffsetOldest)
			t.must(err, "consume partition")
			for i := p; i < count; i += partitions {
				select {
				case message := <-readers[p].Messages():
					equal(t, message.Offset, int64(i/partitions), "offset")
					t.sameRecord(message, sent[i])
				case <-timeout:
					t.failf("records missing in partition %d", p)
				}
			}
		}
		t.expect(sent, partitions, nil)
		t.drop()
		if count == 30 {
			for _, reader := range readers {
				reader.AsyncClose()
			}
			return
		}
		t.create(partitions, nil)
		for p, reader := range readers {
			t.ended(reader, timeout, p)
		}
	}
}

// ended waits until a reader has given up, which it does at a position that is out of range.
func (t *T) ended(reader sarama.PartitionConsumer, timeout <-chan time.Time, p int) {
	outOfRange := false
	for {
		select {
		case failed, open := <-reader.Errors():
			if !open {
				t.check(outOfRange, "the reader of partition %d ended for another reason", p)
				return
			}
			outOfRange = outOfRange || errors.Is(failed.Err, sarama.ErrOffsetOutOfRange)
		case <-timeout:
			t.failf("the reader of partition %d goes on", p)
		}
	}
}

func tooLarge(t *T) {
	t.create(partitions, nil)
	noise := func(size int) []byte {
		content := make([]byte, size)
		rand.New(rand.NewSource(3)).Read(content)
		return content
	}
	roomy := config()
	roomy.Producer.MaxMessageBytes = 3_000_000
	largest := t.record(0, nil, noise(1_048_000), start)
	t.must(t.sendOne(largest, roomy), "the largest record")
	err := t.sendOne(t.record(0, nil, noise(1_048_600), start), roomy)
	t.isError(err, sarama.ErrMessageSizeTooLarge, "a record above the limit")
	after := t.record(0, nil, []byte("after"), start)
	t.must(t.sendOne(after, config()), "a record after it")
	t.expect([]*sarama.ProducerMessage{largest, after}, partitions, nil)
	// A reader whose limit is far below the record must still get it, or it would stand still for ever.
	t.expect([]*sarama.ProducerMessage{largest, after}, partitions, func(c *sarama.Config) {
		c.Consumer.Fetch.Default = 1000
	})
}

// autoCreate produces to a topic that does not exist, with the client's leave to create it.
func autoCreate(t *T) {
	c := config()
	c.Metadata.AllowAutoTopicCreation = true
	sent := t.record(0, nil, []byte("v"), time.Now())
	t.must(t.sendOne(sent, c), "a record in a new topic")
	t.expect([]*sarama.ProducerMessage{sent}, 1, nil)
}

// longPoll sees that a parked fetch is answered when a record becomes durable, not at the end of its wait.
func longPoll(t *T) {
	t.create(1, nil)
	const wait = 6 * time.Second
	c := config()
	c.Consumer.MaxWaitTime = wait
	consumer, err := sarama.NewConsumer([]string{t.bootstrap}, c)
	t.must(err, "consumer")
	t.onEnd(func() { consumer.Close() })
	reader, err := consumer.ConsumePartition(t.topic, 0, 0)
	t.must(err, "consume partition")
	for i := range 5 {
		select {
		case <-reader.Messages():
			t.failf("a record out of nowhere")
		case <-time.After(200 * time.Millisecond):
		}
		sentAt := time.Now()
		t.must(t.sendOne(t.record(0, nil, fmt.Appendf(nil, "%d", i), start), config()), "produce")
		select {
		case message := <-reader.Messages():
			equal(t, string(message.Value), fmt.Sprint(i), "value")
		case <-time.After(waitMax):
			t.failf("the record did not come")
		}
		t.check(time.Since(sentAt) < wait/2, "the record took %v", time.Since(sentAt))
	}
	reader.AsyncClose()
}

func logAppendTime(t *T) {
	t.create(partitions, map[string]string{"message.timestamp.type": "LogAppendTime"})
	before := time.Now().Add(-time.Second)
	t.send(t.sampleRecords(30, partitions), nil)
	after := time.Now().Add(time.Second)
	t.read(partitions, 0, func(got *sarama.ConsumerMessage) {
		t.check(got.Timestamp.After(before) && got.Timestamp.Before(after), "append time %v is not now", got.Timestamp)
	}, nil)
}

func outOfRange(t *T) {
	t.create(1, nil)
	t.send(t.sampleRecords(30, 1), nil)
	consumer, err := sarama.NewConsumer([]string{t.bootstrap}, config())
	t.must(err, "consumer")
	t.onEnd(func() { consumer.Close() })
	// sarama asks for the bounds first, and so fails by itself.
	_, err = consumer.ConsumePartition(t.topic, 0, 5000)
	t.isError(err, sarama.ErrOffsetOutOfRange, "reading past the end")
}

func unknownTopic(t *T) {
	admin := t.adminWith(hasty())
	found, err := admin.DescribeTopics([]string{t.topic})
	t.must(err, "describe topics")
	equal(t, found[0].Err, sarama.ErrUnknownTopicOrPartition, "an unknown topic")
	err = t.sendOne(t.record(0, nil, []byte("v"), start), hasty())
	t.isError(err, sarama.ErrUnknownTopicOrPartition, "producing without leave to create")
	_, exists := t.listed()[t.topic]
	t.check(!exists, "asking created the topic")
	t.isError(admin.DeleteTopic(t.topic), sarama.ErrUnknownTopicOrPartition, "deletion of an unknown topic")
}

// --- offsets ---

func timestamps(t *T) {
	t.create(1, nil)
	const count = 500
	sent := make([]*sarama.ProducerMessage, count)
	for i := range sent {
		// Two records per timestamp: a lookup must find the first of them, inside a batch.
		sent[i] = t.record(0, nil, fmt.Appendf(nil, "%d", i), start.Add(time.Duration(i/2)*time.Second))
	}
	t.send(sent, func(c *sarama.Config) {
		c.Producer.Compression = codecs[t.args["codec"]]
		c.Producer.Flush.Frequency = 50 * time.Millisecond
	})
	lookup := func(at time.Time) *sarama.OffsetResult {
		return t.offsets(1, at.UnixMilli(), sarama.ReadUncommitted)[0]
	}
	for _, i := range []int64{0, 1, 17, 123, 249} {
		at := start.Add(time.Duration(i) * time.Second)
		equal(t, lookup(at).Offset, 2*i, fmt.Sprintf("offset at the time of pair %d", i))
		equal(t, lookup(at).Timestamp, at.UnixMilli(), fmt.Sprintf("time of pair %d", i))
		equal(t, lookup(at.Add(-time.Millisecond)).Offset, 2*i, fmt.Sprintf("offset just before pair %d", i))
	}
	equal(t, lookup(start.Add(count*time.Second)).Offset, -1, "offset after the last record")
	next := lookup(start.Add(200 * time.Second)).Offset
	equal(t, next, 400, "offset to read from")
	t.read(1, next, func(got *sarama.ConsumerMessage) {
		equal(t, got.Offset, next, "offset consumed from a timestamp")
		next++
	}, nil)
	equal(t, next, count, "end of what was read")
}

func listOffsets(t *T) {
	t.create(partitions, nil)
	for _, end := range [][partitions]int64{{0, 0, 0}, {34, 33, 33}} {
		if end[0] > 0 {
			t.send(t.sampleRecords(100, partitions), nil)
		}
		for _, level := range []sarama.IsolationLevel{sarama.ReadUncommitted, sarama.ReadCommitted} {
			for p, b := range t.bounds(partitions, level) {
				equal(t, b, [2]int64{0, end[p]}, fmt.Sprintf("start and end of partition %d", p))
			}
		}
	}
}

func deleteRecords(t *T) {
	t.create(partitions, nil)
	sent := t.sampleRecords(300, partitions)
	t.send(sent, nil)
	t.must(t.admin().DeleteRecords(t.topic, map[int32]int64{0: 40, 1: -1}), "delete records")
	err := t.adminWith(hasty()).DeleteRecords(t.topic, map[int32]int64{2: 101})
	t.isError(err, sarama.ErrOffsetOutOfRange, "deletion past the end")
	for p, expected := range [][2]int64{{40, 100}, {100, 100}, {0, 100}} {
		equal(t, t.bounds(partitions, sarama.ReadUncommitted)[p], expected, fmt.Sprintf("partition %d", p))
	}
	next := int64(40)
	t.read(1, 0, func(got *sarama.ConsumerMessage) {
		equal(t, got.Offset, next, "offset")
		t.sameRecord(got, sent[next*partitions])
		next++
	}, nil)
	equal(t, next, 100, "end of what is left of partition 0")
}

// --- the cross matrix ---

func write(t *T) {
	t.create(partitions, nil)
	binary := make([]byte, 256)
	for i := range binary {
		binary[i] = byte(i)
	}
	var records []*sarama.ProducerMessage
	digests := [partitions]*digest{newDigest(), newDigest(), newDigest()}
	for i := range 300 {
		text := []byte{}
		for range i % 50 {
			text = fmt.Appendf(text, "sarama %d ", i)
		}
		key := [][]byte{nil, {}, fmt.Appendf(nil, "key-%d", i)}[i%3]
		value := [][]byte{nil, {}, text, binary}[i%4]
		headers := [][]sarama.RecordHeader{
			nil,
			{header("a", fmt.Appendf(nil, "%d", i)), header("b", []byte{})},
			{header("a", []byte("x")), header("a", []byte("y"))},
		}[i%3]
		at := start.Add(time.Duration(i) * time.Millisecond)
		p := int32(i/7) % partitions
		records = append(records, t.record(p, key, value, at, headers...))
		digests[p].add(key, value, at, headers)
	}
	t.send(records, func(c *sarama.Config) {
		c.Producer.Compression = codecs[t.args["codec"]]
		c.Producer.Flush.Frequency = 20 * time.Millisecond
	})
	for p, digest := range digests {
		t.value(fmt.Sprintf("p%d", p), digest.text())
	}
}

func readDigests(t *T) {
	found, err := t.admin().DescribeTopics([]string{t.topic})
	t.must(err, "describe topics")
	digests := make([]*digest, len(found[0].Partitions))
	for p := range digests {
		digests[p] = newDigest()
	}
	t.read(int32(len(digests)), 0, func(got *sarama.ConsumerMessage) {
		equal(t, got.Offset, digests[got.Partition].count, "offset")
		headers := make([]sarama.RecordHeader, len(got.Headers))
		for i, header := range got.Headers {
			headers[i] = *header
		}
		digests[got.Partition].add(got.Key, got.Value, got.Timestamp, headers)
	}, nil)
	for p, digest := range digests {
		t.value(fmt.Sprintf("p%d", p), digest.text())
	}
}
