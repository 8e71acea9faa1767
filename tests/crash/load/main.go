// The load and the checker of the crash loops: an idempotent producer, a tailing consumer and a committer
// of group offsets, which run on while ../crash.py kills the broker under them.
//
// The check is fed by the client's own acks. Each partition is written by this producer alone, so the
// record with sequence number n must have offset n, and stay there: a lost, a doubled and a reordered
// record all break that. What it prints and reads, one line each:
//
//	<- acked                 ->  acked <bytes acknowledged so far>
//	<- verify                ->  verified <records checked> | failed <why>
//	<- finish                ->  finished <records> | failed <why>
//	                         ->  failed <why>              at any time; the program then ends
//
// As `groups` it is the load of ../groups.py instead (groups.go), and as `member` one of the processes of that.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
)

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "groups":
			groupsMain(os.Args[2:])
			return
		case "member":
			memberMain(os.Args[2:])
			return
		}
	}
	bootstrap := flag.String("bootstrap", "", "address of the broker")
	partitions := flag.Int("partitions", 8, "partitions to write to")
	rate := flag.Int("rate", 20_000, "records per second at most")
	seed := flag.Int64("seed", 1, "seed of the sizes of the records")
	keepDeleted := flag.Bool("keep-deleted", true, "check that DeleteRecords outlives kill -9 (Apache Kafka's does not)")
	flag.Parse()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l := newLedger(*partitions)
	run := &run{ctx: ctx, bootstrap: *bootstrap, topic: "crash", ledger: l, keepDeleted: *keepDeleted}
	run.prepare()
	produced := make(chan struct{})
	var stop atomic.Bool
	go func() {
		run.produce(*rate, *seed, &stop)
		close(produced)
	}()
	go run.tail()
	go run.commit(&stop)
	answer("ready")

	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		switch strings.TrimSpace(input.Text()) {
		case "acked":
			answer("acked %d", l.ackedBytes.Load())
		case "verify":
			answer("verified %d", run.verify())
		case "finish":
			stop.Store(true)
			<-produced
			run.awaitTail()
			run.verify()
			run.verifyCommitted()
			answer("finished %d", l.records())
		}
	}
}

func answer(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// fail reports a broken promise, or a client that gave up, and ends the program.
func fail(format string, args ...any) {
	answer("failed "+format, args...)
	os.Exit(1)
}
