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

	"github.com/IBM/sarama"
)

const (
	groupPartitions = 6
	sessionTimeout  = 6 * time.Second
	// Of one that comes back in time: a program takes its time to start on a busy machine.
	longSessionTimeout = 30 * time.Second
)

var strategies = map[string]func() sarama.BalanceStrategy{
	"range":              sarama.NewBalanceStrategyRange,
	"roundrobin":         sarama.NewBalanceStrategyRoundRobin,
	"sticky":             sarama.NewBalanceStrategySticky,
	"cooperative-sticky": sarama.NewBalanceStrategyCooperativeSticky,
}

// owner of partitions: a member, in this process or another.
type owner interface{ partitions() []int32 }

// member is a consumer of a group that notes what it owns and gets: sarama's handler of its claims.
type member struct {
	group   sarama.ConsumerGroup
	cancel  context.CancelFunc
	done    chan struct{}
	mutex   sync.Mutex
	session sarama.ConsumerGroupSession
	setups  int
	fenced  bool
	owned   map[int32]bool
	firsts  map[int32]int64
	records int
}

func newMember(bootstrap, group, topic, strategy, instance string, session time.Duration) (*member, error) {
	c := config()
	c.Consumer.Group.Session.Timeout = session
	c.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategies[strategy]()}
	c.Consumer.Group.Rebalance.Retry.Max = 200
	c.Consumer.Group.Rebalance.Retry.Backoff = 30 * time.Millisecond
	c.Consumer.Group.InstanceId = instance
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	client, err := sarama.NewConsumerGroup([]string{bootstrap}, group, c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{
		group: client, cancel: cancel, done: make(chan struct{}), owned: map[int32]bool{}, firsts: map[int32]int64{},
	}
	go func() {
		for range client.Errors() {
		}
	}()
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			if err := client.Consume(ctx, []string{topic}, m); err != nil {
				m.note(func() { m.fenced = m.fenced || errors.Is(err, sarama.ErrFencedInstancedId) })
				time.Sleep(20 * time.Millisecond)
			}
		}
	}()
	return m, nil
}

func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.session = session
	m.setups++
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *member) ConsumeClaim(_ sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	p := claim.Partition()
	m.note(func() { m.owned[p] = true })
	defer m.note(func() { delete(m.owned, p) })
	for message := range claim.Messages() {
		m.note(func() {
			if _, known := m.firsts[p]; !known {
				m.firsts[p] = message.Offset
			}
			m.records++
		})
	}
	return nil
}

func (m *member) note(change func()) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	change()
}

func (m *member) count() (records int) {
	m.note(func() { records = m.records })
	return records
}

func (m *member) partitions() []int32 {
	var owned []int32
	m.note(func() {
		for p := range m.owned {
			owned = append(owned, p)
		}
	})
	slices.Sort(owned)
	return owned
}

func (m *member) isFenced() (fenced bool) {
	m.note(func() { fenced = m.fenced })
	return fenced
}

// sessions counts the generations that it has taken part in.
func (m *member) sessions() (count int) {
	m.note(func() { count = m.setups })
	return count
}

// commit is synchronous; a session reports its failure only as an error of the group.
func (m *member) commit(topic string, offsets map[int32]int64) {
	m.note(func() {
		for p, offset := range offsets {
			m.session.MarkOffset(topic, p, offset, "")
			m.session.ResetOffset(topic, p, offset, "")
		}
		m.session.Commit()
	})
}

func (m *member) close() {
	m.cancel()
	<-m.done
	m.group.Close()
}

func (t *T) member(group, strategy, instance string) *member {
	m, err := newMember(t.bootstrap, group, t.topic, strategy, instance, sessionTimeout)
	t.must(err, "consumer group")
	t.onEnd(m.close)
	return m
}

