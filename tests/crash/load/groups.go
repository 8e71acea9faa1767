package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	dynamicMembers = 3
	staticMembers  = 3
	// Short, so that a member that was killed is missed within a cycle or two.
	dynamicSession = 3 * time.Second
	// So long that a restart is always within it: the group must not notice.
	staticSession = 120 * time.Second
)

// pipeline is a producer and two groups that read what it writes. The members of one are killed, leave and come
// for good; those of the other are static, and come back.
type pipeline struct {
	run       *run
	balancer  string
	random    *rand.Rand
	killed    int
	mu        sync.Mutex
	rebalance int
	dynamic   *groupLedger
	static    *groupLedger
}

// groupLedger is what a group's members were promised, and what they have done. Guarded by the pipeline's lock.
type groupLedger struct {
	name    string
	members []*process
	// By partition. A commit of this offset was acknowledged.
	committed []int64
	// The largest that was ever read back.
	observed []int64
	// All below is processed; and stretches beyond, by their begin.
	done  []int64
	ahead []map[int64]int64
	// Of a group of static members: what each was assigned, and in which generation, once and for ever.
	settled map[string]string
}

// process is a member that runs, or is to end.
type process struct {
	command  *exec.Cmd
	input    io.WriteCloser
	instance string
	going    bool
	// What it was told last, empty before that.
	assigned string
	owned    int
	// What was acknowledged of each partition before it was let fetch its offsets.
	promised []int64
}

func groupsMain(args []string) {
	flags := flag.NewFlagSet("groups", flag.ExitOnError)
	bootstrap := flags.String("bootstrap", "", "address of the broker")
	partitions := flags.Int("partitions", 6, "partitions to write to")
	rate := flags.Int("rate", 2_000, "records per second at most")
	seed := flags.Int64("seed", 1, "seed of sizes and choices")
	balancer := flags.String("balancer", "range", "of the group whose members come and go")
	_ = flags.Parse(args)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	run := &run{ctx: ctx, bootstrap: *bootstrap, topic: "pipeline", ledger: newLedger(*partitions)}
	run.prepare()
	p := &pipeline{
		run:      run,
		balancer: *balancer,
		random:   rand.New(rand.NewSource(*seed)),
		dynamic:  newGroupLedger("dynamic", *partitions),
		static:   newGroupLedger("static", *partitions),
	}
	var stop atomic.Bool
	produced := make(chan struct{})
	go func() {
		run.produce(*rate, *seed, &stop)
		close(produced)
	}()
	p.settle()
	answer("ready")

	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		switch text := strings.TrimSpace(input.Text()); text {
		case "kill":
			p.killDynamic(1)
			answer("killed")
		case "kill all":
			p.killDynamic(dynamicMembers)
			answer("killed")
		case "leave":
			p.leave()
			answer("leaving")
		case "restart static":
			p.restartStatic()
			answer("restarted")
		case "check":
			p.checkCommitted(p.dynamic)
			p.checkCommitted(p.static)
			p.await("the static members are not back", p.staticIsBack)
			p.mu.Lock()
			answer("checked %d records, %d members killed, %d assignments",
				p.total(), p.killed, p.rebalance)
			p.mu.Unlock()
		case "progress":
			p.mu.Lock()
			before := p.total()
			p.mu.Unlock()
			p.await("the members that come and go get nowhere", func() bool { return p.total() > before })
			answer("progressed")
		case "finish":
			stop.Store(true)
			<-produced
			for _, g := range []*groupLedger{p.dynamic, p.static} {
				p.await(g.name+" does not process everything that was acknowledged", func() bool { return p.isDone(g) })
				p.awaitCommitted(g)
			}
			p.await("the static members are not back", p.staticIsBack)
			answer("finished %d records, each processed by both groups, %d members killed, %d assignments",
				run.ledger.records(), p.killed, p.rebalance)
		}
	}
}

func newGroupLedger(name string, partitions int) *groupLedger {
	g := &groupLedger{
		name:      name,
		committed: make([]int64, partitions),
		observed:  make([]int64, partitions),
		done:      make([]int64, partitions),
	}
	for range partitions {
		g.ahead = append(g.ahead, map[int64]int64{})
	}
	return g
}

