package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const partitions = 3

// start is the time of the first record: any fixed past time, only not "now".
var start = time.UnixMilli(1_700_000_000_000)

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

func (t *T) client(options ...kgo.Opt) *kgo.Client {
	defaults := []kgo.Opt{
		kgo.SeedBrokers(t.bootstrap),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		// The default of 5 s is meant for clusters; here a topic is new, or a broker, in most cases.
		kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
	}
	client, err := kgo.NewClient(append(defaults, options...)...)
	t.must(err, "client")
	t.onEnd(client.Close)
	return client
}

// admin is one admin client for the whole case.
func (t *T) admin() *kadm.Client {
	if t.adminClient == nil {
		t.adminClient = kadm.NewClient(t.client())
	}
	return t.adminClient
}

func (t *T) create(count int32, config map[string]*string) {
	// The records carry timestamps of the past, which retention by age would act upon.
	all := map[string]*string{"retention.ms": kadm.StringPtr("-1")}
	maps.Copy(all, config)
	_, err := t.admin().CreateTopic(t.ctx, count, 1, all, t.topic)
	t.must(err, "create "+t.topic)
	// Apache Kafka answers a creation before its brokers lead the partitions; a case begins after that.
	for deadline := time.Now().Add(waitMax); ; time.Sleep(10 * time.Millisecond) {
		listed, err := t.admin().ListEndOffsets(t.ctx, t.topic)
		if err == nil && listed.Error() == nil && len(listed[t.topic]) == int(count) {
			return
		}
		t.check(time.Now().Before(deadline), "no leaders for a new topic: %v", err)
	}
}

func (t *T) drop() {
	_, err := t.admin().DeleteTopic(t.ctx, t.topic)
	t.must(err, "delete "+t.topic)
}

// send produces the records and fails unless each is acknowledged.
func (t *T) send(client *kgo.Client, records []*kgo.Record) {
	results := client.ProduceSync(t.ctx, records...)
	t.must(results.FirstErr(), "produce")
}

// ends returns the end offset of each partition of the topic.
func (t *T) ends() map[int32]int64 {
	var listed kadm.ListedOffsets
	t.retry("list end offsets", func() (err error) {
		listed, err = t.admin().ListEndOffsets(t.ctx, t.topic)
		if err == nil {
			err = listed.Error()
		}
		return err
	})
	found := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) { found[o.Partition] = o.Offset })
	return found
}

// until waits for a condition.
func (t *T) until(what string, holds func() bool) {
	for deadline := time.Now().Add(waitMax); !holds(); time.Sleep(10 * time.Millisecond) {
		t.check(time.Now().Before(deadline), "waited in vain for %s", what)
	}
}

// read visits the records of assigned partitions from `from` up to the ends of now. A partition whose
// `from` is at its end is left out.
func (t *T) read(from map[int32]int64, visit func(*kgo.Record), options ...kgo.Opt) {
	left := map[int32]int64{}
	assigned := map[int32]kgo.Offset{}
	for p, end := range t.ends() {
		if first, wanted := from[p]; wanted && first < end {
			left[p] = end
			assigned[p] = kgo.NewOffset().At(first)
		}
	}
	if len(left) == 0 {
		return
	}
	options = append(options,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.topic: assigned}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
	)
	client := t.client(options...)
	defer client.Close()
	for len(left) > 0 {
		t.poll(client, func(r *kgo.Record) {
			visit(r)
			if r.Offset+1 == left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
}

// poll waits for the next records; it fails when there are none for long, or an error.
func (t *T) poll(client *kgo.Client, visit func(*kgo.Record)) {
	ctx, cancel := context.WithTimeout(t.ctx, waitMax)
	defer cancel()
	fetches := client.PollFetches(ctx)
	for _, failed := range fetches.Errors() {
		t.failf("fetch of partition %d: %v", failed.Partition, failed.Err)
	}
	fetches.EachRecord(visit)
}

// fromStart is the argument of `read` for partitions that begin at offset 0.
func fromStart(count int32) map[int32]int64 {
	from := map[int32]int64{}
	for p := range count {
		from[p] = 0
	}
	return from
}

// expect reads the topic and compares it with what was sent, in order per partition.
func (t *T) expect(sent []*kgo.Record, count int32, options ...kgo.Opt) {
	expected := make([][]*kgo.Record, count)
	for _, record := range sent {
		expected[record.Partition] = append(expected[record.Partition], record)
	}
	next := make([]int64, count)
	t.read(fromStart(count), func(got *kgo.Record) {
		p := got.Partition
		equal(t, got.Offset, next[p], fmt.Sprintf("offset in partition %d", p))
		t.check(next[p] < int64(len(expected[p])), "partition %d has more records than were sent", p)
		t.sameRecord(got, expected[p][next[p]])
		next[p]++
	}, options...)
	for p := range expected {
		equal(t, next[p], int64(len(expected[p])), fmt.Sprintf("records in partition %d", p))
	}
}

func (t *T) sameRecord(got, expected *kgo.Record) {
	where := fmt.Sprintf("record %d/%d", got.Partition, got.Offset)
	t.sameBytes(got.Key, expected.Key, where+", key")
	t.sameBytes(got.Value, expected.Value, where+", value")
	equal(t, got.Timestamp.UnixMilli(), expected.Timestamp.UnixMilli(), where+", timestamp")
	equal(t, len(got.Headers), len(expected.Headers), where+", headers")
	for i, header := range got.Headers {
		equal(t, header.Key, expected.Headers[i].Key, where+", header name")
		t.sameBytes(header.Value, expected.Headers[i].Value, where+", header value")
	}
}

// sameBytes tells null from empty, which bytes.Equal does not.
func (t *T) sameBytes(got, expected []byte, what string) {
	same := bytes.Equal(got, expected) && (got == nil) == (expected == nil)
	t.check(same, "%s: got %.60q, expected %.60q", what, got, expected)
}

// isError fails unless err is this error of the protocol.
func (t *T) isError(err error, expected *kerr.Error, what string) {
	t.check(errors.Is(err, expected), "%s: got %v, expected %v", what, err, expected)
}

// sampleRecords has keys, values and headers of every kind: null, empty, binary, text, compressible.
func (t *T) sampleRecords(count int, over int32) []*kgo.Record {
	random := rand.New(rand.NewSource(1))
	noise := func(limit int) []byte {
		content := make([]byte, random.Intn(limit))
		random.Read(content)
		return content
	}
	records := make([]*kgo.Record, count)
	for i := range records {
		keys := [][]byte{nil, {}, fmt.Appendf(nil, "key-%d", i), noise(40)}
		values := [][]byte{
			nil, {}, noise(2000), fmt.Appendf(nil, "value %d", i),
			bytes.Repeat(fmt.Appendf(nil, "value %d ", i), random.Intn(500)),
		}
		headers := [][]kgo.RecordHeader{
			nil,
			{{Key: "trace", Value: fmt.Appendf(nil, "t-%d", i)}},
			{{Key: "null", Value: nil}, {Key: "empty", Value: []byte{}}, {Key: "binary", Value: noise(16)}},
			{{Key: "twice", Value: []byte("1")}, {Key: "twice", Value: []byte("2")}, {Key: "größe"}},
		}
		records[i] = &kgo.Record{
			Topic:     t.topic,
			Partition: int32(i) % over,
			Key:       keys[i%4],
			Value:     values[i%5],
			Headers:   headers[i%4],
			Timestamp: start.Add(time.Duration(i) * 10 * time.Millisecond),
		}
	}
	return records
}
