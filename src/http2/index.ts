/**
 * HTTP/2 visitors where TLS ends: each stream of theirs becomes a request to a target that speaks HTTP/1.1, by the strict
 * rules of `http1`, or a stream to one that speaks HTTP/2 in the clear (gRPC). Frames, windows and header compression are
 * Node's. Where a request goes is for the `Http2Site` to say. It knows nothing of tunnels, certificates or services.
 */
export { Held, type Http2Connection } from './connection.ts'
export type { Http2Exchange } from './exchange.ts'
export { Http2Front } from './front.ts'
export type { Http2Site } from './site.ts'
export { TargetSessions } from './target-sessions.ts'
