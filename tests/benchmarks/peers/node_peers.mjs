// The queues of Node, driven line by line: {"peer", "command", "keys", "url"} in, {"seconds", "accepted"} or
// {"error"} out. Only the enqueueing itself is timed.

import { PgBoss } from 'pg-boss'
import { Logger, makeWorkerUtils } from 'graphile-worker'
import { answerLines } from './lines.mjs'

const QUEUE = 'inactivity'
const COOLDOWN_SECONDS = 30 * 86_400

const peers = {
  'pg-boss': {
    async open (url) {
      const boss = new PgBoss({ connectionString: url, supervise: false, schedule: false })
      boss.on('error', error => process.stderr.write(`pg-boss: ${error.message}\n`))
      await boss.start()
      await boss.createQueue(QUEUE)
      return {
        // Without returnId, which is faster, it doesn't tell what it skipped.
        enqueue: keys => boss.insert(QUEUE, keys.map(
          key => ({ data: { user_id: key }, singletonKey: key, singletonSeconds: COOLDOWN_SECONDS })
        )),
        count: async () => Number((await boss.getDb().executeSql('select count(*) from pgboss.job')).rows[0].count),
        close: () => boss.stop({ graceful: false })
      }
    }
  },
  'graphile-worker': {
    open: url => openGraphileWorker(url, (utils, keys) => utils.addJobs(keys.map(
      key => ({ identifier: QUEUE, payload: { user_id: key }, jobKey: key })
    )))
  },
  // Without its client, which has every job sent back.
  'graphile-worker in SQL': {
    open: url => openGraphileWorker(url, (utils, keys) => utils.withPgClient(client => client.query(
      `select count(*) from graphile_worker.add_jobs(
        array(select json_populate_recordset(null::graphile_worker.job_spec, $1::json))
      )`,
      [JSON.stringify(keys.map(key => ({ identifier: QUEUE, payload: { user_id: key }, job_key: key })))]
    )))
  }
}

async function openGraphileWorker (url, enqueue) {
  const silent = new Logger(() => () => {})
  const utils = await makeWorkerUtils({ connectionString: url, logger: silent })
  await utils.migrate()
  return {
    enqueue: keys => enqueue(utils, keys),
    count: () => utils.withPgClient(
      async client => Number((await client.query('select count(*) from graphile_worker.jobs')).rows[0].count)
    ),
    close: () => utils.release()
  }
}

const opened = new Map()

async function answer ({ peer, command, url, keys, batch }) {
  if (command === 'open') {
    opened.set(peer, await peers[peer].open(url))
    return {}
  }
  const queue = opened.get(peer)
  if (command === 'close') {
    await queue.close()
    return {}
  }
  const before = await queue.count()
  const started = process.hrtime.bigint()
  for (let first = 0; first < keys.length; first += batch) {
    await queue.enqueue(keys.slice(first, first + batch))
  }
  const seconds = Number(process.hrtime.bigint() - started) / 1e9
  return { seconds, accepted: await queue.count() - before }
}

await answerLines(answer)
