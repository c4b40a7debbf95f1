import { TunnelError } from '../errors.ts'
import { type Body, bodyOf, HeadReader, HttpFault, type RequestHead, ResponseHead } from '../http1/index.ts'
import { HTTP_RESPONSE_HEAD_BYTES, INTERIM_RESPONSES, LINGER_MS } from '../limits.ts'
import type { Stream, StreamSink } from '../mux/index.ts'
import { type IdleMember, idleSweep } from '../net/index.ts'

/** What an upstream tells of the answer to the request that it carries. Synchronous. */
export interface UpstreamUser {
  /** So many bytes came, whatever follows for them; they are consumed by the callee. First of all calls for a chunk. */
  received(bytes: number): void
  /** All calls for a chunk have been made. */
  settled(): void
  /** A 1xx, before the answer. */
  interim(head: ResponseHead): void
  /** The answer's head, once. */
  respond(head: ResponseHead): void
  /** A piece of the answer's body, framed as it is to leave; of a stream that switched protocols, whatever comes. */
  deliver(piece: Uint8Array): void
  /** The answer is whole. */
  responded(): void
  /** A stream that switched protocols: the other side writes no more. */
  finished(): void
  /** Gone without a byte of an answer. */
  lost(reason: TunnelError): void
  /** Gone, or no proper HTTP any more, when part of an answer has come. */
  broken(reason: TunnelError): void
  /** Its stream takes more again. */
  drained(): void
}

/** Who has an upstream that carries nothing, or a request whose answer is whole. */
export interface UpstreamKeeper {
  /** It has ended, was reset, or spoke without being asked: it is over, and has been reset. */
  gone(upstream: Upstream, why: 'ended' | 'reset' | 'desync'): void
}

/**
 * A stream to a target that carries requests, one after another, and cuts their answers out of what comes back.
 *
 * Whether another visitor may get it is found out here, from what went over it (docs/PROTOCOL.md, Visitor streams): a
 * target that has seen only requests without bodies, and whose every answer ended where it said, cannot owe
 * anybody a byte.
 */
export class Upstream implements StreamSink, IdleMember {
  readonly stream: Stream
  /** Nothing but what anybody's request may follow has gone over it so far. */
  shareable: boolean
  /** It logged somebody in: it stays with its visitor. */
  personal = false
  /** Whoever is told of its end while it carries nothing, and of bytes that nobody had asked for. */
  keeper: UpstreamKeeper | undefined
  /** When its last answer was whole. Set by its keeper. */
  idleSince = 0
  /** Requests that it has carried. */
  requests = 0
  /** The last answer was a 204 or 304: some targets send a body with those, a moment later. */
  bodiless = false

  #user: UpstreamUser | undefined
  #head: RequestHead | undefined
  #reader = new HeadReader()
  #body: Body | undefined
  #interims = 0
  /** Whether a chunked answer is passed on in its chunks. */
  #chunks = true
  #switched = false
  /** A byte of the answer has come. */
  #answering = false
  /** The answer is whole, and its user has not let go of it yet. */
  #responded = false
  /** The target takes another request after this one. */
  #persistent = true
  #closing = false

  constructor(stream: Stream, shareable: boolean) {
    this.stream = stream
    this.shareable = shareable
    stream.sink = this
  }

  /** It could carry another request. */
  get usable(): boolean {
    const { stream } = this
    return (
      !stream.closed &&
      !stream.readEnded &&
      !stream.writeEnded &&
      this.#persistent &&
      this.#user === undefined
    )
  }

  /**
   * Carries a request from now on; whoever begins writes it to the stream. A chunked answer is delivered in its chunks, or
   * without them: to a visitor whose connection has another framing.
   */
  begin(user: UpstreamUser, head: RequestHead, chunks: boolean = head.version === '1.1'): void {
    this.#user = user
    this.#head = head
    this.#chunks = chunks
    this.#body = undefined
    this.#interims = 0
    this.#answering = false
    this.#responded = false
    this.requests++
    if (!isPlain(head)) this.shareable = false
    if (head.connectionLogin) this.personal = true
  }

  /** Its user lets go of it. One that has answered whole, and takes no other request, is ended; one that has not is reset. */
  release(): void {
    const whole = this.#responded
    this.#user = undefined
    this.#head = undefined
    if (!whole) this.discard()
    else if (!this.usable) this.close()
  }

  /** Resets it. Nothing is told. */
  discard(): void {
    this.#user = undefined
    this.keeper = undefined
    this.#persistent = false
    this.stream.reset()
  }

  /** Ends it in order, when it carries nothing: the target sees an end. One that does not end too is reset. */
  close(): void {
    this.keeper = undefined
    this.#persistent = false
    this.#closing = true
    this.stream.end()
    if (!this.stream.closed) idleSweep.watch(this, LINGER_MS)
  }

  /** For the idle sweep, while it is closing. */
  get activity(): number {
    return this.stream.bytesIn + this.stream.bytesOut
  }

  idle(): void {
    this.stream.reset()
  }

  // ── The stream speaks ─────────────────────────────────────────────────────────────────────────────────

