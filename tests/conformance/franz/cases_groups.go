package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
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

const (
	groupPartitions = 6
	sessionTimeout  = 6 * time.Second
	// Of one that comes back in time: a program takes its time to start on a busy machine.
	longSessionTimeout = 30 * time.Second
)

var balancers = map[string]kgo.GroupBalancer{
	"range":              kgo.RangeBalancer(),
	"roundrobin":         kgo.RoundRobinBalancer(),
	"sticky":             kgo.StickyBalancer(),
	"cooperative-sticky": kgo.CooperativeStickyBalancer(),
}

// owner of partitions: a member, in this process or another.
type owner interface{ partitions() []int32 }

// member is a consumer of a group that notes what it owns.
type member struct {
	client     *kgo.Client
	mutex      sync.Mutex
	owned      map[int32]bool
	rebalances int
	fenced     bool
}

func (t *T) member(group string, options ...kgo.Opt) *member {
	m := &member{owned: map[int32]bool{}}
	note := func(owns bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			m.mutex.Lock()
			defer m.mutex.Unlock()
			for _, partition := range changed[t.topic] {
				if owns {
					m.owned[partition] = true
				} else {
					delete(m.owned, partition)
				}
			}
			if owns {
				m.rebalances++
			}
		}
	}
	m.client = t.client(append([]kgo.Opt{
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(t.topic),
		kgo.SessionTimeout(sessionTimeout),
		kgo.HeartbeatInterval(500 * time.Millisecond),
		kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(note(true)),
		kgo.OnPartitionsRevoked(note(false)),
		kgo.OnPartitionsLost(note(false)),
		kgo.WithHooks(m),
	}, options...)...)
	return m
}

func (m *member) partitions() []int32 {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	var owned []int32
	for partition := range m.owned {
		owned = append(owned, partition)
	}
	slices.Sort(owned)
	return owned
}

func (m *member) rebalanced() int {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return m.rebalances
}

// OnGroupManageError is what the client tells its hooks of whatever ends its membership.
func (m *member) OnGroupManageError(err error) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.fenced = m.fenced || errors.Is(err, kerr.FencedInstanceID)
}

func (m *member) isFenced() bool {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return m.fenced
}

// awaitShares waits until these members own all partitions, each partition one of them.
func (t *T) awaitShares(what string, members ...owner) {
	for deadline := time.Now().Add(waitMax); ; time.Sleep(10 * time.Millisecond) {
		owners, idle := map[int32]int{}, 0
		for _, m := range members {
			owned := m.partitions()
			if len(owned) == 0 {
				idle++
			}
			for _, partition := range owned {
				owners[partition]++
			}
		}
		shared := len(owners) == groupPartitions && idle == 0
		for _, count := range owners {
			shared = shared && count == 1
		}
		if shared {
			return
		}
		t.check(time.Now().Before(deadline), "%s: %v", what, owners)
	}
}

// memberProcess is a member in a process of its own, made to be killed, and what it told last.
type memberProcess struct {
	command *exec.Cmd
	mutex   sync.Mutex
	told    []int32
}

// memberProcess starts one. After the group and the strategy, for a static one: its instance id and session timeout.
func (t *T) memberProcess(args ...string) *memberProcess {
	p := &memberProcess{command: exec.Command(os.Args[0], append([]string{"member", t.bootstrap, t.topic}, args...)...)}
	p.command.Stderr = os.Stderr
	output, err := p.command.StdoutPipe()
	t.must(err, "output of a member")
	t.must(p.command.Start(), "start of a member")
	t.onEnd(p.kill)
	go func() {
		for lines := bufio.NewScanner(output); lines.Scan(); {
			p.note(lines.Text())
		}
	}()
	return p
}

