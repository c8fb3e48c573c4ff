// What the tests ask of kafkajs: `node kafkajs.js BOOTSTRAP COMMAND` with an argument as JSON on stdin, an answer as JSON on stdout.
// Bytes are base64 in both. A failure of any kind goes to stderr and exits 1.

'use strict'

const { CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs')

const CODECS = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP }
const plain = text => (text === null ? null : Buffer.from(text, 'base64'))
const armoured = data => (data === null || data === undefined ? null : data.toString('base64'))

const [bootstrap, command] = process.argv.slice(2)
const logs = []
const kafka = new Kafka({
  brokers: [bootstrap],
  clientId: 'kafkajs-test',
  logLevel: logLevel.WARN,
  logCreator: () => ({ namespace, label, log }) => logs.push(`${label} ${namespace}: ${log.message} ${log.error || ''}`),
  retry: { retries: 2 },
})

function headersOf(pairs) {
  const headers = {}
  for (const [name, value] of pairs) (headers[name] = headers[name] || []).push(plain(value))
  return headers
}

function pairsOf(headers) {
  const values = value => (Array.isArray(value) ? value : [value])
  return Object.entries(headers || {}).flatMap(([name, value]) => values(value).map(one => [name, armoured(one)]))
}

async function produce(batches) {
  const producer = kafka.producer({ allowAutoTopicCreation: false, idempotent: false })
  await producer.connect()
  const answers = []
  for (const { topic, codec, records, acks = -1 } of batches) {
    const messages = records.map(one => ({
      partition: 0,
      key: plain(one.key),
      value: plain(one.value),
      timestamp: one.timestamp === null ? undefined : String(one.timestamp),
      headers: headersOf(one.headers),
    }))
    answers.push(await producer.send({ topic, acks, compression: CODECS[codec], messages }))
  }
  await producer.disconnect()
  return answers
}

// Reads `counts` (topic -> how many) in a group and commits; two members where `members` is 2.
async function consume({ group, counts, members = 1, commit = true }) {
  const records = Object.fromEntries(Object.keys(counts).map(topic => [topic, []]))
  const read_by = {}
  const joined = []
  let missing = Object.values(counts).reduce((sum, count) => sum + count, 0)
  const consumers = []
  await new Promise(async (resolve, reject) => {
    for (let at = 0; at < members; at++) {
      const consumer = kafka.consumer({ groupId: group, sessionTimeout: 10000, heartbeatInterval: 500, maxWaitTimeInMs: 200 })
      consumers.push(consumer)
      consumer.on(consumer.events.CRASH, event => reject(event.payload.error))
      const first = new Promise(there => consumer.on(consumer.events.GROUP_JOIN, event => {
        joined.push(event.payload.memberAssignment)
        there()
      }))
      await consumer.connect()
      await consumer.subscribe({ topics: Object.keys(counts), fromBeginning: true })
      await consumer.run({
        autoCommit: commit,
        eachMessage: async ({ topic, message, partition }) => {
          read_by[`${topic}-${partition}`] = at
          records[topic].push({
            timestamp: Number(message.timestamp),
            key: armoured(message.key),
            value: armoured(message.value),
            headers: pairsOf(message.headers),
          })
          if (--missing === 0) resolve()
        },
      })
      await first
    }
  })
  for (const consumer of consumers) await consumer.disconnect()
  return members === 1 ? records : { records, read_by, joined }
}

async function admin({ topic, group }) {
  const admin = kafka.admin()
  await admin.connect()
  const said = {}
  said.created = await admin.createTopics({
    waitForLeaders: true,
    topics: [{ topic, numPartitions: 2, replicationFactor: 1, configEntries: [{ name: 'retention.ms', value: '-1' }] }],
  })
  said.again = await admin.createTopics({ topics: [{ topic }] })
  said.partitions = await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] })
  await produce([{ topic, codec: 'gzip', records: Array.from({ length: 10 }, (_, at) => ({ timestamp: 1000 * at, key: null, value: 'AAAA', headers: [] })) }])
  said.metadata = await admin.fetchTopicMetadata({ topics: [topic] })
  said.listed = (await admin.listTopics()).includes(topic)
  said.offsets = await admin.fetchTopicOffsets(topic)
  said.by_time = await admin.fetchTopicOffsetsByTimestamp(topic, 3500)
  await consume({ group, counts: { [topic]: 10 } })
  said.groups = (await admin.listGroups()).groups.filter(one => one.groupId === group)
  said.described = (await admin.describeGroups([group])).groups
  said.committed = await admin.fetchOffsets({ groupId: group, topics: [topic] })
  await admin.setOffsets({ groupId: group, topic, partitions: [{ partition: 0, offset: '4' }] })
  said.set = await admin.fetchOffsets({ groupId: group, topics: [topic] })
  await admin.resetOffsets({ groupId: group, topic, earliest: true })
  said.reset = await admin.fetchOffsets({ groupId: group, topics: [topic] })
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
  await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries: [{ name: 'max.message.bytes', value: '1234567' }] }] })
  said.configs = (await admin.describeConfigs({ resources: [{ ...resource, configNames: ['max.message.bytes', 'retention.ms'] }] })).resources
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '6' }] })
  said.after_delete = await admin.fetchTopicOffsets(topic)
  said.cluster = await admin.describeCluster()
  said.groups_deleted = await admin.deleteGroups([group])
  await admin.deleteTopics({ topics: [topic] })
  said.listed_after = (await admin.listTopics()).includes(topic)
  await admin.disconnect()
  return said
}

const commands = { produce, consume, admin }

async function main() {
  let given = ''
  for await (const chunk of process.stdin) given += chunk
  const answer = await commands[command](JSON.parse(given))
  if (logs.length) throw new Error(`kafkajs complained: ${logs.join('; ')}`)
  process.stdout.write(JSON.stringify(answer))
}

main().catch(error => {
  process.stderr.write(`${error.stack || error}\n${logs.join('\n')}\n`)
  process.exitCode = 1
})
