package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Cases of offsets: by time, at the ends, deleted, by leader epoch, committed under a group.

func timestamps(t *T) {
	t.create(1, nil)
	const count = 500
	sent := make([]*kgo.Record, count)
	for i := range sent {
		// Two records per timestamp: a lookup must find the first of them, inside a batch.
		at := start.Add(time.Duration(i/2) * time.Second)
		sent[i] = &kgo.Record{Topic: t.topic, Value: fmt.Appendf(nil, "%d", i), Timestamp: at}
	}
	codec := kgo.ProducerBatchCompression(codecs[t.args["codec"]])
	t.send(t.client(codec, kgo.ProducerLinger(50*time.Millisecond)), sent)

	lookup := func(at time.Time) kadm.ListedOffset {
		listed, err := t.admin().ListOffsetsAfterMilli(t.ctx, at.UnixMilli(), t.topic)
		t.must(err, "list offsets")
		t.must(listed.Error(), "list offsets")
		found, _ := listed.Lookup(t.topic, 0)
		return found
	}
	for _, i := range []int64{0, 1, 17, 123, 249} {
		at := start.Add(time.Duration(i) * time.Second)
		equal(t, lookup(at).Offset, 2*i, fmt.Sprintf("offset at the time of pair %d", i))
		equal(t, lookup(at).Timestamp, at.UnixMilli(), fmt.Sprintf("time of pair %d", i))
		equal(t, lookup(at.Add(-time.Millisecond)).Offset, 2*i, fmt.Sprintf("offset just before pair %d", i))
	}
	// kadm turns "none" into the end.
	equal(t, lookup(start.Add(count*time.Second)).Offset, count, "offset after the last record")
	listed, err := t.admin().ListMaxTimestampOffsets(t.ctx, t.topic)
	t.must(err, "list the offset of the maximum timestamp")
	latest, _ := listed.Lookup(t.topic, 0)
	equal(t, latest.Timestamp, start.Add((count/2-1)*time.Second).UnixMilli(), "maximum timestamp")
	t.check(latest.Offset == count-2 || latest.Offset == count-1, "offset %d of the maximum", latest.Offset)

	next := int64(400)
	from := kgo.NewOffset().AfterMilli(start.Add(200 * time.Second).UnixMilli())
	consumer := t.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.topic: {0: from}}))
	for next < count {
		t.poll(consumer, func(r *kgo.Record) {
			equal(t, r.Offset, next, "offset consumed from a timestamp")
			next++
		})
	}
}

func listOffsets(t *T) {
	t.create(partitions, nil)
	admin := t.admin()
	check := func(listed kadm.ListedOffsets, err error, expected [partitions]int64, what string) {
		t.must(err, what)
		t.must(listed.Error(), what)
		for p, offset := range expected {
			found, _ := listed.Lookup(t.topic, int32(p))
			equal(t, found.Offset, offset, fmt.Sprintf("%s of partition %d", what, p))
		}
	}
	for _, end := range [][partitions]int64{{0, 0, 0}, {34, 33, 33}} {
		if end[0] > 0 {
			t.send(t.client(), t.sampleRecords(100, partitions))
		}
		listed, err := admin.ListStartOffsets(t.ctx, t.topic)
		check(listed, err, [partitions]int64{}, "earliest")
		listed, err = admin.ListEndOffsets(t.ctx, t.topic)
		check(listed, err, end, "latest")
		listed, err = admin.ListCommittedOffsets(t.ctx, t.topic)
		check(listed, err, end, "latest committed")
	}
}

func deleteRecords(t *T) {
	t.create(partitions, nil)
	sent := t.sampleRecords(300, partitions)
	t.send(t.client(), sent)
	deleteTo := func(partition int32, offset int64) (int64, error) {
		offsets := kadm.Offsets{}
		offsets.AddOffset(t.topic, partition, offset, -1)
		answers, err := t.admin().DeleteRecords(t.ctx, offsets)
		t.must(err, "delete records")
		answer, _ := answers.Lookup(t.topic, partition)
		return answer.LowWatermark, answer.Err
	}
	low, err := deleteTo(0, 40)
	t.must(err, "delete to 40")
	equal(t, low, 40, "new start of partition 0")
	low, err = deleteTo(1, -1)
	t.must(err, "delete to the end")
	equal(t, low, 100, "new start of partition 1")
	_, err = deleteTo(2, 101)
	t.isError(err, kerr.OffsetOutOfRange, "deletion past the end")
	listed, err := t.admin().ListStartOffsets(t.ctx, t.topic)
	t.must(err, "list start offsets")
	for p, expected := range map[int32]int64{0: 40, 1: 100, 2: 0} {
		found, _ := listed.Lookup(t.topic, p)
		equal(t, found.Offset, expected, fmt.Sprintf("start of partition %d", p))
	}
	next := int64(40)
	t.read(map[int32]int64{0: 40}, func(r *kgo.Record) {
		equal(t, r.Offset, next, "offset")
		t.sameRecord(r, sent[r.Offset*partitions])
		next++
	})
	equal(t, next, 100, "end of what is left of partition 0")
}

