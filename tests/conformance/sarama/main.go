// The client program of the conformance runner for sarama. ../lib/worker.py describes the lines that it
// reads and writes; cases_*.go hold the cases, by the names that ../lib/cases.py uses.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

// waitMax bounds everything a case waits for; the runner has a longer limit of its own.
const waitMax = 60 * time.Second

var cases = map[string]func(*T){
	"roundtrip":           roundtrip,
	"idempotent":          idempotent,
	"too_large":           tooLarge,
	"auto_create":         autoCreate,
	"long_poll":           longPoll,
	"log_append_time":     logAppendTime,
	"out_of_range":        outOfRange,
	"recreated_topic":     recreatedTopic,
	"unknown_topic":       unknownTopic,
	"topics":              topics,
	"invalid_creations":   invalidCreations,
	"metadata":            metadata,
	"describe_configs":    describeConfigs,
	"create_partitions":   createPartitions,
	"alter_configs":       alterConfigs,
	"describe_cluster":    describeCluster,
	"restart_keeps":       restartKeeps,
	"timestamps":          timestamps,
	"list_offsets":        listOffsets,
	"delete_records":      deleteRecords,
	"group_offsets":       groupOffsets,
	"group_members":       groupMembers,
	"group_static":        groupStatic,
	"group_static_killed": groupStaticKilled,
	"group_static_fenced": groupStaticFenced,
	"group_commits":       groupCommits,
	"write":               write,
	"read_digests":        readDigests,
}

// T is one run of a case: where it runs, and how it fails.
type T struct {
	bootstrap   string
	topic       string
	args        map[string]string
	input       *bufio.Reader
	cleanups    []func()
	adminClient sarama.ClusterAdmin
}

type failure struct{ text string }

// failf ends the case.
func (t *T) failf(format string, args ...any) {
	panic(failure{fmt.Sprintf(format, args...)})
}

func (t *T) check(condition bool, format string, args ...any) {
	if !condition {
		t.failf(format, args...)
	}
}

// must fails the case if there is an error.
func (t *T) must(err error, what string) {
	if err != nil {
		t.failf("%s: %v", what, err)
	}
}

func equal[V comparable](t *T, got, expected V, what string) {
	if got != expected {
		t.failf("%s: got %v, expected %v", what, got, expected)
	}
}

// until waits for a condition.
func (t *T) until(condition func() bool, format string, args ...any) {
	for deadline := time.Now().Add(waitMax); !condition(); time.Sleep(10 * time.Millisecond) {
		t.check(time.Now().Before(deadline), format, args...)
	}
}

// patient repeats f while a leader or coordinator is not ready after a restart.
func (t *T) patient(what string, f func() error) {
	for deadline := time.Now().Add(waitMax); ; time.Sleep(20 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.failf("%s: %v", what, err)
		}
	}
}

// onEnd runs f when the case is over, whatever its outcome.
func (t *T) onEnd(f func()) { t.cleanups = append(t.cleanups, f) }

// restart has the runner restart the broker: "term" or "kill".
func (t *T) restart(how string) {
	fmt.Printf("restart\t%s\n", how)
	line, err := t.input.ReadString('\n')
	t.must(err, "the runner's answer")
	equal(t, line, "done\n", "the runner's answer")
}

// value hands a result to the runner.
func (t *T) value(name, text string) { fmt.Printf("value\t%s\t%s\n", name, text) }

func (t *T) run(body func(*T)) (outcome string) {
	defer func() {
		reason := recover()
		for i := len(t.cleanups) - 1; i >= 0; i-- {
			t.cleanups[i]()
		}
		switch reason := reason.(type) {
		case nil:
		case failure:
			outcome = "fail\t" + strings.Join(strings.Fields(reason.text), " ")
		default:
			panic(reason)
		}
	}()
	body(t)
	return "ok"
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "member" {
		memberMain(os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6:]...)
	}
	input := bufio.NewReader(os.Stdin)
	for {
		line, err := input.ReadString('\n')
		if err != nil {
			return
		}
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		body, known := cases[fields[1]]
		if !known {
			fmt.Println("fail\tnot a case of this client")
			continue
		}
		t := &T{bootstrap: fields[2], topic: fields[3], args: map[string]string{}, input: input}
		for _, pair := range fields[4:] {
			name, text, _ := strings.Cut(pair, "=")
			t.args[name] = text
		}
		fmt.Println(t.run(body))
	}
}
