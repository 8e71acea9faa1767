package main

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const rebalanceInProgress = 27

// member of a group, over a connection of its own.
type member struct {
	*conn
	group      string
	id         string
	generation int32
	metadata   []byte
	assigned   int
}

func newMember(bootstrap, group, topic string) *member {
	said := kmsg.NewConsumerMemberMetadata()
	said.Topics = []string{topic}
	return &member{conn: dial(bootstrap), group: group, generation: -1, metadata: said.AppendTo(nil)}
}

// join returns when everybody has joined; of the leader with all members.
func (m *member) join() []kmsg.JoinGroupResponseMember {
	for {
		request := kmsg.NewPtrJoinGroupRequest()
		request.SetVersion(5)
		request.Group, request.MemberID, request.ProtocolType = m.group, m.id, "consumer"
		request.SessionTimeoutMillis, request.RebalanceTimeoutMillis = 45_000, 60_000
		protocol := kmsg.NewJoinGroupRequestProtocol()
		protocol.Name, protocol.Metadata = "range", m.metadata
		request.Protocols = append(request.Protocols, protocol)
		response := m.ask(request).(*kmsg.JoinGroupResponse)
		m.id = response.MemberID
		// The first time a member is told its id, and must come again with it.
		if response.ErrorCode == 79 {
			continue
		}
		checkCode(response.ErrorCode, "join")
		m.generation = response.Generation
		if response.LeaderID == m.id {
			return response.Members
		}
		return nil
	}
}

// sync returns when the assignment is there; the leader brings it along. False: join again.
func (m *member) sync(topic string, partitions int, members []kmsg.JoinGroupResponseMember) bool {
	request := kmsg.NewPtrSyncGroupRequest()
	request.SetVersion(3)
	request.Group, request.Generation, request.MemberID = m.group, m.generation, m.id
	for index, one := range members {
		assignment := kmsg.NewConsumerMemberAssignment()
		of := kmsg.NewConsumerMemberAssignmentTopic()
		of.Topic = topic
		for p := index; p < partitions; p += len(members) {
			of.Partitions = append(of.Partitions, int32(p))
		}
		assignment.Topics = append(assignment.Topics, of)
		given := kmsg.NewSyncGroupRequestGroupAssignment()
		given.MemberID, given.MemberAssignment = one.MemberID, assignment.AppendTo(nil)
		request.GroupAssignment = append(request.GroupAssignment, given)
	}
	response := m.ask(request).(*kmsg.SyncGroupResponse)
	if response.ErrorCode == rebalanceInProgress {
		return false
	}
	checkCode(response.ErrorCode, "sync")
	got := kmsg.NewConsumerMemberAssignment()
	check(got.ReadFrom(response.MemberAssignment), "assignment")
	m.assigned = 0
	for _, of := range got.Topics {
		m.assigned += len(of.Partitions)
	}
	return true
}

// takePart joins and syncs until the member has its share.
func (m *member) takePart(topic string, partitions int) {
	for {
		members := m.join()
		if len(members) > 0 {
			// As every client's leader does before it assigns.
			request := kmsg.NewPtrMetadataRequest()
			request.SetVersion(7)
			of := kmsg.NewMetadataRequestTopic()
			of.Topic = &topic
			request.Topics = append(request.Topics, of)
			found := m.ask(request).(*kmsg.MetadataResponse)
			if len(found.Topics[0].Partitions) != partitions {
				fail("%s has %d partitions", topic, len(found.Topics[0].Partitions))
			}
		}
		if m.sync(topic, partitions, members) {
			return
		}
	}
}

// heartbeat: false if the member is to join again.
func (m *member) heartbeat() bool {
	request := kmsg.NewPtrHeartbeatRequest()
	request.SetVersion(3)
	request.Group, request.Generation, request.MemberID = m.group, m.generation, m.id
	code := m.ask(request).(*kmsg.HeartbeatResponse).ErrorCode
	if code == rebalanceInProgress {
		return false
	}
	checkCode(code, "heartbeat")
	return true
}

func (m *member) commit(topic string, partition int32, offset int64) {
	request := kmsg.NewPtrOffsetCommitRequest()
	request.SetVersion(7)
	request.Group, request.Generation, request.MemberID = m.group, m.generation, m.id
	of := kmsg.NewOffsetCommitRequestTopic()
	of.Topic = topic
	one := kmsg.NewOffsetCommitRequestTopicPartition()
	one.Partition, one.Offset = partition, offset
	of.Partitions = append(of.Partitions, one)
	request.Topics = append(request.Topics, of)
	response := m.ask(request).(*kmsg.OffsetCommitResponse)
	checkCode(response.Topics[0].Partitions[0].ErrorCode, "commit")
}

// together lets members take part at once, and returns how long until the last one had its share.
func together(members []*member, topic string, partitions int) time.Duration {
	begin := time.Now()
	each(members, func(m *member) { m.takePart(topic, partitions) })
	took := time.Since(begin)
	total := 0
	for _, m := range members {
		total += m.assigned
	}
	if total != partitions {
		fail("%d of %d partitions are assigned", total, partitions)
	}
	return took
}

func each[T any](all []T, do func(T)) {
	done := make(chan struct{}, len(all))
	for _, one := range all {
		go func() {
			do(one)
			done <- struct{}{}
		}()
	}
	for range all {
		<-done
	}
}

func groupName(n int) string { return fmt.Sprintf("bench-%d", n) }
