// kafkajs as a client program of the conformance runner (see ../lib/worker.py): the cases, by the names that
// ../lib/cases.py uses.
'use strict'

const { QUICK, adminOf, bounds, closeAdmins, create, expectRecords, kafka, newTopic, read, send, withProducer } = require('./clients')
const groups = require('./groups')
const {
  Digest, PARTITIONS, T0_MS, check, equal, errorOf, matrixRecords, restart, sampleRecords, serve, sleep, until,
} = require('./harness')

const noise = size => require('crypto').randomBytes(size)

// --- records ---

async function roundtrip(bootstrap, topic, { codec, acks }) {
  await create(bootstrap, topic)
  const sent = sampleRecords(600)
  await send(bootstrap, topic, sent, { codec, acks: Number(acks) })
  // With acks=0 nothing tells when the records have arrived, so the ends are polled.
  const arrived = async () => (await bounds(bootstrap, topic)).reduce((sum, [, high]) => sum + high, 0)
  await until(async () => (await arrived()) === sent.length, 'the records did not arrive')
  await expectRecords(bootstrap, topic, sent, { readUncommitted: true })
  await expectRecords(bootstrap, topic, sent)
  await (await adminOf(bootstrap)).deleteTopics({ topics: [topic] })
}

// An idempotent producer goes on while the broker is restarted under it, twice.
async function idempotent(bootstrap, topic, { how }) {
  await create(bootstrap, topic)
  const count = 9_000
  // Apache Kafka forgets a producer at a restart when its last record's timestamp is a day old.
  const now = Date.now()
  const sent = Array.from({ length: count }, (_, i) => ({
    partition: i % PARTITIONS,
    key: Buffer.from(String(i)),
    value: Buffer.from(`value ${i}`),
    headers: { i: Buffer.from(String(i)) },
    timestamp: String(now + i),
  }))
  await withProducer(bootstrap, { idempotent: true, maxInFlightRequests: 1 }, async producer => {
    const batch = 100
    for (let first = 0; first < count; first += batch) {
      const sending = producer.send({ topic, messages: sent.slice(first, first + batch) })
      if (first === count / 3 || first === (2 * count) / 3) await restart(how)
      await sending
    }
  })
  await expectRecords(bootstrap, topic, sent)
  await restart(how)
  await expectRecords(bootstrap, topic, sent)
}

async function tooLarge(bootstrap, topic) {
  await create(bootstrap, topic)
  const record = value => ({ partition: 0, key: null, value, headers: {}, timestamp: String(T0_MS) })
  const largest = record(noise(1_048_000))
  await send(bootstrap, topic, [largest])
  const failure = await errorOf(() => send(bootstrap, topic, [record(noise(1_048_600))]))
  equal(failure, 'MESSAGE_TOO_LARGE', 'a record above the limit')
  const after = record(Buffer.from('after'))
  await send(bootstrap, topic, [after])
  await expectRecords(bootstrap, topic, [largest, after])
  // A reader whose limit is far below the record must still get it, or it would stand still for ever.
  await expectRecords(bootstrap, topic, [largest, after], { maxBytesPerPartition: 1000 })
}

// Producing to a topic that does not exist creates it, with the client's leave to do so.
async function autoCreate(bootstrap, topic) {
  const sent = [{ partition: 0, key: null, value: Buffer.from('v'), headers: {}, timestamp: String(Date.now()) }]
  await send(bootstrap, topic, sent, { allowAutoTopicCreation: true })
  await expectRecords(bootstrap, topic, sent)
}

// A parked fetch is answered when a record becomes durable, not when its wait is over.
async function longPoll(bootstrap, topic) {
  await create(bootstrap, topic, 1)
  const waitMs = 6_000
  const got = []
  const consumer = kafka(bootstrap).consumer({ groupId: `${topic}-poll`, maxWaitTimeInMs: waitMs })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  const joined = new Promise(resolve => consumer.on(consumer.events.GROUP_JOIN, resolve))
  await consumer.run({ autoCommit: false, eachMessage: async ({ message }) => got.push(message.value.toString()) })
  await joined
  await withProducer(bootstrap, {}, async producer => {
    for (let i = 0; i < 5; i++) {
      await sleep(200)
      equal(got.length, i, 'records out of nowhere')
      const sentAt = Date.now()
      await producer.send({ topic, messages: [{ partition: 0, value: String(i) }] })
      await until(() => got.length > i, 'the record did not come')
      equal(got[i], String(i), 'value')
      check(Date.now() - sentAt < waitMs / 2, `the record took ${Date.now() - sentAt} ms`)
    }
    // kafkajs leaves once its fetch is answered: so that it need not wait.
    const left = consumer.disconnect()
    await producer.send({ topic, messages: [{ partition: 0, value: 'leave' }] })
    await left
  })
}