// settle starts both groups and waits until everybody has a share; from then on that of static members is fixed.
func (p *pipeline) settle() {
	p.mu.Lock()
	for range dynamicMembers {
		p.spawn(p.dynamic, "")
	}
	for n := range staticMembers {
		p.spawn(p.static, fmt.Sprintf("static-%d", n))
	}
	p.mu.Unlock()
	p.await("the groups do not come together", func() bool {
		generations := map[string]bool{}
		owned, without := 0, 0
		for _, m := range p.static.members {
			generation, _, _ := strings.Cut(m.assigned, " ")
			generations[generation] = true
			owned += m.owned
			if m.owned == 0 {
				without++
			}
		}
		for _, m := range p.dynamic.members {
			if m.assigned == "" {
				without++
			}
		}
		return without == 0 && len(generations) == 1 && owned == len(p.run.ledger.partitions)
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.static.settled = map[string]string{}
	for _, m := range p.static.members {
		p.static.settled[m.instance] = m.assigned
	}
}

// spawn starts a member. The lock is held.
func (p *pipeline) spawn(g *groupLedger, instance string) {
	program, err := os.Executable()
	if err != nil {
		fail("where is this program: %v", err)
	}
	balancer, session := p.balancer, dynamicSession
	if instance != "" {
		balancer, session = "range", staticSession
	}
	command := exec.Command(program, "member", "-bootstrap="+p.run.bootstrap, "-topic="+p.run.topic, "-group="+g.name,
		"-instance="+instance, "-balancer="+balancer, "-session="+session.String())
	command.Stderr = os.Stderr
	// When its judge ends, its input does, and then the member.
	input, err := command.StdinPipe()
	if err != nil {
		fail("a pipe for a member: %v", err)
	}
	output, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		fail("start a member: %v", err)
	}
	m := &process{command: command, input: input, instance: instance}
	g.members = append(g.members, m)
	go p.listen(g, m, output)
}

// listen takes down what a member says, to its last word.
func (p *pipeline) listen(g *groupLedger, m *process, output io.Reader) {
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		p.mu.Lock()
		p.note(g, m, lines.Text())
		p.mu.Unlock()
	}
	err := m.command.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !m.going {
		fail("a member of %s ended by itself: %v", g.name, err)
	}
}

func (p *pipeline) note(g *groupLedger, m *process, line string) {
	var partition int32
	var from, to int64
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "assigned":
		m.assigned = rest
		_, owned, _ := strings.Cut(rest, " ")
		m.owned = len(strings.FieldsFunc(owned, func(r rune) bool { return r == ',' }))
		p.rebalance++
		if fixed, known := g.settled[m.instance]; known && fixed != rest {
			fail("static member %s was rebalanced: it had (generation, partitions) %s, and now %s",
				m.instance, fixed, rest)
		}
		m.promised = append([]int64(nil), g.committed...)
		// A member that is killed meanwhile does not read it.
		_, _ = io.WriteString(m.input, "go\n")
		return
	case "begins":
		scan(line, &word, &partition, &from)
		if from < m.promised[partition] {
			fail("a member of %s begins partition %d at %d, after a commit of %d was acknowledged",
				g.name, partition, from, m.promised[partition])
		}
		return
	case "processed":
		scan(line, &word, &partition, &from, &to)
		g.processed(partition, from, to)
		return
	case "committed":
		scan(line, &word, &partition, &from)
		g.committed[partition] = max(g.committed[partition], from)
		return
	}
	fail("a member of %s: %s", g.name, strings.TrimPrefix(line, "failed "))
}

func scan(line string, fields ...any) {
	if _, err := fmt.Sscan(line, fields...); err != nil {
		fail("a member says %q: %v", line, err)
	}
}

// processed notes a stretch of records. Members do not speak in the order in which they act, so one may come
// before the one that it follows.
func (g *groupLedger) processed(p int32, first, end int64) {
	ahead := g.ahead[p]
	ahead[first] = max(ahead[first], end)
	for moved := true; moved; {
		moved = false
		for first, end := range ahead {
			if first <= g.done[p] {
				g.done[p] = max(g.done[p], end)
				delete(ahead, first)
				moved = true
			}
		}
	}
}

