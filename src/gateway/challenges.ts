import { type ServiceCode, TunnelError } from '../errors.ts'
import { CHALLENGE_WAIT_MS, CHALLENGES, CHALLENGES_PER_NAME, CHALLENGES_WAITING_PER_HOST } from '../limits.ts'
import {
  type Challenge,
  type ChallengeKind,
  type ChallengeReady,
  isChallengeKind,
  isChallengeToken,
  printable,
} from '../protocol/index.ts'
import type { Millis } from './replica.ts'
import type { Route } from './route.ts'

/** A tunnel, as far as the table asks. */
export interface ChallengeHolder {
  /** The tenant. */
  readonly name: string
  /** The client's run, as it says: one that dials again takes the place of its own older tunnel. */
  readonly process: string
  /** False: it would not get a visitor just now. */
  readonly usable: boolean
}

/** Who answers for a host, while an authority may ask. */
export interface Pending<T> {
  readonly holder: T
  readonly host: string
  /** Where the host's visitors go: the holder serves it. */
  readonly route: Route
}

/** What a client is to be told. */
export interface Told<T> {
  readonly holder: T
  readonly host: string
  readonly message: ChallengeReady
}

interface Entry<T> extends Pending<T> {
  readonly seq: number
  readonly kind: ChallengeKind
  /** Empty for tls-alpn-01, whose visitors say none. */
  readonly token: string
  /** Nobody asks any more. */
  readonly until: Millis
  /** It waits for the one before it, no longer than this; undefined: it is the one that is passed on. */
  waits: Millis | undefined
}

/**
 * The challenges that authorities are about to ask for, and which tunnel answers each. A hello of tls-alpn-01 says its host
 * alone, so of each host one is pending, and replicas that order at the same time take turns. Requests of http-01 say their
 * token; among tunnels of one name that have the same one, the newest answers.
 *
 * Who may ask for which host is the caller's to know, who also says when a tunnel no longer serves a route. Pure: the
 * time comes in, answers go out; calls take the work of one host's, or of one tunnel's challenges.
 */
export class Challenges<T extends ChallengeHolder> {
  readonly #byHolder = new Map<T, Map<number, Entry<T>>>()
  /** By kind, route, host and token: the first is the one of a tls-alpn-01 that is passed on, the last that of an http-01. */
  readonly #places = new Map<string, Entry<T>[]>()
  readonly #perName = new Map<string, number>()
  #size = 0

  /** Pending and waiting ones. */
  get size(): number {
    return this.#size
  }

  /** `route` is where visitors of the host go, and `holder` serves it. What is to be said to whom, at once. */
  ask(holder: T, route: Route, asked: Challenge, now: Millis): Told<T>[] {
    const { seq, host, kind, token = '', expires } = asked
    const one = { holder, host, seq }
    if (!isChallengeKind(kind)) return [told(one, foreign(kind))]
    const http = kind === 'http-01'
    if (http && !isChallengeToken(token)) return [told(one, bad('its token is not base64url'))]
    if (this.#byHolder.get(holder)?.has(seq) === true)
      return [told(one, bad(`its number ${seq} is that of another one that is pending`))]
    const until = now + expires * 1000
    const entry: Entry<T> = { ...one, route, kind, token: http ? token : '', until, waits: undefined }
    return this.#takeOver(entry) ? [told(entry)] : this.#enter(entry, now)
  }

  /** One that its own client asked for by an older tunnel goes on in this one, if it was not still waiting. */
  #takeOver(entry: Entry<T>): boolean {
    const { holder } = entry
    const all = this.#places.get(placeOf(entry)) ?? []
    const older = all.find(
      (other) =>
        other.holder !== holder &&
        other.holder.name === holder.name &&
        other.holder.process === holder.process &&
        other.waits === undefined,
    )
    if (older === undefined) return false
    const index = all.indexOf(older)
    this.#add(entry, index)
    this.#drop(older)
    return true
  }

