package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// rawSweep sends every version that the broker advertises of every API, whether or not a client would, with
// content that must succeed. Each answer must be read to its last byte by franz-go's own codec, which encodes it
// to the same bytes again, and must not carry an error.
func rawSweep(t *T) {
	t.create(2, nil)
	s := &sweep{T: t, connection: t.dial()}
	s.topicID = t.describe().ID
	t.must(t.rawProduce(0, batch("v")), "produce")
	versions := s.ask(kmsg.NewPtrApiVersionsRequest(), 0).(*kmsg.ApiVersionsResponse)
	equal(t, versions.ErrorCode, 0, "error of ApiVersions")
	t.check(len(versions.ApiKeys) > 20, "only %d APIs", len(versions.ApiKeys))
	sent := 0
	for _, api := range versions.ApiKeys {
		name := kmsg.NameForKey(api.ApiKey)
		body, known := bodies[api.ApiKey]
		t.check(known, "the sweep has no request for %s (%d): add it to bodies", name, api.ApiKey)
		for version := api.MinVersion; version <= api.MaxVersion; version++ {
			// Advertised for clients that look at the minimum only, and refused.
			if api.ApiKey == 0 && version < 3 {
				continue
			}
			s.name = fmt.Sprintf("%s %d", name, version)
			body(s, version)
			sent++
		}
	}
	t.value("versions", fmt.Sprint(sent))
}

// sweep is one connection, which sends requests in the versions that it is told, without negotiation.
type sweep struct {
	*T
	connection  net.Conn
	topicID     [16]byte
	name        string
	correlation int32
}

func (t *T) dial() net.Conn {
	connection, err := net.Dial("tcp", t.bootstrap)
	t.must(err, "connect")
	t.onEnd(func() { connection.Close() })
	return connection
}

// ask sends a request in this version and reads the answer.
func (s *sweep) ask(request kmsg.Request, version int16) kmsg.Response {
	request.SetVersion(version)
	t := s.T
	t.check(version <= request.MaxVersion(), "%s: franz-go knows versions up to %d", s.name, request.MaxVersion())
	s.correlation++
	formatter := kmsg.NewRequestFormatter(kmsg.FormatterClientID("sweep"))
	t.must(s.connection.SetDeadline(time.Now().Add(waitMax)), "deadline")
	_, err := s.connection.Write(formatter.AppendRequest(nil, request, s.correlation))
	t.must(err, s.name)
	var length [4]byte
	_, err = io.ReadFull(s.connection, length[:])
	t.must(err, s.name+": the answer")
	answer := make([]byte, binary.BigEndian.Uint32(length[:]))
	_, err = io.ReadFull(s.connection, answer)
	t.must(err, s.name+": the answer")
	equal(t, int32(binary.BigEndian.Uint32(answer)), s.correlation, s.name+": correlation id")
	answer = answer[4:]
	// ApiVersions is answered with the oldest header, since its asker knows no version yet.
	if request.IsFlexible() && request.Key() != 18 {
		equal(t, answer[0], 0, s.name+": tags of the header")
		answer = answer[1:]
	}
	reply := request.ResponseKind()
	reply.SetVersion(version)
	t.must(reply.ReadFrom(answer), s.name+": decoding")
	t.check(bytes.Equal(reply.AppendTo(nil), answer), "%s: the answer is not what franz-go would encode", s.name)
	return reply
}

// fine is ask, and no error anywhere in the answer.
func (s *sweep) fine(request kmsg.Request, version int16) kmsg.Response {
	reply := s.ask(request, version)
	errorCodes(reflect.ValueOf(reply), func(code int16) {
		s.failf("%s: %v", s.name, kerr.ErrorForCode(code))
	})
	return reply
}

// errorCodes visits every ErrorCode of a message that is not zero.
func errorCodes(value reflect.Value, visit func(int16)) {
	switch value.Kind() {
	case reflect.Pointer:
		if !value.IsNil() {
			errorCodes(value.Elem(), visit)
		}
	case reflect.Slice:
		if value.Type().Elem().Kind() == reflect.Struct {
			for i := range value.Len() {
				errorCodes(value.Index(i), visit)
			}
		}
	case reflect.Struct:
		for i := range value.NumField() {
			if value.Type().Field(i).Name == "ErrorCode" && value.Field(i).Int() != 0 {
				visit(int16(value.Field(i).Int()))
			} else {
				errorCodes(value.Field(i), visit)
			}
		}
	}
}