async function logAppendTime(bootstrap, topic) {
  await create(bootstrap, topic, PARTITIONS, { 'message.timestamp.type': 'LogAppendTime' })
  const before = Date.now() - 1000
  await send(bootstrap, topic, sampleRecords(30))
  const after = Date.now() + 1000
  await read(bootstrap, topic, (_, { timestamp }) => {
    check(before <= Number(timestamp) && Number(timestamp) <= after, `append time ${timestamp} is not now`)
  })
}

// kafkajs resets by itself: to the start, if it subscribed from there.
async function outOfRange(bootstrap, topic) {
  await create(bootstrap, topic, 1)
  await send(bootstrap, topic, sampleRecords(30, 1))
  const seen = []
  const consumer = kafka(bootstrap).consumer({ groupId: `${topic}-reset`, maxWaitTimeInMs: 50 })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({ autoCommit: false, eachMessage: async ({ message }) => seen.push(Number(message.offset)) })
  consumer.seek({ topic, partition: 0, offset: '5000' })
  await until(() => seen.length >= 30, 'no reset to the earliest offset')
  equal(seen[0], 0, 'offset after the reset')
  await consumer.disconnect()
}

// A producer and a consumer go on when their topic was deleted and created again.
async function recreatedTopic(bootstrap, topic) {
  await create(bootstrap, topic)
  let got = []
  const consumer = kafka(bootstrap).consumer({
    groupId: `${topic}-again`, maxWaitTimeInMs: 50, allowAutoTopicCreation: false,
  })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition, message }) => got.push({ partition, offset: Number(message.offset), message }),
  })
  await withProducer(bootstrap, {}, async producer => {
    // The second topic never gets as long as the first was: a position in that one is beyond its end.
    for (const count of [90, 30]) {
      const sent = sampleRecords(count)
      got = []
      await producer.send({ topic, messages: sent })
      await until(() => got.length >= count, () => `${got.length} of ${count} records`)
      for (let p = 0; p < PARTITIONS; p++) {
        const own = got.filter(({ partition }) => partition === p)
        equal(own.map(({ offset }) => offset), own.map((_, i) => i), `offsets of partition ${p}`)
        const values = sent.filter(({ partition }) => partition === p).map(({ value }) => value)
        equal(own.map(({ message }) => message.value), values, `values of partition ${p}`)
      }
      await expectRecords(bootstrap, topic, sent)
      await (await adminOf(bootstrap)).deleteTopics({ topics: [topic] })
      if (count === 90) await create(bootstrap, topic)
    }
  })
  await consumer.disconnect()
}

async function unknownTopic(bootstrap, topic) {
  const admin = await adminOf(bootstrap, QUICK)
  const failure = await errorOf(() => send(bootstrap, topic, sampleRecords(1), { retry: QUICK }))
  equal(failure, 'UNKNOWN_TOPIC_OR_PARTITION', 'producing without leave to create')
  check(!(await admin.listTopics()).includes(topic), 'producing created the topic')
  const deletion = await errorOf(() => admin.deleteTopics({ topics: [topic] }))
  equal(deletion, 'UNKNOWN_TOPIC_OR_PARTITION', 'deletion of an unknown topic')
}

async function invalidTopic(bootstrap, topic) {
  const name = `${topic} with blanks`
  const creating = { retry: QUICK, allowAutoTopicCreation: true }
  const failure = await errorOf(() => send(bootstrap, name, sampleRecords(1), creating))
  equal(failure, 'INVALID_TOPIC_EXCEPTION', 'a record in a topic with an invalid name')
  check(!(await (await adminOf(bootstrap)).listTopics()).includes(name), 'an invalid topic exists')
}

// --- offsets ---

