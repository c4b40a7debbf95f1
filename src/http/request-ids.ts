import { randomBytes } from 'node:crypto'

/** Unique among the runs of all processes; counting is cheaper than drawing. */
const RUN = randomBytes(6).toString('hex')
let requestCount = 0

/** For a request that brings no id of its own. */
export function nextRequestId(): string {
  return `${RUN}-${(requestCount++).toString(36)}`
}
