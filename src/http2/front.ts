import { createServer, type Http2Server, type ServerHttp2Session } from 'node:http2'
import type { Duplex } from 'node:stream'
import {
  H2_EXTRA_FIELDS,
  H2_SESSION_MEMORY_MB,
  H2_STREAM_WINDOW_BYTES,
  H2_STREAMS,
  HTTP_FIELDS,
  HTTP_HEAD_BYTES,
  HTTP_RESPONSE_HEAD_BYTES,
} from '../limits.ts'
import { Held, Http2Connection } from './connection.ts'
import type { Http2Site } from './site.ts'

/** Takes connections on which HTTP/2 was agreed on: one for all visitors of a service. */
export class Http2Front {
  readonly #server: Http2Server
  readonly #connections = new Set<Http2Connection>()
  #accepted: ServerHttp2Session | undefined

  readonly #held: Held

  /** `headBytes`: of a request's head, uncompressed. `held` is shared by all of a process. */
  constructor({ headBytes = HTTP_HEAD_BYTES, held = heldByAll }: { headBytes?: number; held?: Held } = {}) {
    this.#held = held
    this.#server = createServer({
      settings: {
        enablePush: false,
        maxConcurrentStreams: H2_STREAMS,
        initialWindowSize: H2_STREAM_WINDOW_BYTES,
        maxHeaderListSize: headBytes,
      },
      maxSessionMemory: H2_SESSION_MEMORY_MB,
      maxHeaderListPairs: HTTP_FIELDS + H2_EXTRA_FIELDS,
      // What is compressed is no longer than what was read of a target.
      maxSendHeaderBlockLength: 2 * HTTP_RESPONSE_HEAD_BYTES,
    })
    // Called within `emit`: Node makes the session at once.
    this.#server.on('session', (session) => (this.#accepted = session))
  }

  get size(): number {
    return this.#connections.size
  }

  /** Takes a connection over, which nothing has been read from. It is destroyed when it ends, whatever the end. */
  accept(socket: Duplex, site: Http2Site): Http2Connection {
    this.#server.emit('connection', socket)
    const session = this.#accepted as ServerHttp2Session
    this.#accepted = undefined
    const connection = new Http2Connection(session, socket, site, this.#held, (each) =>
      this.#connections.delete(each),
    )
    this.#connections.add(connection)
    return connection
  }

  /** Tells all visitors to go elsewhere with what they ask next. */
  drain(): void {
    for (const each of this.#connections) each.drain()
  }
}

const heldByAll = new Held()
