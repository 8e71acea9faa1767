// What the cases of kafkajs need around them: failing, records, digests, and the runner's lines, which
// ../lib/worker.py describes.
'use strict'

const crypto = require('crypto')
const readline = require('readline')

const PARTITIONS = 3
const WAIT_MS = 60_000
// 2023-11-14: any fixed past time will do; it must only not be "now".
const T0_MS = 1_700_000_000_000

function check(condition, message) {
  if (!condition) throw new Error(message)
}

function text(value) {
  return JSON.stringify(value, (_, v) => (v && v.type === 'Buffer' ? Buffer.from(v.data).toString('latin1') : v))
}

// Compares what JSON can say; buffers by their bytes.
function equal(got, expected, what) {
  const [a, b] = [text(got), text(expected)]
  check(a === b, `${what}: got ${String(a).slice(0, 200)}, expected ${String(b).slice(0, 200)}`)
}

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

async function until(condition, what) {
  const deadline = Date.now() + WAIT_MS
  while (!(await condition())) {
    check(Date.now() < deadline, typeof what === 'function' ? what() : what)
    await sleep(10)
  }
}

// The protocol's name of the error that `call` fails with, its own where there is none, or null.
async function errorOf(call) {
  try {
    await call()
  } catch (error) {
    for (let e = error; e; e = e.cause) {
      const inner = e.errors?.[0] ?? e.groups?.[0]?.error ?? e
      if (inner.type) return inner.type
    }
    return error.name
  }
  return null
}

// Keys, values and headers of every kind; kafkajs cannot write a header without a value.
function sampleRecords(count, partitions = PARTITIONS) {
  return Array.from({ length: count }, (_, i) => ({
    partition: i % partitions,
    key: [null, Buffer.alloc(0), Buffer.from(`key-${i}`), crypto.randomBytes(i % 40)][i % 4],
    value: [
      null,
      Buffer.alloc(0),
      crypto.randomBytes((i * 37) % 2000),
      Buffer.from(`value ${i} `.repeat((i * 13) % 500)),
      Buffer.from(`value ${i}`),
    ][i % 5],
    headers: [
      {},
      { trace: Buffer.from(`t-${i}`) },
      { empty: Buffer.alloc(0), binary: crypto.randomBytes(16) },
      { twice: [Buffer.from('1'), Buffer.from('2')], größe: Buffer.from('ünï') },
    ][i % 4],
    timestamp: String(T0_MS + i * 10),
  }))
}

// One side of the cross matrix: what kafkajs writes.
function matrixRecords() {
  return Array.from({ length: 300 }, (_, i) => ({
    partition: Math.floor(i / 7) % PARTITIONS,
    key: [null, Buffer.alloc(0), Buffer.from(`key-${i}`)][i % 3],
    value: [
      null,
      Buffer.alloc(0),
      Buffer.from(`kafkajs ${i} `.repeat(i % 50)),
      Buffer.from(Array.from({ length: 256 }, (_, b) => b)),
    ][i % 4],
    headers: [
      {},
      { a: Buffer.from(String(i)), b: Buffer.alloc(0) },
      { a: [Buffer.from('x'), Buffer.from('y')] },
    ][i % 3],
    timestamp: String(T0_MS + i),
  }))
}

// ../python/digest.py says which bytes go in.
class Digest {
  constructor() {
    this.count = 0
    this.records = crypto.createHash('sha256')
    this.timestamps = crypto.createHash('sha256')
  }

  add({ key, value, headers, timestamp }) {
    const pairs = Object.entries(headers ?? {}).flatMap(([name, content]) =>
      (Array.isArray(content) ? content : [content]).map(one => [Buffer.from(name), one])
    )
    const parts = [key, value].map(lengthLed)
    parts.push(u32(pairs.length), ...pairs.flat().map(lengthLed))
    this.records.update(Buffer.concat(parts))
    const time = Buffer.alloc(8)
    time.writeBigInt64BE(BigInt(timestamp))
    this.timestamps.update(time)
    this.count += 1
  }

  text() {
    return `${this.count} ${this.records.copy().digest('hex')} ${this.timestamps.copy().digest('hex')}`
  }
}

function u32(number) {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(number)
  return bytes
}

function lengthLed(content) {
  return content === null || content === undefined
    ? Buffer.from([255, 255, 255, 255])
    : Buffer.concat([u32(content.length), content])
}

let lines

// Has the runner restart the broker: 'term' or 'kill'.
async function restart(how) {
  console.log(`restart\t${how}`)
  equal((await lines.next()).value, 'done', "the runner's answer")
}

// Reads the runner's lines and runs the cases that they name, `onEnd` after each.
async function serve(cases, onEnd) {
  lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
  for (;;) {
    const { value: line, done } = await lines.next()
    if (done) process.exit(0)
    const [, name, bootstrap, topic, ...pairs] = line.split('\t')
    if (!cases[name]) {
      console.log('fail\tnot a case of this client')
      continue
    }
    const args = Object.fromEntries(pairs.map(pair => pair.split(/=(.*)/s).slice(0, 2)))
    try {
      const values = await cases[name](bootstrap, topic, args).finally(onEnd)
      for (const [key, value] of Object.entries(values ?? {})) console.log(`value\t${key}\t${value}`)
      console.log('ok')
    } catch (failure) {
      console.error(failure)
      console.log(`fail\t${`${failure.name}: ${failure.message}`.split(/\s+/).join(' ').slice(0, 600)}`)
    }
  }
}

module.exports = {
  Digest, PARTITIONS, T0_MS, WAIT_MS,
  check, equal, errorOf, matrixRecords, restart, sampleRecords, serve, sleep, until,
}
