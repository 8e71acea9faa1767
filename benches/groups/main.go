// Measures what groups and idle connections cost a broker, one part at a time: the first argument names it. It
// prints one line of JSON. run.py starts a broker for each part and says what is wanted.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// As long as clients ask a broker to keep a fetch that finds nothing.
const maxWait = 500 * time.Millisecond

type settings struct {
	bootstrap string
	pid       int
	count     int
	seconds   time.Duration
}

func main() {
	if len(os.Args) < 2 {
		fail("which part? rebalance, commits, members or connections")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	var s settings
	flags.StringVar(&s.bootstrap, "bootstrap", "", "address of the broker")
	flags.IntVar(&s.pid, "pid", 0, "the broker's process")
	flags.IntVar(&s.count, "count", 0, "members, or connections")
	flags.DurationVar(&s.seconds, "for", 10*time.Second, "how long")
	_ = flags.Parse(os.Args[2:])
	parts := map[string]func(settings) map[string]float64{
		"rebalance": rebalance, "commits": commits, "members": idleMembers, "connections": idleConnections,
		"hold": heldConnections,
	}
	part, known := parts[os.Args[1]]
	if !known {
		fail("there is no part %q", os.Args[1])
	}
	line, err := json.Marshal(part(s))
	check(err, "encode")
	fmt.Println(string(line))
}

// rebalance: `count` members over 1,000 partitions come together, then one more joins. The broker's initial delay is
// a configured one: it is in the first time, and run.py takes it off once.
func rebalance(s settings) map[string]float64 {
	const topic, partitions, heartbeat = "rebalance", 1000, 50 * time.Millisecond
	createTopic(dial(s.bootstrap), topic, partitions)
	var members []*member
	for range s.count {
		members = append(members, newMember(s.bootstrap, "rebalance", topic))
	}
	first := together(members, topic, partitions)

	// The members hear of the newcomer with their next heartbeats.
	newcomer := newMember(s.bootstrap, "rebalance", topic)
	begin := time.Now()
	everybody := append(members, newcomer)
	each(everybody, func(m *member) {
		if m == newcomer {
			m.takePart(topic, partitions)
			return
		}
		for m.heartbeat() {
			time.Sleep(heartbeat)
		}
		m.takePart(topic, partitions)
	})
	return map[string]float64{
		"first_s":     first.Seconds(),
		"next_s":      time.Since(begin).Seconds(),
		"heartbeat_s": heartbeat.Seconds(),
	}
}

// commits: `count` members, each alone in its group, commit as fast as they are answered, beside 16 KiB batches.
func commits(s settings) map[string]float64 {
	const topic = "commits"
	createTopic(dial(s.bootstrap), topic, 4)
	var members []*member
	for n := range s.count {
		members = append(members, newMember(s.bootstrap, groupName(n), topic))
	}
	each(members, func(m *member) { m.takePart(topic, 4) })

	var stop atomic.Bool
	var produced atomic.Int64
	producers := []int32{0, 1, 2, 3}
	batch := makeBatch(16 << 10)
	var running sync.WaitGroup
	for _, partition := range producers {
		running.Go(func() {
			c, request := dial(s.bootstrap), produceRequest(topic, partition, batch)
			for !stop.Load() {
				produce(c, request)
				produced.Add(int64(len(batch)))
				// Traffic, not a flood: some 250 batches a second each.
				time.Sleep(4 * time.Millisecond)
			}
		})
	}
	before, begin := cpuTime(s.pid), time.Now()
	latencies := make([][]time.Duration, len(members))
	for n, m := range members {
		running.Go(func() {
			for offset := int64(1); !stop.Load(); offset++ {
				sent := time.Now()
				m.commit(topic, int32(n%4), offset)
				latencies[n] = append(latencies[n], time.Since(sent))
			}
		})
	}
	time.Sleep(s.seconds)
	stop.Store(true)
	running.Wait()
	took := time.Since(begin).Seconds()
	all := slices.Concat(latencies...)
	return map[string]float64{
		"commits_per_s": float64(len(all)) / took,
		"p50_ms":        quantile(all, 0.5),
		"p99_ms":        quantile(all, 0.99),
		"data_mb_per_s": float64(produced.Load()) / took / 1e6,
		"cores":         (cpuTime(s.pid) - before).Seconds() / took,
	}
}

// idleMembers: `count` members of one group say every three seconds that they are there. First they do nothing else;
// then each asks as well for what is new in a partition of its own, where nothing is: a consumer that has read
// everything. That goes over a second connection, as with clients, whose coordinator has one of its own.
func idleMembers(s settings) map[string]float64 {
	const topic, polled, interval = "members", "polled", 3 * time.Second
	c := dial(s.bootstrap)
	createTopic(c, topic, 10)
	createTopic(c, polled, int32(s.count))
	var members []*member
	for range s.count {
		members = append(members, newMember(s.bootstrap, "members", topic))
	}
	together(members, topic, 10)
	wait := func() { time.Sleep(s.seconds) }
	quiet := cores(s, wait)

	var stop atomic.Bool
	var running sync.WaitGroup
	for n, m := range members {
		running.Go(func() {
			// Spread over the interval, as members are that did not start together.
			time.Sleep(interval * time.Duration(n) / time.Duration(len(members)))
			for !stop.Load() {
				if !m.heartbeat() {
					fail("an idle group is rebalanced")
				}
				time.Sleep(interval)
			}
		})
	}
	// Counted when all of them do, and while all of them do.
	time.Sleep(interval)
	beating := cores(s, wait)

	var polls atomic.Int64
	for partition := range int32(s.count) {
		c, request := dial(s.bootstrap), fetchRequest(polled, partition, maxWait)
		running.Go(func() {
			time.Sleep(maxWait * time.Duration(partition) / time.Duration(s.count))
			for !stop.Load() {
				fetchNothing(c, request)
				polls.Add(1)
			}
		})
	}
	time.Sleep(2 * maxWait)
	before, begin := polls.Load(), time.Now()
	polling := cores(s, wait)
	rate := float64(polls.Load()-before) / time.Since(begin).Seconds()
	stop.Store(true)
	running.Wait()
	return map[string]float64{
		"cores": beating, "cores_without_heartbeats": quiet, "cores_polling": polling, "polls_per_s": rate,
	}
}

// idleConnections: a producer with and without `count` connections beside it that have asked for the broker's versions
// and say nothing more. By turns, since a machine's speed changes over seconds, and each turn is compared with the one
// before it. They are held by another process: what they cost their own is not the broker's doing.
func idleConnections(s settings) map[string]float64 {
	const topic, rounds = "connections", 12
	turn, settle := s.seconds/4, time.Second
	c := dial(s.bootstrap)
	createTopic(c, topic, 1)
	request := produceRequest(topic, 0, makeBatch(1<<10))
	load := func(seconds time.Duration) []time.Duration {
		var latencies []time.Duration
		for begin := time.Now(); time.Since(begin) < seconds; time.Sleep(time.Millisecond) {
			sent := time.Now()
			produce(c, request)
			latencies = append(latencies, time.Since(sent))
		}
		return latencies
	}
	load(turn)
	var alone, beside []time.Duration
	var ratios []float64
	var memory int
	for round := range rounds {
		before := load(turn)
		empty := residentBytes(s.pid)
		release := hold(s)
		if round == 0 {
			memory = residentBytes(s.pid) - empty
		}
		load(settle)
		meanwhile := load(turn)
		release()
		// What it takes to open and close so many is no part of either.
		load(settle)
		ratios = append(ratios, quantile(meanwhile, 0.99)/quantile(before, 0.99))
		alone, beside = append(alone, before...), append(beside, meanwhile...)
	}
	slices.Sort(ratios)
	return map[string]float64{
		"bytes_per_connection": float64(memory) / float64(s.count),
		"p50_alone_ms":         quantile(alone, 0.5),
		"p50_beside_ms":        quantile(beside, 0.5),
		"p99_alone_ms":         quantile(alone, 0.99),
		"p99_beside_ms":        quantile(beside, 0.99),
		"p99_ratio":            (ratios[(rounds-1)/2] + ratios[rounds/2]) / 2,
		"p99_ratio_least":      ratios[0],
		"p99_ratio_most":       ratios[rounds-1],
	}
}

// hold starts a process that opens the connections, and returns when they are there. What it returns ends them.
func hold(s settings) (release func()) {
	self, err := os.Executable()
	check(err, "this program's path")
	holder := exec.Command(self, "hold", "-bootstrap="+s.bootstrap, "-count="+strconv.Itoa(s.count))
	holder.Stderr = os.Stderr
	in, err := holder.StdinPipe()
	check(err, "a pipe")
	out, err := holder.StdoutPipe()
	check(err, "a pipe")
	check(holder.Start(), "start the holder")
	_, err = out.Read(make([]byte, 1))
	check(err, "the holder's connections")
	return func() {
		check(in.Close(), "release the holder")
		check(holder.Wait(), "the holder")
	}
}

// heldConnections is the other end of hold: until its input ends.
func heldConnections(s settings) map[string]float64 {
	// Kept: the collector closes what nobody knows any more.
	idle := make([]*conn, s.count)
	for n := range idle {
		versions := kmsg.NewPtrApiVersionsRequest()
		versions.SetVersion(3)
		versions.ClientSoftwareName, versions.ClientSoftwareVersion = "bench-groups", "1"
		idle[n] = dial(s.bootstrap)
		idle[n].ask(versions)
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	check(err, "wait")
	// They are still there, all of them.
	for _, one := range idle {
		one.ask(kmsg.NewPtrApiVersionsRequest())
	}
	return map[string]float64{"connections": float64(len(idle))}
}

func quantile(latencies []time.Duration, q float64) float64 {
	slices.Sort(latencies)
	return latencies[int(q*float64(len(latencies)-1))].Seconds() * 1e3
}

// cores is what share of a core the broker takes meanwhile.
func cores(s settings, meanwhile func()) float64 {
	before, begin := cpuTime(s.pid), time.Now()
	meanwhile()
	return (cpuTime(s.pid) - before).Seconds() / time.Since(begin).Seconds()
}

// cpuTime is that of all threads of a process, in user and kernel mode.
func cpuTime(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	check(err, "the broker's times")
	// Behind the name, which may hold anything.
	fields := strings.Fields(string(stat)[strings.LastIndexByte(string(stat), ')')+1:])
	var ticks int
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		check(err, "the broker's times")
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func residentBytes(pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	check(err, "the broker's memory")
	for line := range strings.Lines(string(status)) {
		if rest, found := strings.CutPrefix(line, "VmRSS:"); found {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			check(err, "the broker's memory")
			return kib << 10
		}
	}
	fail("the broker's memory is not told")
	return 0
}
