package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// pollMax is how long a member waits for records before it looks after its commits.
const pollMax = 200 * time.Millisecond

// member is a consumer in a process of its own, made to be killed at any moment. It tells of everything before
// it does the next thing, in one write a line: what it has written survives it in the pipe.
//
//	assigned <generation> <partition,...>   and goes on when it has read a line
//	begins <partition> <offset>             what it was told was committed
//	processed <partition> <first> <end>     before it commits
//	committed <partition> <offset>          the commit was acknowledged
//	failed <why>                            and it ends
type member struct {
	client *kgo.Client
	topic  string
	// A line here lets a member that was assigned something fetch its offsets.
	leave chan struct{}
	goOn  chan struct{}

	mu sync.Mutex
	// By partition: the next record to process, and what is processed and not yet committed.
	next        map[int32]int64
	uncommitted map[int32]int64
}

func memberMain(args []string) {
	flags := flag.NewFlagSet("member", flag.ExitOnError)
	bootstrap := flags.String("bootstrap", "", "address of the broker")
	topic := flags.String("topic", "", "what it reads")
	group := flags.String("group", "", "its group")
	instance := flags.String("instance", "", "its name as a static member")
	balancer := flags.String("balancer", "range", "range or cooperative-sticky")
	session := flags.Duration("session", 3*time.Second, "session timeout")
	_ = flags.Parse(args)

	m := &member{
		topic:       *topic,
		leave:       make(chan struct{}),
		goOn:        make(chan struct{}),
		next:        map[int32]int64{},
		uncommitted: map[int32]int64{},
	}
	options := []kgo.Opt{
		kgo.ConsumerGroup(*group),
		kgo.ConsumeTopics(*topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.Balancers(balancerOf(*balancer)),
		kgo.SessionTimeout(*session),
		kgo.HeartbeatInterval(100 * time.Millisecond),
		kgo.RebalanceTimeout(10 * time.Second),
		kgo.FetchMaxWait(500 * time.Millisecond),
		// A member that gives a heartbeat up joins again. If it leads, the others are rebalanced for it.
		kgo.RequestRetries(1 << 20),
		kgo.Dialer(dialPatiently),
		// For whoever looks into a failure: the log is kept then.
		kgo.WithLogger(kgo.BasicLogger(os.Stderr, kgo.LogLevelInfo, func() string {
			return time.Now().Format("15:04:05.000 ") + *group + " " + strconv.Itoa(os.Getpid()) + " "
		})),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(m.onAssigned),
		kgo.OnPartitionsRevoked(m.onGone),
		kgo.OnPartitionsLost(m.onGone),
		kgo.AdjustFetchOffsetsFn(m.onOffsets),
	}
	if *instance != "" {
		options = append(options, kgo.InstanceID(*instance))
	}
	go m.listen()
	m.client = (&run{bootstrap: *bootstrap}).client(options...)
	for {
		select {
		case <-m.leave:
			m.client.CloseAllowingRebalance()
			return
		default:
		}
		m.step()
	}
}

// dialPatiently waits for a broker that is away: a client counts a refused connection as the end of its request.
func dialPatiently(ctx context.Context, network, host string) (net.Conn, error) {
	for deadline := time.Now().Add(waitMax); ; time.Sleep(5 * time.Millisecond) {
		connection, err := (&net.Dialer{}).DialContext(ctx, network, host)
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return connection, err
		}
	}
}

func balancerOf(name string) kgo.GroupBalancer {
	if name == "cooperative-sticky" {
		return kgo.CooperativeStickyBalancer()
	}
	return kgo.RangeBalancer()
}

func (m *member) listen() {
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		if input.Text() == "go" {
			m.goOn <- struct{}{}
			continue
		}
		close(m.leave)
		return
	}
	// Whoever judges it is gone.
	os.Exit(1)
}