// fresh is a name that no other version has.
func (s *sweep) fresh(kind string) string {
	return fmt.Sprintf("%s-%s-%s", s.topic, kind, strings.ReplaceAll(s.name, " ", "-"))
}

// bodies has a request for each API that the broker may advertise.
var bodies = map[int16]func(*sweep, int16){
	0: func(s *sweep, v int16) {
		request := kmsg.NewPtrProduceRequest()
		request.Acks, request.TimeoutMillis = -1, 5000
		topic := kmsg.NewProduceRequestTopic()
		topic.Topic, topic.TopicID = s.topic, s.topicID
		partition := kmsg.NewProduceRequestTopicPartition()
		partition.Records = batch(s.name)
		topic.Partitions = append(topic.Partitions, partition)
		request.Topics = append(request.Topics, topic)
		s.fine(request, v)
	},
	1: func(s *sweep, v int16) {
		request := kmsg.NewPtrFetchRequest()
		request.MaxBytes, request.MaxWaitMillis, request.MinBytes = 1<<20, 100, 1
		topic := kmsg.NewFetchRequestTopic()
		topic.Topic, topic.TopicID = s.topic, s.topicID
		partition := kmsg.NewFetchRequestTopicPartition()
		partition.PartitionMaxBytes = 1 << 20
		topic.Partitions = append(topic.Partitions, partition)
		request.Topics = append(request.Topics, topic)
		reply := s.fine(request, v).(*kmsg.FetchResponse)
		s.check(len(reply.Topics) == 1 && len(reply.Topics[0].Partitions[0].RecordBatches) > 0, "%s: no records", s.name)
	},
	2: func(s *sweep, v int16) {
		request := kmsg.NewPtrListOffsetsRequest()
		request.ReplicaID = -1
		topic := kmsg.NewListOffsetsRequestTopic()
		topic.Topic = s.topic
		partition := kmsg.NewListOffsetsRequestTopicPartition()
		partition.Timestamp = -1
		topic.Partitions = append(topic.Partitions, partition)
		request.Topics = append(request.Topics, topic)
		reply := s.fine(request, v).(*kmsg.ListOffsetsResponse)
		s.check(reply.Topics[0].Partitions[0].Offset > 0, "%s: no end offset", s.name)
	},
	3: func(s *sweep, v int16) {
		request := kmsg.NewPtrMetadataRequest()
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = &s.topic
		request.Topics = append(request.Topics, topic)
		reply := s.fine(request, v).(*kmsg.MetadataResponse)
		equal(s.T, len(reply.Topics[0].Partitions), 2, s.name+": partitions")
	},
	8: func(s *sweep, v int16) { s.commit(s.fresh("group"), v) },
	9: func(s *sweep, v int16) {
		group := s.fresh("group")
		s.commit(group, 8)
		request := kmsg.NewPtrOffsetFetchRequest()
		request.Group = group
		topic := kmsg.NewOffsetFetchRequestTopic()
		topic.Topic, topic.Partitions = s.topic, []int32{0}
		request.Topics = append(request.Topics, topic)
		many := kmsg.NewOffsetFetchRequestGroup()
		many.Group = group
		ofGroup := kmsg.NewOffsetFetchRequestGroupTopic()
		ofGroup.Topic, ofGroup.TopicID, ofGroup.Partitions = s.topic, s.topicID, []int32{0}
		many.Topics = append(many.Topics, ofGroup)
		request.Groups = append(request.Groups, many)
		reply := s.fine(request, v).(*kmsg.OffsetFetchResponse)
		if v < 8 {
			equal(s.T, reply.Topics[0].Partitions[0].Offset, 7, s.name+": offset")
		} else {
			equal(s.T, reply.Groups[0].Topics[0].Partitions[0].Offset, 7, s.name+": offset")
		}
	},
	10: func(s *sweep, v int16) {
		request := kmsg.NewPtrFindCoordinatorRequest()
		request.CoordinatorKey = s.fresh("group")
		request.CoordinatorKeys = []string{s.fresh("group")}
		s.fine(request, v)
	},
	11: func(s *sweep, v int16) { s.join(s.fresh("group"), v) },
	12: func(s *sweep, v int16) {
		group := s.fresh("group")
		member, generation := s.synced(group)
		request := kmsg.NewPtrHeartbeatRequest()
		request.Group, request.MemberID, request.Generation = group, member, generation
		s.fine(request, v)
	},
	13: func(s *sweep, v int16) {
		group := s.fresh("group")
		member, _ := s.synced(group)
		request := kmsg.NewPtrLeaveGroupRequest()
		request.Group, request.MemberID = group, member
		one := kmsg.NewLeaveGroupRequestMember()
		one.MemberID = member
		request.Members = append(request.Members, one)
		s.fine(request, v)
	},
	14: func(s *sweep, v int16) {
		group := s.fresh("group")
		member, generation := s.join(group, 5)
		s.sync(group, member, generation, v)
	},
	15: func(s *sweep, v int16) {
		group := s.fresh("group")
		s.commit(group, 8)
		request := kmsg.NewPtrDescribeGroupsRequest()
		request.Groups = []string{group}
		reply := s.fine(request, v).(*kmsg.DescribeGroupsResponse)
		equal(s.T, reply.Groups[0].State, "Empty", s.name+": state")
	},
	16: func(s *sweep, v int16) {
		reply := s.fine(kmsg.NewPtrListGroupsRequest(), v).(*kmsg.ListGroupsResponse)
		s.check(len(reply.Groups) > 0, "%s: no groups", s.name)
	},
	18: func(s *sweep, v int16) {
		request := kmsg.NewPtrApiVersionsRequest()
		request.ClientSoftwareName, request.ClientSoftwareVersion = "sweep", "1"
		s.fine(request, v)
	},
	19: func(s *sweep, v int16) { s.creation(s.fresh("topic"), v) },
	20: func(s *sweep, v int16) {
		name := s.fresh("topic")
		s.creation(name, 7)
		request := kmsg.NewPtrDeleteTopicsRequest()
		request.TopicNames = []string{name}
		topic := kmsg.NewDeleteTopicsRequestTopic()
		topic.Topic = &name
		request.Topics = append(request.Topics, topic)
		s.fine(request, v)
	},
	21: func(s *sweep, v int16) {
		request := kmsg.NewPtrDeleteRecordsRequest()
		topic := kmsg.NewDeleteRecordsRequestTopic()
		topic.Topic = s.topic
		partition := kmsg.NewDeleteRecordsRequestTopicPartition()
		topic.Partitions = append(topic.Partitions, partition)
		request.Topics = append(request.Topics, topic)
		s.fine(request, v)
	},
	22: func(s *sweep, v int16) {
		reply := s.fine(kmsg.NewPtrInitProducerIDRequest(), v).(*kmsg.InitProducerIDResponse)
		s.check(reply.ProducerID >= 0, "%s: no producer id", s.name)
	},
	23: func(s *sweep, v int16) {
		request := kmsg.NewPtrOffsetForLeaderEpochRequest()
		topic := kmsg.NewOffsetForLeaderEpochRequestTopic()
		topic.Topic = s.topic
		partition := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		topic.Partitions = append(topic.Partitions, partition)
		request.Topics = append(request.Topics, topic)
		s.fine(request, v)
	},
	29: func(s *sweep, v int16) {
		// The one API that never succeeds here: there is nobody who would keep such entries.
		reply := s.ask(anyACL(), v).(*kmsg.DescribeACLsResponse)
		s.isError(kerr.ErrorForCode(reply.ErrorCode), kerr.SecurityDisabled, s.name)
	},
	32: func(s *sweep, v int16) {
		request := kmsg.NewPtrDescribeConfigsRequest()
		resource := kmsg.NewDescribeConfigsRequestResource()
		resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, s.topic
		request.Resources = append(request.Resources, resource)
		request.IncludeSynonyms, request.IncludeDocumentation = true, true
		reply := s.fine(request, v).(*kmsg.DescribeConfigsResponse)
		s.check(len(reply.Resources[0].Configs) > 0, "%s: no configs", s.name)
	},
	33: func(s *sweep, v int16) {
		request := kmsg.NewPtrAlterConfigsRequest()
		resource := kmsg.NewAlterConfigsRequestResource()
		resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, s.topic
		config := kmsg.NewAlterConfigsRequestResourceConfig()
		config.Name, config.Value = "retention.ms", kmsg.StringPtr("-1")
		resource.Configs = append(resource.Configs, config)
		request.Resources = append(request.Resources, resource)
		s.fine(request, v)
	},
	35: func(s *sweep, v int16) {
		reply := s.fine(kmsg.NewPtrDescribeLogDirsRequest(), v).(*kmsg.DescribeLogDirsResponse)
		s.check(len(reply.Dirs) > 0, "%s: no log directory", s.name)
	},
	37: func(s *sweep, v int16) {
		name := s.fresh("topic")
		s.creation(name, 7)
		request := kmsg.NewPtrCreatePartitionsRequest()
		request.TimeoutMillis = 5000
		topic := kmsg.NewCreatePartitionsRequestTopic()
		topic.Topic, topic.Count = name, 3
		request.Topics = append(request.Topics, topic)
		s.fine(request, v)
	},
	42: func(s *sweep, v int16) {
		group := s.fresh("group")
		s.commit(group, 8)
		request := kmsg.NewPtrDeleteGroupsRequest()
		request.Groups = []string{group}
		s.fine(request, v)
	},
	44: func(s *sweep, v int16) {
		request := kmsg.NewPtrIncrementalAlterConfigsRequest()
		resource := kmsg.NewIncrementalAlterConfigsRequestResource()
		resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, s.topic
		config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		config.Name, config.Value = "retention.ms", kmsg.StringPtr("-1")
		resource.Configs = append(resource.Configs, config)
		request.Resources = append(request.Resources, resource)
		s.fine(request, v)
	},
	46: func(s *sweep, v int16) {
		reply := s.fine(kmsg.NewPtrListPartitionReassignmentsRequest(), v).(*kmsg.ListPartitionReassignmentsResponse)
		equal(s.T, len(reply.Topics), 0, s.name+": reassignments")
	},
	47: func(s *sweep, v int16) {
		group := s.fresh("group")
		s.commit(group, 8)
		request := kmsg.NewPtrOffsetDeleteRequest()
		request.Group = group
		topic := kmsg.NewOffsetDeleteRequestTopic()
		topic.Topic = s.topic
		partition := kmsg.NewOffsetDeleteRequestTopicPartition()
		topic.Partitions = append(topic.Partitions, partition)
		request.Topics = append(request.Topics, topic)
		s.fine(request, v)
	},
	48: func(s *sweep, v int16) { s.fine(kmsg.NewPtrDescribeClientQuotasRequest(), v) },
	50: func(s *sweep, v int16) {
		reply := s.fine(kmsg.NewPtrDescribeUserSCRAMCredentialsRequest(), v).(*kmsg.DescribeUserSCRAMCredentialsResponse)
		equal(s.T, len(reply.Results), 0, s.name+": users with credentials")
	},
	60: func(s *sweep, v int16) {
		request := kmsg.NewPtrDescribeClusterRequest()
		request.EndpointType = 1
		reply := s.fine(request, v).(*kmsg.DescribeClusterResponse)
		s.check(len(reply.Brokers) > 0, "%s: no brokers", s.name)
	},
	61: func(s *sweep, v int16) {
		request := kmsg.NewPtrDescribeProducersRequest()
		topic := kmsg.NewDescribeProducersRequestTopic()
		topic.Topic, topic.Partitions = s.topic, []int32{0}
		request.Topics = append(request.Topics, topic)
		s.fine(request, v)
	},
	74: func(s *sweep, v int16) {
		reply := s.fine(kmsg.NewPtrListConfigResourcesRequest(), v).(*kmsg.ListConfigResourcesResponse)
		listed := slices.ContainsFunc(reply.ConfigResources, func(one kmsg.ListConfigResourcesResponseConfigResource) bool {
			return one.Name == s.topic && one.Type == int8(kmsg.ConfigResourceTypeTopic)
		})
		// Version 0 is about metrics of clients.
		equal(s.T, listed, v > 0, s.name+": the topic is listed")
	},
	75: func(s *sweep, v int16) {
		request := kmsg.NewPtrDescribeTopicPartitionsRequest()
		topic := kmsg.NewDescribeTopicPartitionsRequestTopic()
		topic.Topic = s.topic
		request.Topics = append(request.Topics, topic)
		request.ResponsePartitionLimit = 100
		reply := s.fine(request, v).(*kmsg.DescribeTopicPartitionsResponse)
		equal(s.T, len(reply.Topics[0].Partitions), 2, s.name+": partitions")
		// They may be null, says the schema, but Java's client takes them as they are.
		one := reply.Topics[0].Partitions[0]
		s.check(one.EligibleLeaderReplicas != nil && one.LastKnownELR != nil, "%s: null lists of replicas", s.name)
	},
}

