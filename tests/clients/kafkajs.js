// What the tests ask of kafkajs: `node kafkajs.js BOOTSTRAP COMMAND` with an argument as JSON on stdin, an answer as JSON on stdout.
// Bytes are base64 in both. A failure of any kind goes to stderr and exits 1.

'use strict'

const { CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs')

const CODECS = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP }
const plain = text => (text === null ? null : Buffer.from(text, 'base64'))
const armoured = data => (data === null || data === undefined ? null : data.toString('base64'))

const [bootstrap, command] = process.argv.slice(2)
const expected = /Topic creation errors|The group is rebalancing|with an old epoch/ // kafkajs logs as errors what it then deals with
const logs = []
const kafka = new Kafka({
  brokers: [bootstrap],
  clientId: 'kafkajs-test',
  logLevel: logLevel.WARN,
  logCreator: () => ({ namespace, label, log }) => {
    const line = `${label} ${namespace}: ${log.message} ${log.error || ''}`
    if (!expected.test(line)) logs.push(line)
  },
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

const recordOf = message => ({
  timestamp: Number(message.timestamp),
  key: armoured(message.key),
  value: armoured(message.value),
  headers: pairsOf(message.headers),
})

const memberOf = group =>
  kafka.consumer({ groupId: group, sessionTimeout: 10000, heartbeatInterval: 200, maxWaitTimeInMs: 200 })

// Runs a member; resolves when it has joined. `assigned` hears of each of its assignments (topic -> partitions).
async function start(member, topics, { reject, eachMessage, assigned = () => {} }) {
  member.on(member.events.CRASH, event => reject(event.payload.error))
  const joined = new Promise(resolve =>
    member.on(member.events.GROUP_JOIN, event => {
      assigned(event.payload.memberAssignment)
      resolve()
    })
  )
  await member.connect()
  await member.subscribe({ topics, fromBeginning: true })
  await member.run({ eachMessage })
  await joined
}

// Reads `counts` (topic -> how many) in a group of one, which commits.
async function consume({ group, counts }) {
  const records = Object.fromEntries(Object.keys(counts).map(topic => [topic, []]))
  let missing = Object.values(counts).reduce((sum, count) => sum + count, 0)
  const member = memberOf(group)
  await new Promise((resolve, reject) => {
    const eachMessage = async ({ topic, message }) => {
      records[topic].push(recordOf(message))
      if (--missing === 0) resolve()
    }
    start(member, Object.keys(counts), { reject, eachMessage }).catch(reject)
  })
  await member.disconnect()
  return records
}

// Two members share `topics`; then `records` are produced to each topic. Says what each member was assigned and read.
async function share({ group, topics, records }) {
  const members = [memberOf(group), memberOf(group)]
  const assignments = [{}, {}]
  const read = [{}, {}]
  let missing = topics.length * records.length
  await new Promise((resolve, reject) => {
    let produced = false
    const told = () => {
      const names = assignments.flatMap(one => Object.keys(one))
      if (produced || names.length !== topics.length || assignments.some(one => Object.keys(one).length === 0)) return
      produced = true
      produce(topics.map(topic => ({ topic, codec: 'gzip', records }))).catch(reject)
    }
    members.forEach((member, at) => {
      const assigned = assignment => {
        if (missing === 0) return // the other member has gone already, and all is this one's
        assignments[at] = assignment
        told()
      }
      const eachMessage = async ({ topic }) => {
        read[at][topic] = (read[at][topic] || 0) + 1
        if (--missing === 0) resolve()
      }
      start(member, topics, { reject, eachMessage, assigned }).catch(reject)
    })
  })
  for (const member of members) await member.disconnect()
  return { assignments, read }
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
  // Takes the 5 s that kafkajs lets a fetch without partitions wait; resetOffsets would be the same again.
  await admin.setOffsets({ groupId: group, topic, partitions: [{ partition: 0, offset: '4' }] })
  said.set = await admin.fetchOffsets({ groupId: group, topics: [topic] })
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
  await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries: [{ name: 'max.message.bytes', value: '1234567' }, { name: 'retention.ms', value: '-1' }] }] })
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

// A transaction an outcome: a record named after its number into each partition, and that number as the group's offset.
// Then another producer takes the same transactional id: says which error the first one gets.
async function transact({ topic, partitions, group, outcomes }) {
  const settings = { transactionalId: topic, idempotent: true, maxInFlightRequests: 1, transactionTimeout: 30000, retry: { retries: Number.MAX_SAFE_INTEGER } }
  const producer = kafka.producer(settings)
  await producer.connect()
  const sendAll = (transaction, number) =>
    transaction.send({
      topic,
      messages: Array.from({ length: partitions }, (_, partition) => ({ partition, value: String(number) })),
    })
  for (const [number, outcome] of outcomes.entries()) {
    const transaction = await producer.transaction()
    await sendAll(transaction, number)
    const topics = [{ topic, partitions: [{ partition: 0, offset: String(number + 1) }] }]
    await transaction.sendOffsets({ consumerGroupId: group, topics })
    await transaction[outcome]()
  }
  const open = await producer.transaction()
  await sendAll(open, 'fenced')
  const heir = kafka.producer(settings)
  await heir.connect()
  const inherited = await heir.transaction()
  const said = await open.commit().then(() => 'committed', error => error.type || error.name)
  await sendAll(inherited, 'heir')
  await inherited.commit()
  await producer.disconnect()
  await heir.disconnect()
  return { fenced: said }
}

const commands = { produce, consume, share, admin, transact }

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
