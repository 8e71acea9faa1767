// kafkajs as the cases use it: codecs, clients, topics, and reading from start to end.
'use strict'

const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = require('kafkajs')
const lz4 = require('lz4-napi')
const snappy = require('kafkajs-snappy')
const { ZstdCodec } = require('zstd-codec')
const { PARTITIONS, check, equal, until } = require('./harness')

// kafkajs brings gzip; the others are plugged in, as its documentation has it.
CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer),
})
const zstd = new Promise(resolve => ZstdCodec.run(codec => resolve(new codec.Streaming())))
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from((await zstd).compress(encoder.buffer)),
  decompress: async buffer => Buffer.from((await zstd).decompress(buffer)),
})

const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}
// Restarts are what these cases are about: try again soon and often.
const RETRY = { initialRetryTime: 30, maxRetryTime: 300, retries: 150 }
// kafkajs takes an unknown topic for one that is about to be there, and tries again.
const QUICK = { initialRetryTime: 30, retries: 1 }

const partitioner = () => ({ message }) => message.partition
const admins = new Map()

function kafka(bootstrap, retry = RETRY) {
  return new Kafka({ brokers: [bootstrap], clientId: 'kafkajs', logLevel: logLevel.NOTHING, retry })
}

// The admin client of the case, or one that tries only once again.
async function adminOf(bootstrap, retry = RETRY) {
  if (!admins.has(retry)) {
    const admin = kafka(bootstrap, retry).admin()
    await admin.connect()
    admins.set(retry, admin)
  }
  return admins.get(retry)
}

// For the end of a case: kafkajs fails on any topic that it was asked for once and that is deleted since.
async function closeAdmins() {
  const open = [...admins.values()]
  admins.clear()
  await Promise.all(open.map(admin => admin.disconnect()))
}

async function withProducer(bootstrap, settings, use) {
  const producer = kafka(bootstrap, settings.retry ?? RETRY).producer({
    createPartitioner: partitioner, allowAutoTopicCreation: false, ...settings,
  })
  await producer.connect()
  try {
    return await use(producer)
  } finally {
    await producer.disconnect()
  }
}

async function send(bootstrap, topic, messages, { codec = 'none', acks = -1, ...settings } = {}) {
  return withProducer(bootstrap, settings, producer =>
    producer.send({ topic, messages, acks, compression: CODECS[codec] })
  )
}

async function create(bootstrap, topic, partitions = PARTITIONS, config = {}) {
  // The records carry timestamps of the past, which retention by age would act upon.
  const all = { 'retention.ms': '-1', ...config }
  const admin = await adminOf(bootstrap)
  const made = await admin.createTopics({ topics: [newTopic(topic, partitions, all)] })
  check(made, 'the topic exists already')
}

function newTopic(topic, numPartitions, config = {}, replicationFactor = 1) {
  const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }))
  return { topic, numPartitions, replicationFactor, configEntries }
}

// [low, high] of each partition.
async function bounds(bootstrap, topic) {
  const found = await (await adminOf(bootstrap)).fetchTopicOffsets(topic)
  found.sort((a, b) => a.partition - b.partition)
  return found.map(({ low, high }) => [Number(low), Number(high)])
}

// Visits every message of the topic up to the ends of now. kafkajs reads in groups only.
async function read(bootstrap, topic, visit, { start = 0, ...settings } = {}) {
  const left = new Map()
  for (const [partition, [low, high]] of (await bounds(bootstrap, topic)).entries()) {
    if (high > Math.max(low, start)) left.set(partition, high)
  }
  if (left.size === 0) return
  const consumer = kafka(bootstrap).consumer({
    groupId: `${topic}-reader-${Date.now()}`, maxWaitTimeInMs: 50, allowAutoTopicCreation: false, ...settings,
  })
  let failure
  try {
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch, isStale }) => {
        if (isStale()) return
        try {
          for (const message of batch.messages) {
            visit(batch.partition, message)
            if (Number(message.offset) + 1 === left.get(batch.partition)) left.delete(batch.partition)
          }
        } catch (error) {
          failure ??= error
        }
      },
    })
    for (const partition of start > 0 ? left.keys() : []) {
      consumer.seek({ topic, partition, offset: String(start) })
    }
    await until(() => failure || left.size === 0, () => `records missing in partitions ${[...left.keys()]}`)
  } finally {
    await consumer.disconnect()
  }
  if (failure) throw failure
}

const plain = ({ key, value, headers, timestamp }) => ({ key, value, headers, timestamp })

async function expectRecords(bootstrap, topic, sent, settings = {}) {
  const next = new Map()
  await read(bootstrap, topic, (partition, message) => {
    if (!next.has(partition)) {
      next.set(partition, { offset: 0, expected: sent.filter(record => record.partition === partition) })
    }
    const at = next.get(partition)
    equal(Number(message.offset), at.offset, 'offset')
    check(at.offset < at.expected.length, `partition ${partition} has more records than were sent`)
    equal(plain(message), plain(at.expected[at.offset]), `record ${partition}/${at.offset}`)
    at.offset += 1
  }, settings)
  const count = [...next.values()].reduce((sum, at) => sum + at.offset, 0)
  equal(count, sent.length, 'records')
}

module.exports = { QUICK, adminOf, bounds, closeAdmins, create, expectRecords, kafka, newTopic, read, send, withProducer }
