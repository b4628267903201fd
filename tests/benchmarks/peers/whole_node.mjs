// The whole job by the queues of Node, each by the fastest way of its documentation. Driven line by line:
// {"peer", "command", "url", "find", "batch", "workers"} in, {"enqueued", "seconds", "sends", "users"} out.

import pg from 'pg'
import { PgBoss } from 'pg-boss'
import { Logger, makeWorkerUtils, runOnce } from 'graphile-worker'
import { answerLines } from './lines.mjs'

const QUEUE = 'inactivity'
const COOLDOWN_SECONDS = 30 * 86_400

const peers = {
  'pg-boss': {
    async open (url) {
      const boss = new PgBoss({ connectionString: url, supervise: false, schedule: false })
      boss.on('error', error => process.stderr.write(`pg-boss: ${error.message}\n`))
      await boss.start()
      await boss.createQueue(QUEUE, { deleteAfterSeconds: COOLDOWN_SECONDS })
      return {
        // "If you wanted to bulk load jobs and skip calling send() or insert(), you could use SQL INSERT" (docs/sql).
        // singleton_on is what insert() makes of singletonSeconds: a slot of the calendar.
        enqueue: find => boss.getDb().executeSql(`
          insert into pgboss.job (name, data, singleton_key, singleton_on, policy)
          select queue.name, jsonb_build_object('user_id', due.user_id), due.user_id::text,
            'epoch'::timestamp + interval '1 second' * (
              ${COOLDOWN_SECONDS} * floor(extract(epoch from now()) / ${COOLDOWN_SECONDS})
            ),
            queue.policy
          from (${find}) as due
          join pgboss.queue as queue on queue.name = '${QUEUE}'
          on conflict do nothing`),
        // fetch and complete take batches (docs/api/jobs).
        async drain (send, batch, workers) {
          const work = async () => {
            for (;;) {
              const jobs = await boss.fetch(QUEUE, { batchSize: batch })
              if (jobs.length === 0) return
              for (const job of jobs) send(job.data.user_id)
              await boss.complete(QUEUE, jobs.map(job => job.id))
            }
          }
          await Promise.all(Array.from({ length: workers }, work))
        },
        close: () => boss.stop({ graceful: false })
      }
    }
  },
  'graphile-worker': {
    async open (url) {
      const logger = new Logger(() => () => {})
      const pgPool = new pg.Pool({ connectionString: url, max: 25 })
      pgPool.on('error', error => process.stderr.write(`graphile-worker: ${error.message}\n`))
      pgPool.on('connect', client => client.on('error', () => {}))
      const utils = await makeWorkerUtils({ pgPool, logger })
      await utils.migrate()
      return {
        // graphile_worker.add_jobs: "202,000 jobs queued per second from a single add_jobs batch call"
        // (worker.graphile.org/docs/performance; docs/sql-add-job).
        enqueue: find => utils.withPgClient(client => client.query(`
          select count(*) from graphile_worker.add_jobs(array(
            select row(
              '${QUEUE}', json_build_object('user_id', due.user_id), null, null, null, due.user_id::text, null, null
            )::graphile_worker.job_spec
            from (${find}) as due
          ))`)),
        // The options of its own measurement (docs/performance). runOnce ends when nothing is left.
        drain: send => runOnce({
          pgPool,
          logger,
          noHandleSignals: true,
          preset: {
            worker: {
              concurrentJobs: 24, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0
            }
          },
          taskList: { [QUEUE]: payload => { send(payload.user_id) } }
        }),
        async close () {
          await utils.release()
          await pgPool.end()
        }
      }
    }
  }
}

const opened = new Map()

async function answer ({ peer, command, url, find, batch, workers }) {
  if (command === 'open') {
    opened.set(peer, await peers[peer].open(url))
    return {}
  }
  const queue = opened.get(peer)
  if (command === 'close') {
    await queue.close()
    return {}
  }
  const sent = []
  const started = performance.now()
  await queue.enqueue(find)
  const enqueued = performance.now()
  await queue.drain(userId => { sent.push(userId) }, batch, workers)
  const seconds = (performance.now() - started) / 1e3
  return { enqueued: (enqueued - started) / 1e3, seconds, sends: sent.length, users: new Set(sent).size }
}

await answerLines(answer)
