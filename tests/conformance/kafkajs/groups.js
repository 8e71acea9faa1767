// Groups, as members of kafkajs see them. kafkajs has one assigner, round robin, and no static members.
//
// Run as a program this is a member in a process of its own, made to be killed:
//     groups.js <bootstrap> <group> <topic>
'use strict'

const { spawn } = require('child_process')
const { adminOf, create, kafka, send } = require('./clients')
const { PARTITIONS, check, equal, errorOf, sampleRecords, until } = require('./harness')

const GROUP_PARTITIONS = 6
const SESSION_MS = 6_000

class Member {
  constructor(bootstrap, groupId, topic) {
    this.topic = topic
    this.owned = []
    this.records = []
    this.consumer = kafka(bootstrap).consumer({
      groupId, sessionTimeout: SESSION_MS, heartbeatInterval: 500, maxWaitTimeInMs: 50,
    })
    this.consumer.on(this.consumer.events.GROUP_JOIN, ({ payload }) => {
      this.owned = payload.memberAssignment[topic] ?? []
    })
  }

  async start() {
    await this.consumer.connect()
    await this.consumer.subscribe({ topic: this.topic, fromBeginning: true })
    await this.consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        this.records.push([partition, Number(message.offset)])
      },
    })
    return this
  }

  async commit(offsets) {
    await this.consumer.commitOffsets(
      Object.entries(offsets).map(([partition, offset]) => ({
        topic: this.topic, partition: Number(partition), offset: String(offset),
      }))
    )
  }

  async close() {
    await this.consumer.disconnect()
    this.owned = []
  }
}

// Do the members share all partitions, each partition with one owner?
async function awaitShares(members, what) {
  const all = () => members.flatMap(member => member.owned).sort()
  const expected = Array.from({ length: GROUP_PARTITIONS }, (_, p) => p).join()
  await until(
    () => all().join() === expected && members.every(member => member.owned.length > 0),
    () => `${what}: ${JSON.stringify(members.map(member => member.owned))}`
  )
}

async function groupMembers(bootstrap, topic) {
  await create(bootstrap, topic, GROUP_PARTITIONS)
  const group = `${topic}-members`
  const [first, second] = await Promise.all([0, 1].map(() => new Member(bootstrap, group, topic).start()))
  await awaitShares([first, second], 'two members')
  const third = spawn(process.execPath, [__filename, bootstrap, group, topic], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let told = ''
  third.stdout.on('data', piece => (told += piece))
  try {
    await until(() => first.owned.length + second.owned.length === 4 && told.endsWith('2\n'), 'a third member')
  } finally {
    third.kill('SIGKILL')
    await new Promise(resolve => third.on('close', resolve))
  }
  await awaitShares([first, second], 'the third was killed')
  await second.close()
  await awaitShares([first], 'the second has left')
  const admin = await adminOf(bootstrap)
  const listed = (await admin.listGroups()).groups.map(({ groupId }) => groupId)
  check(listed.includes(group), 'the group is not listed')
  const [described] = (await admin.describeGroups([group])).groups
  equal([described.state, described.members.length], ['Stable', 1], 'state and members')
  await first.close()
  await admin.deleteGroups([group])
  equal(await errorOf(() => admin.deleteGroups([group])), 'GROUP_ID_NOT_FOUND', 'a group that is gone')
}

// A group reads on where it committed, from the start when it was reset.
async function groupCommits(bootstrap, topic) {
  await create(bootstrap, topic)
  await send(bootstrap, topic, sampleRecords(90))
  const group = `${topic}-commits`
  const admin = await adminOf(bootstrap)

  // The first offset that a new, only member gets of each partition, and how many records.
  const firstOffsets = async (count, beforeLeaving = async () => {}) => {
    const member = await new Member(bootstrap, group, topic).start()
    await until(() => member.records.length >= count, 'records of the group')
    await beforeLeaving(member)
    await member.close()
    const firsts = Array.from({ length: PARTITIONS }, (_, p) =>
      Math.min(...member.records.filter(([partition]) => partition === p).map(([, offset]) => offset))
    )
    return [firsts, member.records.length]
  }

  equal(await firstOffsets(90, member => member.commit({ 0: 5, 1: 10, 2: 29 })), [[0, 0, 0], 90], 'a new group')
  const after = await firstOffsets(46, async () => {
    const failure = await errorOf(() => admin.resetOffsets({ groupId: group, topic, earliest: true }))
    check(failure !== null, 'a group that has members was reset')
  })
  equal(after, [[5, 10, 29], 46], 'after the commit')
  await admin.resetOffsets({ groupId: group, topic, earliest: true })
  equal(await firstOffsets(90), [[0, 0, 0], 90], 'after the reset')
}

async function main() {
  const [bootstrap, group, topic] = process.argv.slice(2)
  const member = await new Member(bootstrap, group, topic).start()
  let told = 0
  setInterval(() => {
    if (member.owned.length !== told) {
      told = member.owned.length
      console.log(told)
    }
  }, 10)
}

if (require.main === module) main()

module.exports = { groupCommits, groupMembers }
