package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"maps"
	"math/rand"
	"time"

	"github.com/IBM/sarama"
)

const partitions = 3

// start is the time of the first record: any fixed past time, only not "now".
var start = time.UnixMilli(1_700_000_000_000)

var codecs = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

// config asks for the newest versions that sarama knows, and tries again soon and often after a restart.
func config() *sarama.Config {
	c := sarama.NewConfig()
	c.ClientID = "sarama"
	c.Version = sarama.MaxVersion
	c.Metadata.Retry.Max = 200
	c.Metadata.Retry.Backoff = 30 * time.Millisecond
	c.Metadata.AllowAutoTopicCreation = false
	c.Admin.Retry.Max = 200
	c.Admin.Retry.Backoff = 30 * time.Millisecond
	c.Producer.Retry.Max = 500
	c.Producer.Retry.Backoff = 30 * time.Millisecond
	c.Producer.Return.Successes = true
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Consumer.Retry.Backoff = 30 * time.Millisecond
	c.Consumer.Return.Errors = true
	c.Consumer.MaxWaitTime = 50 * time.Millisecond
	return c
}

// admin is one admin client for the whole case.
func (t *T) admin() sarama.ClusterAdmin {
	if t.adminClient == nil {
		t.adminClient = t.adminWith(config())
	}
	return t.adminClient
}

func (t *T) adminWith(c *sarama.Config) sarama.ClusterAdmin {
	admin, err := sarama.NewClusterAdmin([]string{t.bootstrap}, c)
	t.must(err, "admin client")
	t.onEnd(func() { admin.Close() })
	return admin
}

// hasty gives up soon: sarama takes an unknown topic for one that is about to be there.
func hasty() *sarama.Config {
	c := config()
	c.Metadata.Retry.Max, c.Admin.Retry.Max, c.Producer.Retry.Max = 1, 1, 1
	return c
}

func detail(count int32, configs map[string]string) *sarama.TopicDetail {
	entries := map[string]*string{}
	for name, text := range configs {
		entries[name] = &text
	}
	return &sarama.TopicDetail{NumPartitions: count, ReplicationFactor: 1, ConfigEntries: entries}
}

func (t *T) create(count int32, configs map[string]string) {
	// The records carry timestamps of the past, which retention by age would act upon.
	all := map[string]string{"retention.ms": "-1"}
	maps.Copy(all, configs)
	t.must(t.admin().CreateTopic(t.topic, detail(count, all), false), "create "+t.topic)
}

func (t *T) drop() { t.must(t.admin().DeleteTopic(t.topic), "delete "+t.topic) }

func (t *T) listed() map[string]sarama.TopicDetail {
	found, err := t.admin().ListTopics()
	t.must(err, "list topics")
	return found
}

// producer is an asynchronous producer, closed at the end of the case.
func (t *T) producer(change func(*sarama.Config)) sarama.AsyncProducer {
	c := config()
	if change != nil {
		change(c)
	}
	producer, err := sarama.NewAsyncProducer([]string{t.bootstrap}, c)
	t.must(err, "producer")
	t.onEnd(func() { producer.Close() })
	return producer
}

// send produces the records and fails unless each is acknowledged.
func (t *T) send(records []*sarama.ProducerMessage, change func(*sarama.Config)) {
	producer := t.producer(change)
	go func() {
		for _, record := range records {
			producer.Input() <- record
		}
	}()
	t.await(producer, len(records))
}

// await waits until so many more records are acknowledged.
func (t *T) await(producer sarama.AsyncProducer, count int) {
	timeout := time.After(waitMax)
	for range count {
		select {
		case <-producer.Successes():
		case failed := <-producer.Errors():
			t.failf("produce: %v", failed.Err)
		case <-timeout:
			t.failf("records without an answer")
		}
	}
}

// sendOne returns the error of producing one record.
func (t *T) sendOne(record *sarama.ProducerMessage, c *sarama.Config) error {
	producer, err := sarama.NewSyncProducer([]string{t.bootstrap}, c)
	t.must(err, "producer")
	defer producer.Close()
	_, _, err = producer.SendMessage(record)
	return err
}