async function timestamps(bootstrap, topic, { codec }) {
  await create(bootstrap, topic, 1)
  const [count, stepMs] = [500, 1000]
  // Two records per timestamp: a lookup must find the first of them, inside a batch.
  const sent = Array.from({ length: count }, (_, i) => ({
    partition: 0, value: String(i), timestamp: String(T0_MS + Math.floor(i / 2) * stepMs),
  }))
  await send(bootstrap, topic, sent, { codec })
  const admin = await adminOf(bootstrap)
  const lookup = async at => Number((await admin.fetchTopicOffsetsByTimestamp(topic, at))[0].offset)
  for (const i of [0, 1, 17, 123, 249]) {
    equal(await lookup(T0_MS + i * stepMs), 2 * i, `offset at the time of pair ${i}`)
    equal(await lookup(T0_MS + i * stepMs - 1), 2 * i, `offset just before pair ${i}`)
  }
  // kafkajs turns "none" into the end.
  equal(await lookup(T0_MS + count * stepMs), count, 'offset after the last record')
}

async function listOffsets(bootstrap, topic) {
  await create(bootstrap, topic)
  equal(await bounds(bootstrap, topic), [[0, 0], [0, 0], [0, 0]], 'starts and ends of an empty topic')
  await send(bootstrap, topic, sampleRecords(100))
  equal(await bounds(bootstrap, topic), [[0, 34], [0, 33], [0, 33]], 'starts and ends')
}

async function deleteRecords(bootstrap, topic) {
  await create(bootstrap, topic)
  const sent = sampleRecords(300)
  await send(bootstrap, topic, sent)
  const admin = await adminOf(bootstrap)
  // kafkajs finds the leaders only of topics that it was asked for before.
  equal(await bounds(bootstrap, topic), [[0, 100], [0, 100], [0, 100]], 'starts and ends')
  const drop = partitions => admin.deleteTopicRecords({ topic, partitions })
  await drop([{ partition: 0, offset: '40' }, { partition: 1, offset: '-1' }])
  check((await errorOf(() => drop([{ partition: 2, offset: '101' }]))) !== null, 'a deletion past the end')
  equal(await bounds(bootstrap, topic), [[40, 100], [100, 100], [0, 100]], 'starts and ends')
  let next = 40
  await read(bootstrap, topic, (partition, message) => {
    if (partition !== 0) return
    equal(Number(message.offset), next, 'offset')
    equal(message.value, sent[next * PARTITIONS].value, 'value')
    next += 1
  })
  equal(next, 100, 'end of what is left of partition 0')
}

// Offsets committed under a group id, without members, survive restarts of both kinds.
async function groupOffsets(bootstrap, topic) {
  await create(bootstrap, topic)
  await send(bootstrap, topic, sampleRecords(90))
  const groupId = `${topic}-group`
  const admin = await adminOf(bootstrap)
  const commit = partitions => admin.setOffsets({ groupId, topic, partitions })
  const expect = async (expected, when) => {
    const [found] = await admin.fetchOffsets({ groupId, topics: [topic] })
    const offsets = found.partitions.sort((a, b) => a.partition - b.partition).map(({ offset }) => Number(offset))
    equal(offsets, expected, when)
  }
  await expect([-1, -1, -1], 'before any commit')
  await commit([{ partition: 0, offset: '5' }, { partition: 1, offset: '7' }])
  await expect([5, 7, -1], 'after the first commit')
  await restart('term')
  await expect([5, 7, -1], 'after a restart')
  await commit([{ partition: 0, offset: '6' }, { partition: 1, offset: '30' }, { partition: 2, offset: '0' }])
  await restart('kill')
  await expect([6, 30, 0], 'after kill -9')
}

// --- topics and the cluster ---

async function topics(bootstrap, topic) {
  await create(bootstrap, topic, 5)
  const admin = await adminOf(bootstrap, QUICK)
  const [found] = (await admin.fetchTopicMetadata({ topics: [topic] })).topics
  equal(found.partitions.length, 5, 'partitions')
  equal(await admin.createTopics({ topics: [newTopic(topic, 5)] }), false, 'second creation')
  await send(bootstrap, topic, sampleRecords(10))
  await admin.deleteTopics({ topics: [topic] })
  check(!(await admin.listTopics()).includes(topic), 'a deleted topic is listed')
  const failure = await errorOf(() => admin.deleteTopics({ topics: [topic] }))
  equal(failure, 'UNKNOWN_TOPIC_OR_PARTITION', 'second deletion')
  await create(bootstrap, topic, 2)
  equal(await bounds(bootstrap, topic), [[0, 0], [0, 0]], 'a topic created again begins empty')
  await admin.deleteTopics({ topics: [topic] })
}