// awaitShares waits until these members own all partitions, each partition one of them.
func (t *T) awaitShares(what string, members ...owner) {
	t.until(func() bool {
		owners := map[int32]int{}
		for _, m := range members {
			owned := m.partitions()
			if len(owned) == 0 {
				return false
			}
			for _, p := range owned {
				owners[p]++
			}
		}
		for _, count := range owners {
			if count != 1 {
				return false
			}
		}
		return len(owners) == groupPartitions
	}, "%s: the partitions are not shared", what)
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
	instance, session := "", sessionTimeout
	var err error
	if len(static) > 0 {
		instance = static[0]
		session, err = time.ParseDuration(static[1])
	}
	var m *member
	if err == nil {
		m, err = newMember(bootstrap, group, topic, strategy, instance, session)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
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
	group, strategy := t.topic+"-members", t.args["strategy"]
	first, second := t.member(group, strategy, ""), t.member(group, strategy, "")
	t.awaitShares("two members", first, second)
	third := t.memberProcess(group, strategy)
	t.awaitShares("a third member", first, second, third)
	third.kill()
	t.awaitShares("the third was killed", first, second)
	second.close()
	t.awaitShares("the second has left", first)
	listed, err := t.admin().ListConsumerGroups()
	t.must(err, "list groups")
	_, exists := listed[group]
	t.check(exists, "the group is not listed")
	described, err := t.admin().DescribeConsumerGroups([]string{group})
	t.must(err, "describe groups")
	equal(t, described[0].State, "Stable", "state")
	equal(t, len(described[0].Members), 1, "members")
	first.close()
	t.must(t.admin().DeleteConsumerGroup(group), "delete the group")
	err = t.adminWith(hasty()).DeleteConsumerGroup(group)
	t.isError(err, sarama.ErrGroupIDNotFound, "deletion of a group that is gone")
}

// groupStatic restarts a static member, and the broker: no reason for anybody to be rebalanced.
func groupStatic(t *T) {
	t.create(groupPartitions, nil)
	group := t.topic + "-static"
	one, two := t.member(group, "range", "one"), t.member(group, "range", "two")
	t.awaitShares("two static members", one, two)
	before := two.sessions()
	one.close()
	one = t.member(group, "range", "one")
	t.awaitShares("the first came back", one, two)
	offsets := map[int32]int64{}
	for p := range int32(groupPartitions) {
		offsets[p] = 10 + int64(p)
	}
	for _, m := range []*member{one, two} {
		own := map[int32]int64{}
		m.note(func() {
			for p := range m.owned {
				own[p] = offsets[p]
			}
		})
		m.commit(t.topic, own)
	}
	for _, how := range []string{"kill", "term"} {
		t.restart(how)
		// Longer than a session: whoever was not recognised would be gone by then.
		time.Sleep(sessionTimeout + 2*time.Second)
		t.awaitShares("after a restart: "+how, one, two)
	}
	equal(t, two.sessions(), before, "sessions of a member that never went")
	t.expectCommitted(group, offsets, "at the end")
}

// groupStaticKilled: who comes back within its session finds its partitions, and nobody is rebalanced; who stays
// away loses them.
func groupStaticKilled(t *T) {
	t.create(groupPartitions, nil)
	group := t.topic + "-killed"
	one, two := t.member(group, "range", "one"), t.member(group, "range", "two")
	killed := t.memberProcess(group, "range", "three", longSessionTimeout.String())
	t.awaitShares("three static members", one, two, killed)
	ones, twos := one.sessions(), two.sessions()
	killed.kill()
	again := t.memberProcess(group, "range", "three", sessionTimeout.String())
	t.until(func() bool { return slices.Equal(again.partitions(), killed.partitions()) }, "the third did not come back")
	equal(t, one.sessions(), ones, "sessions of the first, which never went")
	equal(t, two.sessions(), twos, "sessions of the second, which never went")
	t.awaitShares("the third came back", one, two, again)
	again.kill()
	t.awaitShares("the third stayed away", one, two)
}

// groupStaticFenced: who comes with the instance id of one that lives takes its place, and the other is told so.
func groupStaticFenced(t *T) {
	t.create(groupPartitions, nil)
	group := t.topic + "-fenced"
	one, two := t.member(group, "range", "one"), t.member(group, "range", "two")
	t.awaitShares("two static members", one, two)
	place, before := one.partitions(), two.sessions()
	again := t.member(group, "range", "one")
	t.until(func() bool { return slices.Equal(again.partitions(), place) }, "another one did not get the place")
	t.until(one.isFenced, "the first is not told")
	equal(t, two.sessions(), before, "sessions of a member that never went")
	t.awaitShares("the first was told", two, again)
}

func (t *T) expectCommitted(group string, expected map[int32]int64, when string) {
	asked := []int32{}
	for p := range expected {
		asked = append(asked, p)
	}
	var found *sarama.OffsetFetchResponse
	t.patient("fetch offsets", func() (err error) {
		found, err = t.admin().ListConsumerGroupOffsets(group, map[string][]int32{t.topic: asked})
		return err
	})
	for p, offset := range expected {
		block := found.GetBlock(t.topic, p)
		t.check(block != nil, "no answer for partition %d", p)
		equal(t, block.Offset, offset, fmt.Sprintf("committed in partition %d %s", p, when))
	}
}

func (t *T) alter(group string, offsets map[int32]int64) error {
	asked := map[int32]sarama.OffsetAndMetadata{}
	for p, offset := range offsets {
		asked[p] = sarama.OffsetAndMetadata{Offset: offset, LeaderEpoch: -1}
	}
	reply, err := t.admin().AlterConsumerGroupOffsets(group, map[string]map[int32]sarama.OffsetAndMetadata{t.topic: asked}, nil)
	if err != nil {
		return err
	}
	for _, code := range reply.Errors[t.topic] {
		if code != sarama.ErrNoError {
			return code
		}
	}
	return nil
}

// groupOffsets commits under a group without members; the offsets survive restarts of both kinds.
func groupOffsets(t *T) {
	t.create(partitions, nil)
	t.send(t.sampleRecords(90, partitions), nil)
	group := t.topic + "-group"
	t.expectCommitted(group, map[int32]int64{0: -1, 1: -1, 2: -1}, "before any commit")
	t.must(t.alter(group, map[int32]int64{0: 5, 1: 7}), "commit")
	t.expectCommitted(group, map[int32]int64{0: 5, 1: 7, 2: -1}, "after the first commit")
	t.restart("term")
	t.expectCommitted(group, map[int32]int64{0: 5, 1: 7, 2: -1}, "after a restart")
	t.patient("commit", func() error { return t.alter(group, map[int32]int64{0: 6, 1: 30, 2: 0}) })
	t.restart("kill")
	t.expectCommitted(group, map[int32]int64{0: 6, 1: 30, 2: 0}, "after kill -9")
}

// groupCommits reads on where the group committed, and from the start when it was reset.
func groupCommits(t *T) {
	t.create(partitions, nil)
	t.send(t.sampleRecords(90, partitions), nil)
	group := t.topic + "-commits"
	// A new, only member gets so many records, the first of each partition at these offsets.
	expect := func(count int, firsts string, what string, beforeLeaving func(*member)) {
		m := t.member(group, "range", "")
		t.until(func() bool { return m.count() >= count }, "%s: records are missing", what)
		var got []string
		m.note(func() {
			for p := range int32(partitions) {
				got = append(got, fmt.Sprint(m.firsts[p]))
			}
			equal(t, m.records, count, what+": records")
		})
		equal(t, strings.Join(got, " "), firsts, what)
		if beforeLeaving != nil {
			beforeLeaving(m)
		}
		m.close()
	}
	expect(90, "0 0 0", "a new group", func(m *member) { m.commit(t.topic, map[int32]int64{0: 5, 1: 10, 2: 29}) })
	expect(46, "5 10 29", "after the commit", func(*member) {
		err := t.alter(group, map[int32]int64{0: 0})
		t.isError(err, sarama.ErrUnknownMemberId, "a commit into a group that has members")
	})
	t.must(t.alter(group, map[int32]int64{0: 0, 1: 0, 2: 0}), "reset")
	expect(90, "0 0 0", "after the reset", nil)
}