func (m *member) onAssigned(_ context.Context, client *kgo.Client, added map[string][]int32) {
	partitions := added[m.topic]
	slices.Sort(partitions)
	_, generation := client.GroupMetadata()
	answer("assigned %d %s", generation, strings.Trim(strings.ReplaceAll(fmt.Sprint(partitions), " ", ","), "[]"))
	<-m.goOn
}

func (m *member) onOffsets(
	_ context.Context, offsets map[string]map[int32]kgo.Offset,
) (map[string]map[int32]kgo.Offset, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for partition, offset := range offsets[m.topic] {
		// Nothing committed: the log's start, which is 0.
		begins := max(0, offset.EpochOffset().Offset)
		answer("begins %d %d", partition, begins)
		m.next[partition] = begins
	}
	return offsets, nil
}

func (m *member) onGone(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, partition := range gone[m.topic] {
		delete(m.next, partition)
		delete(m.uncommitted, partition)
	}
}

// step processes what has come and commits it: in this order, so that what is committed is done.
func (m *member) step() {
	ctx, cancel := context.WithTimeout(context.Background(), pollMax)
	defer cancel()
	fetches := m.client.PollRecords(ctx, 500)
	defer m.client.AllowRebalance()
	for _, failed := range fetches.Errors() {
		if !isTransient(failed.Err) && !errors.Is(failed.Err, context.DeadlineExceeded) && !isMoved(failed.Err) {
			fail("member: partition %d: %v", failed.Partition, failed.Err)
		}
	}
	m.process(fetches)
	m.commit()
}

func (m *member) process(fetches kgo.Fetches) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fetches.EachPartition(func(records kgo.FetchTopicPartition) {
		if len(records.Records) == 0 {
			return
		}
		first := m.next[records.Partition]
		for _, record := range records.Records {
			checkRecord(record, m.next[record.Partition], "member")
			m.next[record.Partition]++
		}
		end := m.next[records.Partition]
		m.uncommitted[records.Partition] = end
		answer("processed %d %d %d", records.Partition, first, end)
	})
}

func (m *member) commit() {
	m.mu.Lock()
	offsets := map[int32]kgo.EpochOffset{}
	for partition, end := range m.uncommitted {
		offsets[partition] = kgo.EpochOffset{Epoch: -1, Offset: end}
	}
	m.mu.Unlock()
	if len(offsets) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
	defer cancel()
	done := func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, reply *kmsg.OffsetCommitResponse, err error) {
		if err != nil {
			m.notCommitted(err)
			return
		}
		for _, topic := range reply.Topics {
			for _, partition := range topic.Partitions {
				if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
					m.notCommitted(err)
					continue
				}
				m.mu.Lock()
				answer("committed %d %d", partition.Partition, offsets[partition.Partition].Offset)
				delete(m.uncommitted, partition.Partition)
				m.mu.Unlock()
			}
		}
	}
	m.client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{m.topic: offsets}, done)
}

// notCommitted lets pass what a rebalance or a broker that is away explains: it is tried again, or is another's.
func (m *member) notCommitted(err error) {
	if !isTransient(err) && !isMoved(err) {
		fail("commit: %v", err)
	}
}

// isMoved says that the group has gone on without this member: no promise was made.
func isMoved(err error) bool {
	for _, moved := range []error{kerr.IllegalGeneration, kerr.UnknownMemberID, kerr.RebalanceInProgress} {
		if errors.Is(err, moved) {
			return true
		}
	}
	return errors.Is(err, context.Canceled)
}

// committedOf asks for the offsets of a group, for as long as the broker may need to come up.
func (r *run) committedOf(group string) []int64 {
	var found kadm.OffsetResponses
	r.retry("fetch offsets of "+group, func(ctx context.Context) (err error) {
		found, err = r.admin.FetchOffsets(ctx, group)
		if err == nil {
			err = found.Error()
		}
		return err
	})
	offsets := make([]int64, len(r.ledger.partitions))
	for p := range offsets {
		if got, exists := found.Lookup(r.topic, int32(p)); exists {
			offsets[p] = max(0, got.At)
		}
	}
	return offsets
}