func (p *pipeline) total() (records int64) {
	for _, done := range p.dynamic.done {
		records += done
	}
	return records
}

// --- What happens to members. ---

// killDynamic kills members as `kill -9` does, and starts as many.
func (p *pipeline) killDynamic(count int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range count {
		p.kill(p.dynamic, p.random.Intn(len(p.dynamic.members)))
	}
	for range count {
		p.spawn(p.dynamic, "")
	}
}

// kill ends a member, and forgets it. The lock is held.
func (p *pipeline) kill(g *groupLedger, index int) *process {
	m := g.members[index]
	m.going = true
	p.killed++
	if err := m.command.Process.Kill(); err != nil {
		fail("kill a member: %v", err)
	}
	g.members = append(g.members[:index], g.members[index+1:]...)
	return m
}

// leave lets a member go in order, and another come.
func (p *pipeline) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	index := p.random.Intn(len(p.dynamic.members))
	m := p.dynamic.members[index]
	m.going = true
	_, _ = io.WriteString(m.input, "leave\n")
	p.dynamic.members = append(p.dynamic.members[:index], p.dynamic.members[index+1:]...)
	p.spawn(p.dynamic, "")
}

// restartStatic kills a static member and starts it again under its name, within its session.
func (p *pipeline) restartStatic() {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.kill(p.static, p.random.Intn(len(p.static.members)))
	p.spawn(p.static, m.instance)
}

// --- What is judged. ---

// checkCommitted reads the group's offsets back: never less than was acknowledged before, nor than was seen before.
func (p *pipeline) checkCommitted(g *groupLedger) {
	p.mu.Lock()
	least := append([]int64(nil), g.committed...)
	p.mu.Unlock()
	found := p.run.committedOf(g.name)
	sent := p.run.ledger.snapshot()
	for partition, got := range found {
		if got < least[partition] {
			fail("%s, partition %d: committed is %d, after a commit of %d was acknowledged",
				g.name, partition, got, least[partition])
		}
		if got < g.observed[partition] {
			fail("%s, partition %d: committed is %d, and was %d before", g.name, partition, got, g.observed[partition])
		}
		if got > sent[partition].sent {
			fail("%s, partition %d: committed is %d of %d records", g.name, partition, got, sent[partition].sent)
		}
		g.observed[partition] = got
	}
}

func (p *pipeline) staticIsBack() bool {
	for _, m := range p.static.members {
		if m.assigned == "" {
			return false
		}
	}
	return true
}

func (p *pipeline) isDone(g *groupLedger) bool {
	for partition, l := range p.run.ledger.snapshot() {
		if g.done[partition] < l.acked {
			return false
		}
	}
	return true
}

// awaitCommitted waits until what was processed is committed, all of it and no more.
func (p *pipeline) awaitCommitted(g *groupLedger) {
	for deadline := time.Now().Add(waitMax); ; time.Sleep(20 * time.Millisecond) {
		p.checkCommitted(g)
		all := true
		for partition, l := range p.run.ledger.snapshot() {
			all = all && g.observed[partition] == l.acked
		}
		if all {
			return
		}
		if time.Now().After(deadline) {
			fail("%s: committed is %v, of %+v", g.name, g.observed, p.run.ledger.snapshot())
		}
	}
}

func (p *pipeline) await(what string, holds func() bool) {
	for deadline := time.Now().Add(waitMax); ; time.Sleep(5 * time.Millisecond) {
		p.mu.Lock()
		done := holds()
		if !done && time.Now().After(deadline) {
			var state []string
			for _, g := range []*groupLedger{p.dynamic, p.static} {
				state = append(state, fmt.Sprintf("%s has processed %v", g.name, g.done))
				for _, m := range g.members {
					state = append(state, fmt.Sprintf("member %d %s (%s)", m.command.Process.Pid, m.instance, m.assigned))
				}
			}
			fail("%s: %s; %+v", what, strings.Join(state, ", "), p.run.ledger.snapshot())
		}
		p.mu.Unlock()
		if done {
			return
		}
	}
}
