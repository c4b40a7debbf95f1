import { plainName, type RequestChanges, type RequestHead, stripPath } from '../http1/index.ts'
import type { ServiceOffer } from '../protocol/index.ts'
import { forwardingFields, type VisitorFacts } from './forwarding.ts'

/** What a service wants changed in its visitors' requests. */
export type Rewritten = Pick<ServiceOffer, 'rewrite' | 'path'>

/** A request on its way. */
export interface Asked {
  readonly head: RequestHead
  readonly requestId: string
}

type Changes = { -readonly [Key in keyof RequestChanges]: RequestChanges[Key] }

/**
 * What the requests of one connection say on their way to services: who asks, and what the service wants changed. Nearly
 * all of them go to one host of one service, and say the same but for their ids.
 *
 * 0.96 → 0.66 µs for a head on its way: the lines are put together once, as bytes.
 */
export class ChangesOf {
  #last: { changes: Changes; hostText: string; offer: Rewritten; facts: VisitorFacts } | undefined

  /** Good until the next call. */
  of(exchange: Asked, offer: Rewritten, facts: VisitorFacts): RequestChanges {
    const { head, requestId } = exchange
    const last = this.#last
    if (last?.hostText === head.hostText && last.offer === offer && last.facts === facts) {
      last.changes.requestId = head.requestId === undefined ? requestId : undefined
      return last.changes
    }
    const changes = requestChanges(exchange, offer, facts)
    // What a proxy says, and what is left of a path, is said of one request.
    const lasting = !facts.trusted && offer.rewrite?.stripPath !== true
    this.#last = lasting ? { changes, hostText: head.hostText, offer, facts } : undefined
    return changes
  }
}

function requestChanges(
  { head, requestId }: Asked,
  { rewrite, path }: Rewritten,
  visitor: VisitorFacts,
): Changes {
  const changes: Changes = forwardingFields(head, requestId, visitor)
  const lines = changes.added as string
  if (rewrite === undefined) {
    changes.added = Buffer.from(lines, 'latin1')
    return changes
  }
  const headers = rewrite.headers ?? []
  const names = headers.map(([name]) => plainName(name))
  // The service's own come last: nobody can say them in its place.
  const own = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  changes.added = Buffer.from(lines + own, 'latin1')
  if (names.length > 0) changes.dropped = new Set([...(changes.dropped ?? []), ...names])
  changes.host = rewrite.host
  if (rewrite.stripPath === true && path !== undefined) changes.target = stripPath(head.target, path)
  return changes
}