  #enter(entry: Entry<T>, now: Millis): Told<T>[] {
    const { kind } = entry
    // What a silent tunnel has keeps nobody waiting.
    const [first] = this.#places.get(placeOf(entry)) ?? []
    const answers = kind === 'tls-alpn-01' && first?.holder.usable === false ? this.#remove(first) : []
    const before = this.#places.get(placeOf(entry))?.length ?? 0
    const full = this.#full(entry, before)
    if (full !== undefined) return [...answers, told(entry, full)]
    this.#add(entry, before)
    if (kind === 'http-01' || before === 0) return [...answers, told(entry)]
    entry.waits = now + CHALLENGE_WAIT_MS
    return answers
  }

  #full({ holder: { name }, kind, host }: Entry<T>, before: number): TunnelError | undefined {
    if ((this.#perName.get(name) ?? 0) >= CHALLENGES_PER_NAME)
      return tooMany(`"${name}" has ${CHALLENGES_PER_NAME} pending: wait for those`)
    if (this.#size >= CHALLENGES) return tooMany(`${CHALLENGES} are pending on this gateway: try again later`)
    return kind === 'tls-alpn-01' && before > CHALLENGES_WAITING_PER_HOST ? busy(host) : undefined
  }

  /** Its client takes it back. */
  done(holder: T, seq: number): Told<T>[] {
    const entry = this.#byHolder.get(holder)?.get(seq)
    return entry === undefined ? [] : this.#remove(entry)
  }

  /** The tunnel does not serve the route any more: it has ended, or the service was withdrawn. */
  left(holder: T, route: Route): Told<T>[] {
    const own = [...(this.#byHolder.get(holder)?.values() ?? [])].filter((entry) => entry.route === route)
    return waitingFirst(own).flatMap((entry) => this.#remove(entry))
  }

  /** To be called now and then: drops what is over, and tells those who waited too long. */
  expire(now: Millis): Told<T>[] {
    const all = [...this.#byHolder.values()].flatMap((own) => [...own.values()])
    const over = all.filter(({ until, waits = until }) => until <= now || waits <= now)
    return waitingFirst(over).flatMap((entry) => {
      const { waits } = entry
      const next = this.#remove(entry)
      return waits === undefined ? next : [told(entry, busy(entry.host))]
    })
  }

  /** Who answers a hello of tls-alpn-01 for this host, whose visitors go to `route`. */
  tlsAlpn(route: Route, host: string, now: Millis): Pending<T> | undefined {
    const [first] = this.#places.get(placeOf({ kind: 'tls-alpn-01', route, host, token: '' })) ?? []
    return first !== undefined && first.until > now ? first : undefined
  }

  /** Who answers a request of http-01. */
  http(route: Route, host: string, token: string, now: Millis): Pending<T> | undefined {
    const all = this.#places.get(placeOf({ kind: 'http-01', route, host, token }))
    return all?.findLast(({ holder, until }) => holder.usable && until > now)
  }

  #add(entry: Entry<T>, index: number): void {
    const { holder } = entry
    const own = this.#byHolder.get(holder) ?? new Map<number, Entry<T>>()
    this.#byHolder.set(holder, own.set(entry.seq, entry))
    this.#places.set(placeOf(entry), (this.#places.get(placeOf(entry)) ?? []).toSpliced(index, 0, entry))
    this.#perName.set(holder.name, (this.#perName.get(holder.name) ?? 0) + 1)
    this.#size += 1
  }

  /** Takes one out; whoever waited for it gets its turn. */
  #remove(entry: Entry<T>): Told<T>[] {
    if (!this.#drop(entry)) return []
    const [next] = this.#places.get(placeOf(entry)) ?? []
    if (next?.waits === undefined) return []
    next.waits = undefined
    return [told(next)]
  }

  #drop(entry: Entry<T>): boolean {
    const own = this.#byHolder.get(entry.holder)
    if (own?.get(entry.seq) !== entry) return false
    own.delete(entry.seq)
    if (own.size === 0) this.#byHolder.delete(entry.holder)
    const left = (this.#places.get(placeOf(entry)) ?? []).filter((other) => other !== entry)
    if (left.length > 0) this.#places.set(placeOf(entry), left)
    else this.#places.delete(placeOf(entry))
    const { name } = entry.holder
    const count = (this.#perName.get(name) ?? 1) - 1
    if (count > 0) this.#perName.set(name, count)
    else this.#perName.delete(name)
    this.#size -= 1
    return true
  }
}

interface Place {
  readonly kind: ChallengeKind
  readonly route: Route
  readonly host: string
  readonly token: string
}

/** With the route, so that whoever had the host by a pattern keeps nobody waiting who has it by name now. */
function placeOf({ kind, route, host, token }: Place): string {
  return `${kind} ${route} ${host} ${token}`
}

/** So that none of them gets its turn by the end of another. */
function waitingFirst<T>(entries: readonly Entry<T>[]): Entry<T>[] {
  return [
    ...entries.filter(({ waits }) => waits !== undefined),
    ...entries.filter(({ waits }) => waits === undefined),
  ]
}

function foreign(kind: string): TunnelError {
  return refusal('unsupported', `"${printable(kind)}" is not passed on: use tls-alpn-01 or http-01`)
}

function bad(why: string): TunnelError {
  return refusal('bad_service', why)
}

function tooMany(why: string): TunnelError {
  return refusal('too_many_services', why)
}

function refusal(code: 'unsupported' | 'bad_service' | 'too_many_services', why: string): TunnelError {
  return new TunnelError(code, { scope: 'stream', remote: true, detail: `the challenge is refused: ${why}` })
}

function busy(host: string): TunnelError {
  const detail = `a challenge for ${host} of another client is pending, and visitors say no more than the host: try again in a minute`
  return new TunnelError('route_conflict', { scope: 'stream', remote: true, detail })
}

/** `error`: of a code of services. */
function told<T>(
  { holder, host, seq }: { holder: T; host: string; seq: number },
  error?: TunnelError,
): Told<T> {
  const problem = error && { error: { code: error.code as ServiceCode, message: error.message } }
  return { holder, host, message: { type: 'challenge_ready', seq, ...problem } }
}
