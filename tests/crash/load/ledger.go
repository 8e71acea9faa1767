package main

import (
	"encoding/binary"
	"hash/crc32"
	"math/rand"
	"sync"
	"sync/atomic"
)

// ledger is what the broker has promised so far.
type ledger struct {
	ackedBytes atomic.Int64

	mu         sync.Mutex
	partitions []partitionLedger
}

// partitionLedger counts; that is enough, since sequence number and offset must be the same.
//
// Invariant: deleted <= tailed, and acked <= sent.
type partitionLedger struct {
	sent  int64
	acked int64
	// The tailing consumer has seen all below.
	tailed int64
	// DeleteRecords up to here was acknowledged.
	deleted int64
	// A commit of this group offset was acknowledged, and one of commitTried was at least sent.
	committed   int64
	commitTried int64
}

func newLedger(partitions int) *ledger {
	return &ledger{partitions: make([]partitionLedger, partitions)}
}

// with runs f on one partition under the lock.
func (l *ledger) with(partition int32, f func(*partitionLedger)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.partitions[partition])
}

func (l *ledger) snapshot() []partitionLedger {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]partitionLedger(nil), l.partitions...)
}

func (l *ledger) records() (total int64) {
	for _, p := range l.snapshot() {
		total += p.acked
	}
	return total
}

// A value is its sequence number, its partition, filler that does not compress, and a checksum of these.
const valueHead, valueTail = 12, 4

func makeValue(random *rand.Rand, partition int32, sequence int64) []byte {
	filler := 20 + random.Intn(400)
	if random.Intn(500) == 0 {
		// Now and then a record that needs a batch, and perhaps a block, of its own.
		filler = random.Intn(600_000)
	}
	value := make([]byte, valueHead+filler+valueTail)
	binary.BigEndian.PutUint64(value, uint64(sequence))
	binary.BigEndian.PutUint32(value[8:], uint32(partition))
	random.Read(value[valueHead : valueHead+filler])
	sum := crc32.ChecksumIEEE(value[:valueHead+filler])
	binary.BigEndian.PutUint32(value[valueHead+filler:], sum)
	return value
}

// readValue returns what makeValue put in, or false for anything else.
func readValue(value []byte) (partition int32, sequence int64, whole bool) {
	if len(value) < valueHead+valueTail {
		return 0, 0, false
	}
	end := len(value) - valueTail
	if binary.BigEndian.Uint32(value[end:]) != crc32.ChecksumIEEE(value[:end]) {
		return 0, 0, false
	}
	return int32(binary.BigEndian.Uint32(value[8:])), int64(binary.BigEndian.Uint64(value)), true
}
