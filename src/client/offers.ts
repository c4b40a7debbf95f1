import { REFUSED_RETRY_MS } from '../limits.ts'
import type { Millis } from '../mux/index.ts'
import {
  packItems,
  type Register,
  type ServiceOffer,
  type ServiceRefusal,
  type ServiceResult,
  type Unregister,
} from '../protocol/index.ts'

/** What a gateway said to an offer; text and URLs as they came. */
export type Answer = { urls: string[] } | { error: ServiceRefusal['error'] }

interface Offered {
  offer: ServiceOffer
  /** `asked` under `seq`, 0 being the `hello`; `queued` ones the gateway does not know, or not as they are now. */
  state: 'queued' | 'asked' | 'up' | 'refused'
  /** The gateway has the service under this name, or may have it. */
  there: boolean
  /** It had, or may have had, when it was asked last. */
  before: boolean
  seq: number
  answer: Answer | undefined
  /** When it was refused. */
  since: Millis
}

const HELLO_SEQ = 0
const LAST_SEQ = 0xffff_ffff

/**
 * What one tunnel is asked to serve, what its gateway has been told of it, and what came back. One request is
 * under way at a time, so that a thousand services do not pile up before a gateway that reads slowly.
 *
 * Pure: services, answers and the time come in; messages to send go out.
 */
export class Offers {
  readonly #offered = new Map<string, Offered>()
  /** Names that the gateway still has and must not. */
  readonly #leaving = new Set<string>()
  #seq = HELLO_SEQ
  /** The request whose answer is awaited. */
  #waiting: number | undefined

  /**
   * Replaces the whole list. What is the same as before stays untouched; what has changed on the same route is
   * registered over what the gateway has, so that no visitor misses it meanwhile. Send what `next` gives afterwards.
   */
  want(offers: readonly ServiceOffer[]): void {
    const wanted = new Map(offers.map((offer) => [offer.name, offer]))
    for (const [name, entry] of this.#offered) {
      const now = wanted.get(name)
      if (now !== undefined && sameOffer(now, entry.offer)) continue
      if (now !== undefined && entry.there && sameRoute(now, entry.offer)) {
        // The answer to what it was still counts for `answer`, until there is another.
        entry.offer = now
        entry.state = 'queued'
        continue
      }
      this.#offered.delete(name)
      if (entry.there) this.#leaving.add(name)
    }
    for (const [name, offer] of wanted) {
      if (!this.#offered.has(name)) {
        const fresh = {
          state: 'queued',
          there: false,
          before: false,
          seq: 0,
          answer: undefined,
          since: 0,
        } as const
        this.#offered.set(name, { offer, ...fresh })
      }
    }
  }

  /** True for every service on the list, whatever the gateway said to it. */
  has(name: string): boolean {
    return this.#offered.has(name)
  }

  /** Every service on the list has its answer. */
  get answered(): boolean {
    for (const { answer } of this.#offered.values()) if (answer === undefined) return false
    return true
  }

  answer(name: string): Answer | undefined {
    return this.#offered.get(name)?.answer
  }

  /** The services for a `hello` of at most `bytes` bytes, of which `envelope` is all the rest. */
  hello(envelope: object, bytes: number): ServiceOffer[] {
    this.#waiting = HELLO_SEQ
    return this.#ask(this.#queued(), HELLO_SEQ, envelope, bytes)
  }

  /** The next request, if there is one to make now. */
  next(now: Millis): Register | Unregister | undefined {
    if (this.#waiting !== undefined) return undefined
    if (this.#leaving.size > 0) {
      const [names = []] = packItems([...this.#leaving], { type: 'unregister', seq: LAST_SEQ, names: [] })
      for (const name of names) this.#leaving.delete(name)
      return { type: 'unregister', seq: this.#wait(), names }
    }
    for (const entry of this.#offered.values()) {
      if (entry.state === 'refused' && now >= entry.since + REFUSED_RETRY_MS) entry.state = 'queued'
    }
    const queued = this.#queued()
    if (queued.length === 0) return undefined
    const seq = this.#wait()
    const envelope = { type: 'register', seq: LAST_SEQ, services: [] }
    return { type: 'register', seq, services: this.#ask(queued, seq, envelope) }
  }

  /** When `next` has a refused service to ask for again; undefined while an answer is awaited. */
  get due(): Millis | undefined {
    if (this.#waiting !== undefined) return undefined
    let due: Millis | undefined
    for (const { state, since } of this.#offered.values()) {
      if (state === 'refused' && (due === undefined || since + REFUSED_RETRY_MS < due)) {
        due = since + REFUSED_RETRY_MS
      }
    }
    return due
  }

  /** `welcome` (seq 0), or `registered`, which may come in parts. Gives the names whose answer counts. */
  registered(seq: number, results: readonly ServiceResult[], now: Millis): string[] {
    if (this.#waiting === seq) this.#waiting = undefined
    const names: string[] = []
    for (const result of results) {
      const entry = this.#offered.get(result.name)
      // An answer to an earlier shape of the service, or a second one, says nothing.
      if (entry === undefined || entry.state !== 'asked' || entry.seq !== seq) continue
      if ('error' in result) {
        // What it was before must not go on there, now that something else answers.
        if (entry.before) this.#leaving.add(result.name)
        refuse(entry, result.error, now)
      } else {
        entry.state = 'up'
        entry.answer = { urls: result.urls }
      }
      names.push(result.name)
    }
    return names
  }

  unregistered(seq: number): void {
    if (this.#waiting === seq) this.#waiting = undefined
  }

  /** The gateway takes services back. Gives the names that this concerns. */
  withdrawn(refusals: readonly ServiceRefusal[], now: Millis): string[] {
    const names: string[] = []
    for (const { name, error } of refusals) {
      const entry = this.#offered.get(name)
      if (entry === undefined || !entry.there) continue
      refuse(entry, error, now)
      names.push(name)
    }
    return names
  }

  #wait(): number {
    this.#seq = this.#seq >= LAST_SEQ ? HELLO_SEQ + 1 : this.#seq + 1
    this.#waiting = this.#seq
    return this.#seq
  }

  #queued(): Offered[] {
    return [...this.#offered.values()].filter(({ state }) => state === 'queued')
  }

  /** As many of `queued` as fit one message. */
  #ask(queued: readonly Offered[], seq: number, envelope: object, bytes?: number): ServiceOffer[] {
    const [run = []] = packItems(
      queued.map(({ offer }) => offer),
      envelope,
      bytes,
    )
    for (const entry of queued.slice(0, run.length)) {
      entry.state = 'asked'
      entry.before = entry.there
      entry.there = true
      entry.seq = seq
    }
    return run
  }
}

function refuse(entry: Offered, error: ServiceRefusal['error'], now: Millis): void {
  entry.state = 'refused'
  entry.there = false
  entry.answer = { error }
  entry.since = now
}

/** What visitors reach it by: a gateway changes everything else of a service where it stands. */
function sameRoute(a: ServiceOffer, b: ServiceOffer): boolean {
  const route = ({ type, hosts, path, port, tls }: ServiceOffer) =>
    JSON.stringify([type, hosts, path, port, tls])
  return route(a) === route(b)
}

/** Offers are made by one function, so their keys stand in one order. */
function sameOffer(a: ServiceOffer, b: ServiceOffer): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}