func (p *memberProcess) note(line string) {
	var told []int32
	for word := range strings.SplitSeq(line, ",") {
		if partition, err := strconv.ParseInt(word, 10, 32); err == nil {
			told = append(told, int32(partition))
		}
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.told = told
}

func (p *memberProcess) partitions() []int32 {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.told
}

func (p *memberProcess) kill() {
	p.command.Process.Kill()
	p.command.Wait()
}

// memberMain is the program of such a process: it prints which partitions it has, each time that they change.
func memberMain(bootstrap, topic, group, strategy string, static ...string) {
	t := &T{ctx: context.Background(), bootstrap: bootstrap, topic: topic}
	options := []kgo.Opt{kgo.Balancers(balancers[strategy])}
	if len(static) > 0 {
		timeout, err := time.ParseDuration(static[1])
		t.must(err, "session timeout")
		options = append(options, kgo.InstanceID(static[0]), kgo.SessionTimeout(timeout))
	}
	m := t.member(group, options...)
	for told := ""; ; time.Sleep(10 * time.Millisecond) {
		var words []string
		for _, partition := range m.partitions() {
			words = append(words, fmt.Sprint(partition))
		}
		if owned := strings.Join(words, ","); owned != told {
			told = owned
			fmt.Println(told)
		}
	}
}

// groupMembers has members join, leave, and crash.
func groupMembers(t *T) {
	t.create(groupPartitions, nil)
	group := t.topic + "-members"
	balance := kgo.Balancers(balancers[t.args["strategy"]])
	first, second := t.member(group, balance), t.member(group, balance)
	t.awaitShares("two members", first, second)
	third := t.memberProcess(group, t.args["strategy"])
	t.awaitShares("a third member", first, second, third)
	third.kill()
	t.awaitShares("the third was killed", first, second)
	second.client.Close()
	t.awaitShares("the second has left", first)
	listed, err := t.admin().ListGroups(t.ctx)
	t.must(err, "list groups")
	equal(t, listed[group].State, "Stable", "state as it is listed")
	described, err := t.admin().DescribeGroups(t.ctx, group)
	t.must(err, "describe groups")
	equal(t, described[group].State, "Stable", "state")
	equal(t, len(described[group].Members), 1, "members")
	first.client.Close()
	t.retry("delete the group", func() error {
		_, err := t.admin().DeleteGroup(t.ctx, group)
		return err
	})
}

// groupCommits reads on where the group committed, and from the start when it was reset.
func groupCommits(t *T) {
	t.create(partitions, nil)
	t.send(t.client(), t.sampleRecords(90, partitions))
	group := t.topic + "-commits"
	commit := func(offsets ...int64) error {
		asked := kadm.Offsets{}
		for p, offset := range offsets {
			asked.AddOffset(t.topic, int32(p), offset, -1)
		}
		return t.admin().CommitAllOffsets(t.ctx, group, asked)
	}
	// A new, only member gets so many records, the first of each partition at these offsets.
	expect := func(count int, firsts [partitions]int64, what string, beforeLeaving func(*member)) {
		m := t.member(group, kgo.Balancers(kgo.RangeBalancer()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		got, records := [partitions]int64{-1, -1, -1}, 0
		for records < count {
			t.poll(m.client, func(r *kgo.Record) {
				if got[r.Partition] < 0 {
					got[r.Partition] = r.Offset
				}
				records++
			})
		}
		equal(t, got, firsts, what)
		equal(t, records, count, what+": records")
		if beforeLeaving != nil {
			beforeLeaving(m)
		}
		m.client.Close()
	}
	expect(90, [partitions]int64{0, 0, 0}, "a new group", func(m *member) {
		offsets := map[int32]kgo.EpochOffset{}
		for p, offset := range []int64{5, 10, 29} {
			offsets[int32(p)] = kgo.EpochOffset{Epoch: -1, Offset: offset}
		}
		m.client.CommitOffsetsSync(t.ctx, map[string]map[int32]kgo.EpochOffset{t.topic: offsets}, nil)
	})
	expect(46, [partitions]int64{5, 10, 29}, "after the commit", func(*member) {
		t.isError(commit(0, 0, 0), kerr.UnknownMemberID, "a commit into a group that has members")
	})
	t.must(commit(0, 0, 0), "reset")
	expect(90, [partitions]int64{0, 0, 0}, "after the reset", nil)
}

// groupStatic restarts a static member, and the broker: no reason for anybody to be rebalanced.
func groupStatic(t *T) {
	t.create(groupPartitions, nil)
	group := t.topic + "-static"
	join := func(instance string) *member {
		return t.member(group, kgo.InstanceID(instance), kgo.Balancers(kgo.RangeBalancer()))
	}
	one, two := join("one"), join("two")
	t.awaitShares("two static members", one, two)
	before := two.rebalanced()
	one.client.Close()
	one = join("one")
	t.awaitShares("the first came back", one, two)
	offsets := map[int32]kgo.EpochOffset{}
	for partition := range int32(groupPartitions) {
		offsets[partition] = kgo.EpochOffset{Epoch: -1, Offset: 10 + int64(partition)}
	}
	var committed error
	one.client.CommitOffsetsSync(t.ctx, map[string]map[int32]kgo.EpochOffset{t.topic: offsets},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, reply *kmsg.OffsetCommitResponse, err error) {
			committed = err
			if err == nil {
				for _, partition := range reply.Topics[0].Partitions {
					committed = errors.Join(committed, kerr.ErrorForCode(partition.ErrorCode))
				}
			}
		})
	t.must(committed, "commit")
	for _, how := range []string{"kill", "term"} {
		t.restart(how)
		// Longer than a session: whoever was not recognised would be gone by then.
		time.Sleep(sessionTimeout + 2*time.Second)
		t.awaitShares("after a restart: "+how, one, two)
	}
	equal(t, two.rebalanced(), before, "rebalances of a member that never went")
	var found kadm.OffsetResponses
	t.retry("fetch offsets", func() (err error) {
		found, err = t.admin().FetchOffsets(t.ctx, group)
		return err
	})
	for partition := range int32(groupPartitions) {
		got, _ := found.Lookup(t.topic, partition)
		equal(t, got.At, 10+int64(partition), "committed offset")
	}
}

// groupStaticKilled: who comes back within its session finds its partitions, and nobody is rebalanced; who stays
// away loses them.
func groupStaticKilled(t *T) {
	t.create(groupPartitions, nil)
	group := t.topic + "-killed"
	join := func(instance string) *member {
		return t.member(group, kgo.InstanceID(instance), kgo.Balancers(kgo.RangeBalancer()))
	}
	one, two := join("one"), join("two")
	killed := t.memberProcess(group, "range", "three", longSessionTimeout.String())
	t.awaitShares("three static members", one, two, killed)
	ones, twos := one.rebalanced(), two.rebalanced()
	killed.kill()
	again := t.memberProcess(group, "range", "three", sessionTimeout.String())
	t.until("the third to come back", func() bool { return slices.Equal(again.partitions(), killed.partitions()) })
	equal(t, one.rebalanced(), ones, "rebalances of the first, which never went")
	equal(t, two.rebalanced(), twos, "rebalances of the second, which never went")
	t.awaitShares("the third came back", one, two, again)
	again.kill()
	t.awaitShares("the third stayed away", one, two)
}

// groupStaticFenced: who comes with the instance id of one that lives takes its place, and the other is told so.
func groupStaticFenced(t *T) {
	t.create(groupPartitions, nil)
	group := t.topic + "-fenced"
	join := func(instance string) *member {
		return t.member(group, kgo.InstanceID(instance), kgo.Balancers(kgo.RangeBalancer()))
	}
	one, two := join("one"), join("two")
	t.awaitShares("two static members", one, two)
	place, before := one.partitions(), two.rebalanced()
	again := join("one")
	t.until("another one", func() bool { return slices.Equal(again.partitions(), place) })
	t.until("the first to be told", one.isFenced)
	equal(t, two.rebalanced(), before, "rebalances of a member that never went")
	t.awaitShares("the first was told", two, again)
}