// leaderEpoch follows the epoch that a record carries to the end offset of that epoch.
func leaderEpoch(t *T) {
	t.create(1, nil)
	t.send(t.client(), t.sampleRecords(20, 1))
	epoch := int32(-1)
	t.read(fromStart(1), func(r *kgo.Record) { epoch = r.LeaderEpoch })
	t.check(epoch >= 0, "records without a leader epoch")
	request := kadm.OffsetForLeaderEpochRequest{}
	request.Add(t.topic, 0, epoch)
	answers, err := t.admin().OffsetForLeaderEpoch(t.ctx, request)
	t.must(err, "offset for leader epoch")
	answer := answers[t.topic][0]
	t.must(answer.Err, "offset for leader epoch")
	equal(t, answer.LeaderEpoch, epoch, "epoch")
	equal(t, answer.EndOffset, 20, "end offset of the epoch")
}

// groupOffsets commits under a group without members; the offsets survive restarts of both kinds.
func groupOffsets(t *T) {
	t.create(partitions, nil)
	t.send(t.client(), t.sampleRecords(90, partitions))
	group := t.topic + "-group"
	type committed struct {
		at   int64
		text string
	}
	commit := func(offsets map[int32]committed) {
		request := kadm.Offsets{}
		for p, c := range offsets {
			request.Add(kadm.Offset{Topic: t.topic, Partition: p, At: c.at, LeaderEpoch: -1, Metadata: c.text})
		}
		t.retry("commit", func() error { return t.admin().CommitAllOffsets(t.ctx, group, request) })
	}
	expect := func(expected map[int32]committed, when string) {
		var found kadm.OffsetResponses
		t.retry("fetch offsets "+when, func() (err error) {
			found, err = t.admin().FetchOffsets(t.ctx, group)
			if err == nil {
				err = found.Error()
			}
			return err
		})
		equal(t, len(found[t.topic]), len(expected), "committed partitions "+when)
		for p, c := range expected {
			got, _ := found.Lookup(t.topic, p)
			equal(t, committed{got.At, got.Metadata}, c, fmt.Sprintf("partition %d %s", p, when))
		}
	}
	expect(nil, "before any commit")
	commit(map[int32]committed{0: {5, "five"}, 1: {7, ""}})
	expect(map[int32]committed{0: {5, "five"}, 1: {7, ""}}, "after the first commit")
	t.restart("term")
	expect(map[int32]committed{0: {5, "five"}, 1: {7, ""}}, "after a restart")
	commit(map[int32]committed{0: {6, ""}, 1: {30, "end"}, 2: {0, "zero"}})
	t.restart("kill")
	expect(map[int32]committed{0: {6, ""}, 1: {30, "end"}, 2: {0, "zero"}}, "after kill -9")
}

// retry repeats f while a leader or coordinator is not ready after a restart, as a consumer would.
func (t *T) retry(what string, f func() error) {
	for deadline := time.Now().Add(waitMax); ; time.Sleep(10 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if !(kerr.IsRetriable(err) || errors.Is(err, io.EOF)) || time.Now().After(deadline) {
			t.failf("%s: %v", what, err)
		}
	}
}

// clusterID asks DescribeCluster.
func (t *T) clusterID() string {
	request := kmsg.NewPtrDescribeClusterRequest()
	reply, err := request.RequestWith(t.ctx, t.client())
	t.must(err, "describe cluster")
	t.must(kerr.ErrorForCode(reply.ErrorCode), "describe cluster")
	t.check(len(reply.Brokers) > 0, "a cluster without brokers")
	return reply.ClusterID
}
