package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/twmb/franz-go/pkg/kgo"
)

// digest hashes a partition's records; ../librdkafka/digest.py says which bytes go in.
type digest struct {
	count      int64
	records    hash.Hash
	timestamps hash.Hash
}

func newDigest() *digest { return &digest{records: sha256.New(), timestamps: sha256.New()} }

func (d *digest) add(r *kgo.Record) {
	var buffer []byte
	buffer = appendBytes(buffer, r.Key)
	buffer = appendBytes(buffer, r.Value)
	buffer = binary.BigEndian.AppendUint32(buffer, uint32(len(r.Headers)))
	for _, header := range r.Headers {
		buffer = appendBytes(buffer, []byte(header.Key))
		buffer = appendBytes(buffer, header.Value)
	}
	d.records.Write(buffer)
	d.timestamps.Write(binary.BigEndian.AppendUint64(nil, uint64(r.Timestamp.UnixMilli())))
	d.count++
}

func (d *digest) text() string {
	return fmt.Sprintf("%d %x %x", d.count, d.records.Sum(nil), d.timestamps.Sum(nil))
}

func appendBytes(buffer, content []byte) []byte {
	if content == nil {
		return append(buffer, 0xff, 0xff, 0xff, 0xff)
	}
	buffer = binary.BigEndian.AppendUint32(buffer, uint32(len(content)))
	return append(buffer, content...)
}
