// The workers of Node's queues, driven line by line: {"peer", "command", "url", "count", "workers"} in, {"seconds",
// "done"} or {"error"} out. Only fetching and completing is timed. All workers of a queue are in this one process, as
// all of ours are in one of Python.

import { PgBoss } from 'pg-boss'
import { Logger, makeWorkerUtils, run } from 'graphile-worker'
import { answerLines } from './lines.mjs'

const QUEUE = 'inactivity'
const BATCH = 1000
const keys = count => Array.from({ length: count }, (_, number) => String(number))
const secondsSince = started => Number(process.hrtime.bigint() - started) / 1e9

const peers = {
  'pg-boss': {
    async open (url) {
      const boss = new PgBoss({ connectionString: url, supervise: false, schedule: false, max: 10 })
      boss.on('error', error => process.stderr.write(`pg-boss: ${error.message}\n`))
      await boss.start()
      await boss.createQueue(QUEUE)
      return {
        enqueue: count => boss.insert(QUEUE, keys(count).map(key => ({ data: { user_id: key } }))),
        // "fetch(name, { batchSize })" and "complete(name, [ids])": its jobs in batches, without its own polling.
        async deliver (workers) {
          const done = []
          const work = async () => {
            while (true) {
              const jobs = await boss.fetch(QUEUE, { batchSize: BATCH })
              if (jobs.length === 0) return
              await boss.complete(QUEUE, jobs.map(job => job.id))
              for (const job of jobs) done.push(job.data.user_id)
            }
          }
          const started = process.hrtime.bigint()
          await Promise.all(Array.from({ length: workers }, work))
          return { seconds: secondsSince(started), done }
        },
        close: () => boss.stop({ graceful: false })
      }
    }
  },
  'graphile-worker': {
    async open (url) {
      const logger = new Logger(() => () => {})
      const utils = await makeWorkerUtils({ connectionString: url, logger })
      await utils.migrate()
      return {
        async enqueue (count) {
          this.count = count
          await utils.addJobs(keys(count).map(key => ({ identifier: QUEUE, payload: { user_id: key } })))
        },
        // The configuration of its page on performance (worker.graphile.org/docs/performance).
        async deliver (workers) {
          const done = []
          const { promise, resolve } = Promise.withResolvers()
          let started
          const taskList = {
            [QUEUE]: ({ user_id: key }) => {
              // From the first job on: connecting takes as long as many jobs.
              started ??= process.hrtime.bigint()
              done.push(key)
              if (done.length === this.count) resolve()
            }
          }
          const runners = await Promise.all(Array.from({ length: workers }, () => run({
            taskList,
            logger,
            noHandleSignals: true,
            preset: {
              worker: {
                connectionString: url,
                concurrentJobs: 24,
                maxPoolSize: workers === 1 ? 25 : 4,
                localQueue: { size: 500 },
                completeJobBatchDelay: 0,
                failJobBatchDelay: 0
              }
            }
          })))
          await promise
          // Ends when every completion is written.
          await Promise.all(runners.map(runner => runner.stop()))
          return { seconds: secondsSince(started), done }
        },
        close: () => utils.release()
      }
    }
  }
}

const opened = new Map()

async function answer ({ peer, command, url, count, workers }) {
  if (command === 'open') {
    opened.set(peer, await peers[peer].open(url))
    return {}
  }
  const crew = opened.get(peer)
  if (command === 'close') {
    await crew.close()
    return {}
  }
  if (command === 'enqueue') {
    await crew.enqueue(count)
    return {}
  }
  return await crew.deliver(workers)
}

await answerLines(answer)