// anyACL asks for every entry that there is.
func anyACL() *kmsg.DescribeACLsRequest {
	request := kmsg.NewPtrDescribeACLsRequest()
	request.ResourceType, request.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
	request.Operation, request.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	return request
}

// commit leaves offset 7 of partition 0 with a group that has no members.
func (s *sweep) commit(group string, v int16) {
	request := kmsg.NewPtrOffsetCommitRequest()
	request.Group, request.Generation = group, -1
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic, topic.TopicID = s.topic, s.topicID
	partition := kmsg.NewOffsetCommitRequestTopicPartition()
	partition.Offset = 7
	topic.Partitions = append(topic.Partitions, partition)
	request.Topics = append(request.Topics, topic)
	s.fine(request, v)
}

// join makes an only member, which from version 4 on is given its id by a first refusal.
func (s *sweep) join(group string, v int16) (member string, generation int32) {
	request := kmsg.NewPtrJoinGroupRequest()
	request.Group, request.ProtocolType = group, "consumer"
	request.SessionTimeoutMillis, request.RebalanceTimeoutMillis = 10_000, 10_000
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name, protocol.Metadata = "any", []byte{1}
	request.Protocols = append(request.Protocols, protocol)
	reply := s.ask(request, v).(*kmsg.JoinGroupResponse)
	if v >= 4 {
		s.isError(kerr.ErrorForCode(reply.ErrorCode), kerr.MemberIDRequired, s.name+": a join without member id")
		request.MemberID = reply.MemberID
		reply = s.ask(request, v).(*kmsg.JoinGroupResponse)
	}
	s.must(kerr.ErrorForCode(reply.ErrorCode), s.name+": join")
	equal(s.T, reply.LeaderID, reply.MemberID, s.name+": the leader of one")
	return reply.MemberID, reply.Generation
}

func (s *sweep) sync(group, member string, generation int32, v int16) {
	request := kmsg.NewPtrSyncGroupRequest()
	request.Group, request.MemberID, request.Generation = group, member, generation
	request.ProtocolType, request.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr("any")
	assignment := kmsg.NewSyncGroupRequestGroupAssignment()
	assignment.MemberID, assignment.MemberAssignment = member, []byte{2}
	request.GroupAssignment = append(request.GroupAssignment, assignment)
	reply := s.fine(request, v).(*kmsg.SyncGroupResponse)
	s.sameBytes(reply.MemberAssignment, []byte{2}, s.name+": assignment")
}

func (s *sweep) synced(group string) (member string, generation int32) {
	member, generation = s.join(group, 5)
	s.sync(group, member, generation, 3)
	return member, generation
}

func (s *sweep) creation(name string, v int16) {
	request := kmsg.NewPtrCreateTopicsRequest()
	request.TimeoutMillis = 5000
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, 2, 1
	request.Topics = append(request.Topics, topic)
	s.fine(request, v)
}
