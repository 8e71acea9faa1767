package main

import (
	"context"
	"math/rand"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	group = "crash-group"
	// How long anything may take, with a broker that is killed every other second.
	waitMax = 60 * time.Second
	// Records in flight: enough to keep the broker's log busy at the moment of the kill.
	bufferedMax = 5_000
)

// run is the load on one topic, from its creation to the last check.
type run struct {
	ctx         context.Context
	bootstrap   string
	topic       string
	ledger      *ledger
	keepDeleted bool
	admin       *kadm.Client
}

func (r *run) client(options ...kgo.Opt) *kgo.Client {
	defaults := []kgo.Opt{
		kgo.SeedBrokers(r.bootstrap),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
		kgo.RetryTimeout(waitMax),
		kgo.MetadataMinAge(50 * time.Millisecond),
	}
	client, err := kgo.NewClient(append(defaults, options...)...)
	if err != nil {
		fail("client: %v", err)
	}
	return client
}

func (r *run) prepare() {
	r.admin = kadm.NewClient(r.client())
	if _, err := r.admin.CreateTopic(r.ctx, int32(len(r.ledger.partitions)), 1, nil, r.topic); err != nil {
		fail("create the topic: %v", err)
	}
}

// produce writes until it is told to stop, and returns when each record is acknowledged.
//
// Records may be retried for ever, but the client must never find that data was lost and go on silently.
func (r *run) produce(rate int, seed int64, stop *atomic.Bool) {
	client := r.client(kgo.StopProducerOnDataLossDetected(), kgo.MaxBufferedRecords(bufferedMax),
		kgo.ProducerLinger(time.Millisecond), kgo.UnknownTopicRetries(-1), kgo.ProducerBatchCompression(kgo.NoCompression()))
	defer client.Close()
	random := rand.New(rand.NewSource(seed))
	var outstanding sync.WaitGroup
	begin := time.Now()
	for n := 0; !stop.Load(); n++ {
		if ahead := time.Duration(n)*time.Second/time.Duration(rate) - time.Since(begin); ahead > 0 {
			time.Sleep(ahead)
		}
		partition := int32(random.Intn(len(r.ledger.partitions)))
		var sequence int64
		r.ledger.with(partition, func(p *partitionLedger) {
			sequence = p.sent
			p.sent++
		})
		record := &kgo.Record{Topic: r.topic, Partition: partition, Value: makeValue(random, partition, sequence)}
		outstanding.Add(1)
		client.Produce(r.ctx, record, func(record *kgo.Record, err error) {
			defer outstanding.Done()
			if err != nil {
				fail("record %d of partition %d: %v", sequence, partition, err)
			}
			if record.Offset != sequence {
				fail("record %d of partition %d was acknowledged with offset %d", sequence, partition, record.Offset)
			}
			r.ledger.with(partition, func(p *partitionLedger) {
				if p.acked != sequence {
					fail("partition %d: ack of %d came when %d was next", partition, sequence, p.acked)
				}
				p.acked++
			})
			r.ledger.ackedBytes.Add(int64(len(record.Value)))
		})
	}
	outstanding.Wait()
}

// tail reads every record as soon as it can be read. What it has seen was durable, so it must never be
// gone: with no leave to reset, an offset past the log's end is an error here.
func (r *run) tail() {
	from := map[int32]kgo.Offset{}
	for p := range r.ledger.partitions {
		from[int32(p)] = kgo.NewOffset().At(0)
	}
	client := r.client(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.topic: from}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.KeepRetryableFetchErrors(),
		kgo.FetchMaxWait(500*time.Millisecond),
	)
	defer client.Close()
	for r.ctx.Err() == nil {
		fetches := client.PollFetches(r.ctx)
		for _, failed := range fetches.Errors() {
			if !isTransient(failed.Err) {
				fail("tailing partition %d: %v", failed.Partition, failed.Err)
			}
		}
		fetches.EachRecord(func(record *kgo.Record) {
			r.ledger.with(record.Partition, func(p *partitionLedger) {
				checkRecord(record, p.tailed, "tailing")
				p.tailed++
			})
		})
	}
}

// commit moves the group's offsets on, one partition after the other, for ever.
func (r *run) commit(stop *atomic.Bool) {
	for p := int32(0); !stop.Load(); p = (p + 1) % int32(len(r.ledger.partitions)) {
		var next int64
		r.ledger.with(p, func(l *partitionLedger) {
			next = l.tailed
			l.commitTried = next
		})
		offsets := kadm.Offsets{}
		offsets.AddOffset(r.topic, p, next, -1)
		ctx, cancel := context.WithTimeout(r.ctx, waitMax)
		err := r.admin.CommitAllOffsets(ctx, group, offsets)
		cancel()
		if err == nil {
			r.ledger.with(p, func(l *partitionLedger) { l.committed = next })
		} else if !isTransient(err) {
			fail("commit of %d in partition %d: %v", next, p, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