// offsets asks for an offset, or for the first one at a time, in each partition.
func (t *T) offsets(count int32, spec int64, level sarama.IsolationLevel) []*sarama.OffsetResult {
	asked := map[int32]int64{}
	for p := range count {
		asked[p] = spec
	}
	results := make([]*sarama.OffsetResult, count)
	t.patient("list offsets", func() error {
		found, err := t.admin().ListOffsets(
			map[string]map[int32]int64{t.topic: asked}, &sarama.ListOffsetsOptions{IsolationLevel: level})
		for p := range count {
			if err == nil {
				results[p] = found[t.topic][p]
				err = results[p].Err
			}
			// sarama hands out "no error" as one.
			if errors.Is(err, sarama.ErrNoError) {
				err = nil
			}
		}
		return err
	})
	return results
}

// bounds is the start and the end of each partition.
func (t *T) bounds(count int32, level sarama.IsolationLevel) [][2]int64 {
	starts, ends := t.offsets(count, sarama.OffsetOldest, level), t.offsets(count, sarama.OffsetNewest, level)
	found := make([][2]int64, count)
	for p := range found {
		found[p] = [2]int64{starts[p].Offset, ends[p].Offset}
	}
	return found
}

func (t *T) end() (sum int64) {
	for _, b := range t.bounds(partitions, sarama.ReadUncommitted) {
		sum += b[1]
	}
	return sum
}

// read visits the records of each partition, from `from` on, up to the ends of now.
func (t *T) read(count int32, from int64, visit func(*sarama.ConsumerMessage), change func(*sarama.Config)) {
	c := config()
	if change != nil {
		change(c)
	}
	consumer, err := sarama.NewConsumer([]string{t.bootstrap}, c)
	t.must(err, "consumer")
	defer consumer.Close()
	for p, b := range t.bounds(count, sarama.ReadUncommitted) {
		first := max(b[0], from)
		if first >= b[1] {
			continue
		}
		reader, err := consumer.ConsumePartition(t.topic, int32(p), first)
		t.must(err, "consume partition")
		for timeout := time.After(waitMax); first < b[1]; {
			select {
			case message := <-reader.Messages():
				visit(message)
				first = message.Offset + 1
			case failed := <-reader.Errors():
				t.failf("consume: %v", failed.Err)
			case <-timeout:
				t.failf("records missing in partition %d from %d on", p, first)
			}
		}
		reader.AsyncClose()
	}
}

// expect reads the topic and compares it with what was sent, in order per partition.
func (t *T) expect(sent []*sarama.ProducerMessage, count int32, change func(*sarama.Config)) {
	expected := make([][]*sarama.ProducerMessage, count)
	for _, record := range sent {
		expected[record.Partition] = append(expected[record.Partition], record)
	}
	next := make([]int64, count)
	t.read(count, 0, func(got *sarama.ConsumerMessage) {
		p := got.Partition
		equal(t, got.Offset, next[p], fmt.Sprintf("offset in partition %d", p))
		t.check(next[p] < int64(len(expected[p])), "partition %d has more records than were sent", p)
		t.sameRecord(got, expected[p][next[p]])
		next[p]++
	}, change)
	for p := range expected {
		equal(t, next[p], int64(len(expected[p])), fmt.Sprintf("records in partition %d", p))
	}
}

func (t *T) sameRecord(got *sarama.ConsumerMessage, expected *sarama.ProducerMessage) {
	where := fmt.Sprintf("record %d/%d", got.Partition, got.Offset)
	t.sameBytes(got.Key, content(expected.Key), where+", key")
	t.sameBytes(got.Value, content(expected.Value), where+", value")
	equal(t, got.Timestamp.UnixMilli(), expected.Timestamp.UnixMilli(), where+", timestamp")
	equal(t, len(got.Headers), len(expected.Headers), where+", headers")
	for i, header := range got.Headers {
		t.sameBytes(header.Key, expected.Headers[i].Key, where+", header name")
		t.sameBytes(header.Value, expected.Headers[i].Value, where+", header value")
	}
}

