package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// conn is one connection with one request at a time: no client library stands between the clock and the broker.
type conn struct {
	net.Conn
	formatter   *kmsg.RequestFormatter
	correlation int32
	out, in     []byte
}

func dial(bootstrap string) *conn {
	c, err := net.Dial("tcp", bootstrap)
	check(err, "connect")
	return &conn{Conn: c, formatter: kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench-groups"))}
}

// ask sends a request in the version that it names, and returns its response.
func (c *conn) ask(request kmsg.Request) kmsg.Response {
	c.correlation++
	c.out = c.formatter.AppendRequest(c.out[:0], request, c.correlation)
	_, err := c.Write(c.out)
	check(err, "send")
	var length [4]byte
	_, err = io.ReadFull(c, length[:])
	check(err, "receive")
	size := int(binary.BigEndian.Uint32(length[:]))
	if cap(c.in) < size {
		c.in = make([]byte, size)
	}
	body := c.in[:size]
	_, err = io.ReadFull(c, body)
	check(err, "receive")
	if got := int32(binary.BigEndian.Uint32(body)); got != c.correlation {
		fail("response %d where %d was next", got, c.correlation)
	}
	body = body[4:]
	response := request.ResponseKind()
	response.SetVersion(request.GetVersion())
	if response.IsFlexible() && response.Key() != int16(kmsg.ApiVersions) {
		// No tagged fields in the header.
		body = body[1:]
	}
	check(response.ReadFrom(body), "decode")
	return response
}

func check(err error, what string) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func checkCode(code int16, what string) {
	if code != 0 {
		fail("%s: error code %d", what, code)
	}
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

func createTopic(c *conn, name string, partitions int32) {
	request := kmsg.NewPtrCreateTopicsRequest()
	request.SetVersion(5)
	request.TimeoutMillis = 60_000
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, 1
	request.Topics = append(request.Topics, topic)
	response := c.ask(request).(*kmsg.CreateTopicsResponse)
	checkCode(response.Topics[0].ErrorCode, "create topic "+name)
}

// makeBatch is a batch with one record of some bytes that do not repeat.
func makeBatch(bytes int) []byte {
	value := make([]byte, bytes)
	for i := range value {
		value[i] = byte(i*131 + i>>8*17)
	}
	body := binary.AppendVarint([]byte{0, 0, 0, 1}, int64(len(value)))
	body = append(append(body, value...), 0)
	record := append(binary.AppendVarint(nil, int64(len(body))), body...)
	batch := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: 1, Records: record, Length: int32(49 + len(record)),
	}
	raw := batch.AppendTo(nil)
	sum := crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(raw[17:], sum)
	return raw
}

func produceRequest(topic string, partition int32, batch []byte) *kmsg.ProduceRequest {
	request := kmsg.NewPtrProduceRequest()
	request.SetVersion(7)
	request.Acks, request.TimeoutMillis = -1, 30_000
	data := kmsg.NewProduceRequestTopic()
	data.Topic = topic
	of := kmsg.NewProduceRequestTopicPartition()
	of.Partition, of.Records = partition, batch
	data.Partitions = append(data.Partitions, of)
	request.Topics = append(request.Topics, data)
	return request
}

func produce(c *conn, request *kmsg.ProduceRequest) {
	response := c.ask(request).(*kmsg.ProduceResponse)
	checkCode(response.Topics[0].Partitions[0].ErrorCode, "produce")
}

// fetchRequest asks for what is new in one partition, without a session.
func fetchRequest(topic string, partition int32, wait time.Duration) *kmsg.FetchRequest {
	request := kmsg.NewPtrFetchRequest()
	request.SetVersion(11)
	request.MaxWaitMillis, request.MinBytes, request.MaxBytes = int32(wait.Milliseconds()), 1, 50<<20
	request.SessionID, request.SessionEpoch = 0, -1
	from := kmsg.NewFetchRequestTopic()
	from.Topic = topic
	of := kmsg.NewFetchRequestTopicPartition()
	of.Partition, of.FetchOffset, of.CurrentLeaderEpoch, of.PartitionMaxBytes = partition, 0, -1, 1<<20
	from.Partitions = append(from.Partitions, of)
	request.Topics = append(request.Topics, from)
	return request
}

// fetchNothing returns when the broker has waited in vain.
func fetchNothing(c *conn, request *kmsg.FetchRequest) {
	response := c.ask(request).(*kmsg.FetchResponse)
	checkCode(response.ErrorCode, "fetch")
	of := response.Topics[0].Partitions[0]
	checkCode(of.ErrorCode, "fetch")
	if len(of.RecordBatches) > 0 {
		fail("an empty partition has %d bytes", len(of.RecordBatches))
	}
}