async function invalidCreations(bootstrap, topic) {
  const admin = await adminOf(bootstrap)
  const attempt = (...args) => errorOf(() => admin.createTopics({ topics: [newTopic(...args)] }))
  equal(await attempt('bad/name', 1), 'INVALID_TOPIC_EXCEPTION', 'a slash in the name')
  equal(await attempt('x'.repeat(250), 1), 'INVALID_TOPIC_EXCEPTION', '250 characters')
  equal(await attempt('..', 1), 'INVALID_TOPIC_EXCEPTION', 'two dots')
  equal(await attempt(topic, 0), 'INVALID_PARTITIONS', 'no partitions')
  equal(await attempt(topic, 1, {}, 3), 'INVALID_REPLICATION_FACTOR', 'more replicas than brokers')
  equal(await attempt(topic, 1, { 'no.such.config': '1' }), 'INVALID_CONFIG', 'an unknown config')
  equal(await attempt(topic, 1, { 'retention.ms': 'soon' }), 'INVALID_CONFIG', 'a config without a number')
  await admin.createTopics({ topics: [newTopic(topic, 1)], validateOnly: true, waitForLeaders: false })
  check(!(await admin.listTopics()).includes(topic), 'a validation created the topic')
}

async function metadata(bootstrap, topic) {
  await create(bootstrap, topic)
  const admin = await adminOf(bootstrap)
  const nodes = (await admin.describeCluster()).brokers.map(({ nodeId }) => nodeId)
  const [found] = (await admin.fetchTopicMetadata({ topics: [topic] })).topics
  equal(found.partitions.map(({ partitionId }) => partitionId).sort(), [0, 1, 2], 'partitions')
  for (const { leader, isr } of found.partitions) {
    check(nodes.includes(leader), `leader ${leader} is not among the brokers`)
    check(isr.includes(leader), 'the leader is not in sync with itself')
  }
}

async function describeCluster(bootstrap, _, { own_address: own }) {
  const { brokers, controller, clusterId } = await (await adminOf(bootstrap)).describeCluster()
  check(clusterId, 'no cluster id')
  const listed = brokers.some(({ host, port }) => `${host}:${port}` === bootstrap)
  equal(listed, own === 'listed', 'whether the own address is listed')
  check(brokers.some(({ nodeId }) => nodeId === controller), 'the controller is not a node')
}

async function configsOf(bootstrap, type, name) {
  const admin = await adminOf(bootstrap)
  const { resources } = await admin.describeConfigs({ resources: [{ type, name }], includeSynonyms: false })
  return new Map(resources[0].configEntries.map(entry => [entry.configName, entry]))
}

const TOPIC = 2
const BROKER = 4

async function describeConfigs(bootstrap, topic) {
  await create(bootstrap, topic, PARTITIONS, { 'retention.ms': '7200000', 'max.message.bytes': '500000' })
  const found = await configsOf(bootstrap, TOPIC, topic)
  equal(found.get('retention.ms').configValue, '7200000', 'retention.ms')
  equal(found.get('max.message.bytes').configValue, '500000', 'max.message.bytes')
  equal(found.get('cleanup.policy').configValue, 'delete', 'cleanup.policy')
  check(!found.get('retention.ms').isDefault, 'a value that was set is called a default')
  check(found.get('cleanup.policy').isDefault, 'a default is called a value that was set')
  for (const name of ['retention.bytes', 'segment.bytes', 'message.timestamp.type', 'compression.type']) {
    check(found.has(name), `${name} is not listed`)
  }
  const missing = await errorOf(() => configsOf(bootstrap, TOPIC, `${topic}-missing`))
  equal(missing, 'UNKNOWN_TOPIC_OR_PARTITION', 'configs of a topic that does not exist')
  const { controller } = await (await adminOf(bootstrap)).describeCluster()
  check((await configsOf(bootstrap, BROKER, String(controller))).size > 0, 'a broker without configs')
}

