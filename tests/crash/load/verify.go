package main

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// isTransient tells a broker that is away, which is expected here, from a broken promise.
func isTransient(err error) bool {
	var network net.Error
	return kerr.IsRetriable(err) || errors.As(err, &network) || errors.Is(err, io.EOF) ||
		errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, context.DeadlineExceeded)
}

// checkRecord holds a record against the only place where it may be.
func checkRecord(record *kgo.Record, expected int64, what string) {
	partition, sequence, whole := readValue(record.Value)
	switch {
	case !whole:
		fail("%s: partition %d, offset %d: not what was written", what, record.Partition, record.Offset)
	case record.Offset != expected:
		fail("%s: partition %d: offset %d where %d was next", what, record.Partition, record.Offset, expected)
	case partition != record.Partition || sequence != record.Offset:
		fail("%s: partition %d, offset %d: has record %d of partition %d",
			what, record.Partition, record.Offset, sequence, partition)
	}
}

// verify reads from the log start everything that was acknowledged when it began, and checks the committed
// offsets; then it deletes half of what it has read, so that segments die and are recycled. It returns the
// number of records read.
func (r *run) verify() int64 {
	r.verifyCommitted()
	promised := r.ledger.snapshot()
	from := map[int32]kgo.Offset{}
	next := map[int32]int64{}
	left := 0
	starts := r.starts()
	for p, l := range promised {
		begin := starts[int32(p)]
		if r.keepDeleted && begin < l.deleted {
			fail("partition %d begins at %d, after records below %d were deleted", p, begin, l.deleted)
		}
		if begin > l.deleted {
			fail("partition %d begins at %d, but only records below %d were deleted", p, begin, l.deleted)
		}
		next[int32(p)] = begin
		if begin < l.acked {
			from[int32(p)] = kgo.NewOffset().At(begin)
			left++
		}
	}
	var read int64
	if left > 0 {
		client := r.client(
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.topic: from}),
			kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		)
		defer client.Close()
		progress := time.Now()
		for left > 0 {
			ctx, cancel := context.WithTimeout(r.ctx, time.Second)
			fetches := client.PollFetches(ctx)
			cancel()
			for _, failed := range fetches.Errors() {
				if !isTransient(failed.Err) {
					fail("verifying partition %d: %v", failed.Partition, failed.Err)
				}
			}
			if time.Since(progress) > waitMax {
				fail("acknowledged records are not readable: at %v of %v", next, promised)
			}
			fetches.EachRecord(func(record *kgo.Record) {
				p := record.Partition
				checkRecord(record, next[p], "verifying")
				next[p]++
				read++
				progress = time.Now()
				if next[p] == promised[p].acked {
					left--
				}
			})
		}
	}
	r.deleteHalf(promised, next)
	return read
}

// starts asks for the log start offsets, for as long as the broker may need to come up.
func (r *run) starts() map[int32]int64 {
	found := map[int32]int64{}
	r.retry("list start offsets", func(ctx context.Context) error {
		listed, err := r.admin.ListStartOffsets(ctx, r.topic)
		if err == nil {
			err = listed.Error()
		}
		if err == nil {
			listed.Each(func(o kadm.ListedOffset) { found[o.Partition] = o.Offset })
		}
		return err
	})
	return found
}

func (r *run) deleteHalf(promised []partitionLedger, verified map[int32]int64) {
	upTo := kadm.Offsets{}
	for p, l := range promised {
		// The tail must have passed it: a reader is not to lose records that it has not seen.
		upTo.AddOffset(r.topic, int32(p), (l.deleted+min(verified[int32(p)], l.tailed))/2, -1)
	}
	r.retry("delete records", func(ctx context.Context) error {
		answers, err := r.admin.DeleteRecords(ctx, upTo)
		if err == nil {
			err = answers.Error()
		}
		if err == nil {
			answers.Each(func(a kadm.DeleteRecordsResponse) {
				r.ledger.with(a.Partition, func(l *partitionLedger) { l.deleted = a.LowWatermark })
			})
		}
		return err
	})
}

// verifyCommitted compares the group's offsets with those that were acknowledged. The committer goes on
// meanwhile, so an offset may be newer than the last acknowledged one, but never older.
func (r *run) verifyCommitted() {
	before := r.ledger.snapshot()
	var found kadm.OffsetResponses
	r.retry("fetch offsets", func(ctx context.Context) (err error) {
		found, err = r.admin.FetchOffsets(ctx, group)
		if err == nil {
			err = found.Error()
		}
		return err
	})
	after := r.ledger.snapshot()
	for p := range before {
		got, exists := found.Lookup(r.topic, int32(p))
		if !exists {
			got.At = 0
		}
		if got.At < before[p].committed || got.At > after[p].commitTried {
			fail("partition %d: committed offset is %d, acknowledged %d, tried %d",
				p, got.At, before[p].committed, after[p].commitTried)
		}
	}
}

// awaitTail waits until the tailing consumer has seen every acknowledged record, and no more than that.
func (r *run) awaitTail() {
	for deadline := time.Now().Add(waitMax); ; time.Sleep(10 * time.Millisecond) {
		done := true
		for p, l := range r.ledger.snapshot() {
			if l.tailed > l.sent {
				fail("partition %d delivers %d records of %d that were sent", p, l.tailed, l.sent)
			}
			done = done && l.tailed == l.acked
		}
		if done {
			return
		}
		if time.Now().After(deadline) {
			fail("the tailing consumer misses acknowledged records: %+v", r.ledger.snapshot())
		}
	}
}

// retry repeats f while the broker is away, and fails when it is refused or the time is up.
func (r *run) retry(what string, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(r.ctx, waitMax)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		if !isTransient(err) || ctx.Err() != nil {
			fail("%s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
