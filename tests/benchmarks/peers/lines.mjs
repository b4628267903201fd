// Line by line: a JSON object in, what answers it out as one; or {"error"}.

import { createInterface } from 'node:readline'

export async function answerLines (answer) {
  for await (const line of createInterface({ input: process.stdin })) {
    let said
    try {
      said = await answer(JSON.parse(line))
    } catch (error) {
      said = { error: `${error.name}: ${error.message}` }
    }
    process.stdout.write(`${JSON.stringify(said)}\n`)
  }
  process.exit(0)
}
