/**
 * The HTTP proxy: takes requests off visitors' connections and answers off the streams to targets, and joins the two.
 * It serves plain visitors at the gateway, and decrypted ones where TLS ends. Where a request goes, who may have which stream,
 * what is tried again: that is for the `HttpSite` it is given. It knows nothing of routes, tunnels or services.
 */
export { BodyPace } from './body-pace.ts'
export { HttpConnection } from './connection.ts'
export type { Exchange, LocalAnswer } from './exchange.ts'
export { forwardingFields, type VisitorFacts } from './forwarding.ts'
export { PAGES, type PageOptions, type Problem, pageOf, problemOf } from './pages.ts'
export { type Asked, ChangesOf, type Rewritten } from './request-changes.ts'
export { nextRequestId } from './request-ids.ts'
export type { ExchangeLimits, HttpSite, Meter, Refusal } from './site.ts'
export { type SweepMember, sweep } from './sweep.ts'
export {
  isPlain,
  isRepeatable,
  isSafe,
  Upstream,
  type UpstreamKeeper,
  type UpstreamUser,
} from './upstream.ts'