async function createPartitions(bootstrap, topic) {
  await create(bootstrap, topic, 2)
  const admin = await adminOf(bootstrap, QUICK)
  const grow = count => admin.createPartitions({ topicPartitions: [{ topic, count }] })
  await grow(5)
  const [found] = (await admin.fetchTopicMetadata({ topics: [topic] })).topics
  equal(found.partitions.length, 5, 'partitions')
  for (const count of [3, 5]) {
    equal(await errorOf(() => grow(count)), 'INVALID_PARTITIONS', `${count} partitions where there are 5`)
  }
  const sent = sampleRecords(50, 5)
  await send(bootstrap, topic, sent)
  await expectRecords(bootstrap, topic, sent)
}

// kafkajs has AlterConfigs only, which resets what it does not name.
async function alterConfigs(bootstrap, topic) {
  await create(bootstrap, topic, PARTITIONS, { 'max.message.bytes': '500000' })
  const admin = await adminOf(bootstrap, QUICK)
  const alter = (name, value) =>
    admin.alterConfigs({ resources: [{ type: TOPIC, name: topic, configEntries: [{ name, value }] }] })
  await alter('retention.ms', '3600000')
  const found = await configsOf(bootstrap, TOPIC, topic)
  equal(found.get('retention.ms').configValue, '3600000', 'retention.ms')
  check(found.get('max.message.bytes').isDefault, 'a config that was not named is not its default')
  equal(await errorOf(() => alter('no.such.config', '1')), 'INVALID_CONFIG', 'an unknown config')
  equal(await errorOf(() => alter('retention.ms', 'soon')), 'INVALID_CONFIG', 'a config without a number')
}

// What a topic is (partitions, configs, records) outlives both kinds of restart.
async function restartKeeps(bootstrap, topic) {
  await create(bootstrap, topic, 4, { 'retention.ms': '630720000000' })
  const sent = sampleRecords(400, 4)
  await send(bootstrap, topic, sent)
  const admin = await adminOf(bootstrap)
  const { clusterId } = await admin.describeCluster()
  for (const how of ['term', 'kill']) {
    await restart(how)
    equal((await admin.describeCluster()).clusterId, clusterId, `cluster id after ${how}`)
    const found = await configsOf(bootstrap, TOPIC, topic)
    equal(found.get('retention.ms').configValue, '630720000000', `retention.ms after ${how}`)
    await expectRecords(bootstrap, topic, sent)
  }
}

// --- the cross matrix ---

async function write(bootstrap, topic, { codec }) {
  await create(bootstrap, topic)
  const records = matrixRecords()
  const digests = Array.from({ length: PARTITIONS }, () => new Digest())
  for (const record of records) digests[record.partition].add(record)
  await send(bootstrap, topic, records, { codec })
  return Object.fromEntries(digests.map((digest, p) => [`p${p}`, digest.text()]))
}

async function readDigests(bootstrap, topic) {
  const digests = (await bounds(bootstrap, topic)).map(() => new Digest())
  await read(bootstrap, topic, (partition, message) => {
    equal(Number(message.offset), digests[partition].count, 'offset')
    digests[partition].add(message)
  })
  return Object.fromEntries(digests.map((digest, p) => [`p${p}`, digest.text()]))
}

serve({
  roundtrip, idempotent, timestamps, topics, metadata, write,
  too_large: tooLarge,
  auto_create: autoCreate,
  long_poll: longPoll,
  log_append_time: logAppendTime,
  out_of_range: outOfRange,
  recreated_topic: recreatedTopic,
  unknown_topic: unknownTopic,
  invalid_topic: invalidTopic,
  list_offsets: listOffsets,
  delete_records: deleteRecords,
  group_offsets: groupOffsets,
  group_members: groups.groupMembers,
  group_commits: groups.groupCommits,
  invalid_creations: invalidCreations,
  describe_cluster: describeCluster,
  describe_configs: describeConfigs,
  create_partitions: createPartitions,
  alter_configs: alterConfigs,
  restart_keeps: restartKeeps,
  read_digests: readDigests,
}, closeAdmins)
