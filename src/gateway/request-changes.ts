import { type Exchange, forwardingFields, type VisitorFacts } from '../http/index.ts'
import { type RequestChanges, stripPath } from '../http1/index.ts'
import type { ServiceOffer } from '../protocol/index.ts'

/** What a request says on its way to a service: who asks, and what the service wants changed. */
export function requestChanges(
  { head, requestId }: Exchange,
  { rewrite, path }: ServiceOffer,
  visitor: VisitorFacts,
): RequestChanges {
  const forwarding = forwardingFields(head, requestId, visitor)
  if (rewrite === undefined) return forwarding
  const headers = rewrite.headers ?? []
  const names = headers.map(([name]) => name.toLowerCase())
  return {
    ...forwarding,
    // The service's own come last of all: nobody can say them in its place.
    added: forwarding.added + headers.map(([name, value]) => `${name}: ${value}\r\n`).join(''),
    dropped: names.length === 0 ? forwarding.dropped : new Set([...(forwarding.dropped ?? []), ...names]),
    host: rewrite.host,
    target: rewrite.stripPath === true && path !== undefined ? stripPath(head.target, path) : undefined,
  }
}
