import { get } from 'node:http'
import { setTimeout as pause } from 'node:timers/promises'
import { DEMO_ANSWER_BYTES, DEMO_PING_MS, DEMO_WAIT_MS } from '../limits.ts'

/**
 * Asks `url` at once and then each second, until `signal`; each answer, or why there was none, goes to
 * `answered`, and `true` from it ends the visit. Each time a new connection, so that both replicas get some.
 */
export async function visit(
  url: string,
  signal: AbortSignal,
  answered: (answer: { text: string } | { problem: string }) => boolean,
): Promise<void> {
  while (!signal.aborted) {
    const answer = await ping(url, signal).then(
      (text) => ({ text }),
      (error: unknown) => ({ problem: error instanceof Error ? error.message : String(error) }),
    )
    if (signal.aborted || answered(answer)) return
    // Rejects only when the signal comes.
    await pause(DEMO_PING_MS, undefined, { signal }).catch(() => undefined)
  }
}

function ping(url: string, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = get(url, { agent: false, signal, timeout: DEMO_WAIT_MS }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        text = (text + chunk).slice(0, DEMO_ANSWER_BYTES)
      })
      response.on('end', () => {
        if (response.statusCode === 200) resolve(text.trimEnd())
        else reject(new Error(`status ${response.statusCode}`))
      })
      response.on('error', reject)
    })
    request.on('timeout', () => request.destroy(new Error(`no answer in ${DEMO_WAIT_MS / 1000} s`)))
    request.on('error', reject)
  })
}