func content(encoder sarama.Encoder) []byte {
	if encoder == nil {
		return nil
	}
	text, _ := encoder.Encode()
	return text
}

// sameBytes tells null from empty, which bytes.Equal does not.
func (t *T) sameBytes(got, expected []byte, what string) {
	same := bytes.Equal(got, expected) && (got == nil) == (expected == nil)
	t.check(same, "%s: got %.60q, expected %.60q", what, got, expected)
}

// isError fails unless err is this error of the protocol.
func (t *T) isError(err error, expected sarama.KError, what string) {
	t.check(errors.Is(err, expected), "%s: got %v, expected %v", what, err, expected)
}

// record takes nil for null.
func (t *T) record(p int32, key, value []byte, at time.Time, headers ...sarama.RecordHeader) *sarama.ProducerMessage {
	made := &sarama.ProducerMessage{Topic: t.topic, Partition: p, Timestamp: at, Headers: headers}
	if key != nil {
		made.Key = sarama.ByteEncoder(key)
	}
	if value != nil {
		made.Value = sarama.ByteEncoder(value)
	}
	return made
}

func header(name string, value []byte) sarama.RecordHeader {
	return sarama.RecordHeader{Key: []byte(name), Value: value}
}

// sampleRecords has keys, values and headers of every kind: null, empty, binary, text, compressible.
func (t *T) sampleRecords(count int, over int32) []*sarama.ProducerMessage {
	random := rand.New(rand.NewSource(1))
	noise := func(limit int) []byte {
		content := make([]byte, random.Intn(limit))
		random.Read(content)
		return content
	}
	records := make([]*sarama.ProducerMessage, count)
	for i := range records {
		keys := [][]byte{nil, {}, fmt.Appendf(nil, "key-%d", i), noise(40)}
		values := [][]byte{
			nil, {}, noise(2000), fmt.Appendf(nil, "value %d", i),
			bytes.Repeat(fmt.Appendf(nil, "value %d ", i), random.Intn(500)),
		}
		headers := [][]sarama.RecordHeader{
			nil,
			{header("trace", fmt.Appendf(nil, "t-%d", i))},
			{header("null", nil), header("empty", []byte{}), header("binary", noise(16))},
			{header("twice", []byte("1")), header("twice", []byte("2")), header("größe", nil)},
		}
		at := start.Add(time.Duration(i) * 10 * time.Millisecond)
		records[i] = t.record(int32(i)%over, keys[i%4], values[i%5], at, headers[i%4]...)
	}
	return records
}

// digest hashes a partition's records; ../python/digest.py says which bytes go in.
type digest struct {
	count      int64
	records    hash.Hash
	timestamps hash.Hash
}

func newDigest() *digest { return &digest{records: sha256.New(), timestamps: sha256.New()} }

func (d *digest) add(key, value []byte, at time.Time, headers []sarama.RecordHeader) {
	buffer := appendBytes(appendBytes(nil, key), value)
	buffer = binary.BigEndian.AppendUint32(buffer, uint32(len(headers)))
	for _, header := range headers {
		buffer = appendBytes(appendBytes(buffer, header.Key), header.Value)
	}
	d.records.Write(buffer)
	d.timestamps.Write(binary.BigEndian.AppendUint64(nil, uint64(at.UnixMilli())))
	d.count++
}

func (d *digest) text() string {
	return fmt.Sprintf("%d %x %x", d.count, d.records.Sum(nil), d.timestamps.Sum(nil))
}

func appendBytes(buffer, content []byte) []byte {
	if content == nil {
		return append(buffer, 0xff, 0xff, 0xff, 0xff)
	}
	buffer = binary.BigEndian.AppendUint32(buffer, uint32(len(content)))
	return append(buffer, content...)
}