  data(stream: Stream, chunk: Uint8Array): void {
    const user = this.#user
    if (user === undefined || this.#responded) {
      stream.consume(chunk.length)
      if (this.#closing) stream.reset()
      else this.#gone('desync')
      return
    }
    user.received(chunk.length)
    if (this.#switched) user.deliver(chunk)
    else {
      this.#answering = true
      try {
        this.#read(user, chunk)
      } catch (error) {
        if (!(error instanceof HttpFault)) throw error
        this.#fail(user, error)
      }
    }
    user.settled()
  }

  end(): void {
    const user = this.#user
    if (this.#closing) idleSweep.forget(this)
    else if (user === undefined) this.#gone('ended')
    else if (this.#responded) this.#persistent = false
    else if (this.#switched) user.finished()
    else this.#ended(user)
  }

  reset(_stream: Stream, reason: TunnelError): void {
    const user = this.#user
    this.#persistent = false
    if (this.#closing) idleSweep.forget(this)
    else if (user === undefined) this.#gone('reset')
    else if (this.#responded) user.drained()
    else this.#fail(user, reason)
  }

  drain(): void {
    this.#user?.drained()
  }

  #read(user: UpstreamUser, chunk: Uint8Array): void {
    let at = 0
    while (at < chunk.length) {
      if (this.#body === undefined) {
        const bytes = this.#reader.push(chunk, at, HTTP_RESPONSE_HEAD_BYTES)
        if (bytes === undefined) return
        at = this.#reader.next
        this.#onHead(user, new ResponseHead(bytes, this.#reader.scanner, this.#head as RequestHead))
        if (this.#switched) {
          if (at < chunk.length) user.deliver(chunk.subarray(at))
          return
        }
      } else {
        at = this.#body.push(chunk, at, pieces)
        for (const piece of pieces) user.deliver(piece)
        pieces.length = 0
      }
      if (this.#body?.done === true) {
        this.#respondedNow(user)
        if (at < chunk.length) this.#gone('desync')
        return
      }
      // Whoever was told may have let go of it.
      if (this.#user !== user) return
    }
  }

  #onHead(user: UpstreamUser, head: ResponseHead): void {
    if (head.interim) {
      if (++this.#interims > INTERIM_RESPONSES) throw new HttpFault(502, 'too many interim responses')
      user.interim(head)
      return
    }
    if (head.upgrade !== undefined) {
      this.#switched = true
      this.shareable = false
      this.#persistent = false
    } else this.#body = bodyOf(head, this.#chunks)
    if (head.close || head.framing === 'close') this.#persistent = false
    if (head.connectionLogin) this.personal = true
    this.bodiless = head.status === 204 || head.status === 304
    user.respond(head)
  }

  #respondedNow(user: UpstreamUser): void {
    this.#responded = true
    if (this.personal) this.shareable = false
    user.responded()
  }

  /** The target has ended the connection before the answer was known to be whole. */
  #ended(user: UpstreamUser): void {
    if (this.#body !== undefined) {
      this.#persistent = false
      try {
        this.#body.end()
        this.#respondedNow(user)
        user.settled()
      } catch (error) {
        if (!(error instanceof HttpFault)) throw error
        this.#fail(user, error)
      }
    } else this.#fail(user, ended())
  }

  /** It is over, or spoke when nobody had asked: what it says next would be taken for another request's answer. */
  #gone(why: 'ended' | 'reset' | 'desync'): void {
    const { keeper } = this
    this.#persistent = false
    this.shareable = false
    this.stream.reset()
    this.keeper = undefined
    // Nothing that its user still has for it is wanted.
    this.#user?.drained()
    keeper?.gone(this, why)
  }

  #fail(user: UpstreamUser, reason: TunnelError): void {
    const answering = this.#answering
    this.#user = undefined
    this.#persistent = false
    this.stream.reset()
    if (answering) user.broken(reason)
    else user.lost(reason)
  }
}

function ended(): TunnelError {
  const detail = 'the target closed the connection before it had answered'
  return new TunnelError('closed', { scope: 'stream', remote: true, detail })
}

/** A request after which a target that misreads it owes nobody anything: another visitor's may follow on its stream. */
export function isPlain(head: RequestHead): boolean {
  return (
    head.version === '1.1' &&
    (head.method === 'GET' || head.method === 'OPTIONS') &&
    head.framing === 'none' &&
    !head.expects &&
    head.upgrade === undefined &&
    !head.connectionLogin
  )
}

const SAFE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS'])
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'])

/** A request that changes nothing (RFC 9110, 9.2.1). */
export function isSafe({ method }: RequestHead): boolean {
  return SAFE.has(method)
}

/** A request that may be sent again although it may have run (RFC 9110, 9.2), as its service has it. */
export function isRepeatable(head: RequestHead, retry: string | undefined): boolean {
  return head.upgrade === undefined && (retry === 'idempotent' ? IDEMPOTENT : SAFE).has(head.method)
}

/** Pieces of one call. */
const pieces: Uint8Array[] = []
