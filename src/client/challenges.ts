import type { Logger } from 'pino'
import { TunnelError } from '../errors.ts'
import { CHALLENGE_READY_MS, CHALLENGE_SECONDS_MAX, CHALLENGES_PER_NAME } from '../limits.ts'
import type { Millis } from '../mux/index.ts'
import {
  type Challenge,
  type ChallengeDone,
  type ChallengeKind,
  type ChallengeReady,
  isChallengeToken,
  isServiceCode,
  printable,
} from '../protocol/index.ts'
import { type ChallengeCertificate, challengeCertificate } from './challenge-certificate.ts'

/** What an authority will ask one of our hosts for, of an order that we made. */
export interface OrderedChallenge {
  /** As configured. */
  readonly service: string
  /** One host, in lower case; no wildcard: those have only dns-01. */
  readonly host: string
  readonly kind: ChallengeKind
  /** As the authority gave it: not looked at before. */
  readonly token: string
  readonly keyAuthorization: string
}

/** Has challenges let through to us, and answers them. */
export interface ChallengeBroker {
  /**
   * Announces it to every connected gateway that has the service. Resolves when at least one passes it on to us, and none
   * is still to answer or to be reached that is known to be there, within CHALLENGE_READY_MS; then, and until it is taken back or CHALLENGE_SECONDS_MAX are over, it is
   * announced anew on each tunnel that is new. The function given takes it back. Rejects with what the first gateway
   * said (a code of services), `timeout`, `unreachable` (no gateway has the service), `route_conflict` (one is pending for
   * the same), `bad_message` (a token that is none), `overloaded` or `closed`.
   */
  offer(challenge: OrderedChallenge): Promise<() => void>
}

/** A tunnel, as far as it is asked here. */
export interface ChallengeLink {
  readonly gateway: string
  /** The gateway has the service, by its own word, and sends its visitors here. */
  serves(service: string): boolean
  say(message: Challenge | ChallengeDone): void
}

/** What a visitor that may come from an authority is answered with; of nothing but challenges that are pending. */
export interface PendingChallenges {
  tlsAlpn(service: string, host: string): ChallengeCertificate | undefined
  /** The key authorization. */
  http(service: string, host: string, token: string): string | undefined
}

interface Announcement {
  readonly seq: number
  state: 'asked' | 'ready' | 'refused'
}

interface Pending {
  readonly challenge: OrderedChallenge
  readonly certificate: ChallengeCertificate | undefined
  readonly until: Millis
  readonly announced: Map<ChallengeLink, Announcement>
  /** Forgets one that nobody took back. */
  readonly expiry: NodeJS.Timeout
  /** Until whoever offered it has an answer. */
  settle: ((error?: TunnelError) => void) | undefined
  /** The first refusal. */
  refused: TunnelError | undefined
}

const LAST_SEQ = 0xffff_ffff

/**
 * The challenges of orders that we have made, over all tunnels. A gateway that orders certificates by itself finds
 * nothing here: only what this process has offered is answered, whichever gateway asks, and nothing of it reaches a target.
 */
export class Challenges implements ChallengeBroker, PendingChallenges {
  readonly #log: Logger
  /** A gateway that we have a tunnel to has others behind its address that we have none to, yet. */
  readonly #seeking: () => boolean
  readonly #links = new Set<ChallengeLink>()
  readonly #pending = new Map<string, Pending>()
  /** Their certificates are being made. */
  readonly #making = new Set<string>()
  #seq = 0
  #closed = false

  constructor(log: Logger, seeking: () => boolean = () => false) {
    this.#log = log
    this.#seeking = seeking
  }

  async offer(challenge: OrderedChallenge): Promise<() => void> {
    const { host, kind, keyAuthorization } = challenge
    const key = keyOf(challenge)
    this.#check(challenge, key)
    this.#making.add(key)
    let certificate: ChallengeCertificate | undefined
    try {
      if (kind === 'tls-alpn-01') certificate = await challengeCertificate(host, keyAuthorization)
    } finally {
      this.#making.delete(key)
    }
    if (this.#closed) throw closedError()
    const pending: Pending = {
      challenge,
      certificate,
      until: performance.now() + CHALLENGE_SECONDS_MAX * 1000,
      announced: new Map(),
      expiry: setTimeout(() => this.#takeBack(key, pending), CHALLENGE_SECONDS_MAX * 1000).unref(),
      settle: undefined,
      refused: undefined,
    }
    this.#pending.set(key, pending)
    await this.#ready(pending).catch((error: unknown) => {
      this.#takeBack(key, pending)
      throw error
    })
    return () => this.#takeBack(key, pending)
  }

  // ── What visitors are answered with ───────────────────────────────────────────────────────────────────

  tlsAlpn(service: string, host: string): ChallengeCertificate | undefined {
    return this.#find({ kind: 'tls-alpn-01', service, host, token: '' })?.certificate
  }

  http(service: string, host: string, token: string): string | undefined {
    return this.#find({ kind: 'http-01', service, host, token })?.challenge.keyAuthorization
  }

  #find(asked: Omit<OrderedChallenge, 'keyAuthorization'>): Pending | undefined {
    const pending = this.#pending.get(keyOf(asked))
    return pending?.challenge.service === asked.service && pending.until > performance.now()
      ? pending
      : undefined
  }

  // ── What tunnels say ──────────────────────────────────────────────────────────────────────────────────

  /** What a tunnel's gateway has of our services may have changed. A gateway that loses one forgets its challenges. */
  served(link: ChallengeLink): void {
    this.#links.add(link)
    for (const pending of this.#pending.values()) {
      if (link.serves(pending.challenge.service)) this.#announce(pending, link)
      else if (pending.announced.delete(link)) this.#settle(pending)
    }
  }

  ready(link: ChallengeLink, { seq, error }: ChallengeReady): void {
    for (const pending of this.#pending.values()) {
      const announcement = pending.announced.get(link)
      // A second word on one says nothing.
      if (announcement?.seq !== seq || announcement.state !== 'asked') continue
      announcement.state = error === undefined ? 'ready' : 'refused'
      if (error !== undefined) this.#refused(pending, link, error)
      this.#settle(pending)
      return
    }
  }

  closed(link: ChallengeLink): void {
    this.#links.delete(link)
    for (const pending of this.#pending.values()) if (pending.announced.delete(link)) this.#settle(pending)
  }

  /** Whoever waits is told; nothing is answered any more. */
  close(): void {
    this.#closed = true
    for (const [key, pending] of this.#pending) this.#takeBack(key, pending)
  }

  // ── Announcing ────────────────────────────────────────────────────────────────────────────────────────

  #check({ host, kind, token, keyAuthorization }: OrderedChallenge, key: string): void {
    if (this.#closed) throw closedError()
    if (!isChallengeToken(token) || !keyAuthorization.startsWith(`${token}.`)) {
      const detail = `the certificate authority gave ${host} a token that is no base64url: ${printable(token)}`
      throw new TunnelError('bad_message', { scope: 'process', remote: true, detail })
    }
    if (this.#pending.has(key) || this.#making.has(key)) {
      const detail = `a ${kind} challenge for ${host} is pending already: one at a time`
      throw new TunnelError('route_conflict', { scope: 'process', detail })
    }
    if (this.#pending.size + this.#making.size < CHALLENGES_PER_NAME) return
    const detail = `${CHALLENGES_PER_NAME} challenges are pending: wait for some of them`
    throw new TunnelError('overloaded', { scope: 'process', detail })
  }

  /** Resolves when a gateway passes it on, and none is left to answer or time is over. */
  #ready(pending: Pending): Promise<void> {
    return new Promise((resolve, reject) => {
      // It keeps the process alive: somebody waits for it.
      const timer = setTimeout(() => this.#settle(pending, true), CHALLENGE_READY_MS)
      pending.settle = (error) => {
        pending.settle = undefined
        clearTimeout(timer)
        if (error === undefined) resolve()
        else reject(error)
      }
      for (const link of this.#links) this.#announce(pending, link)
      this.#settle(pending)
    })
  }

  #announce(pending: Pending, link: ChallengeLink): void {
    const { service, host, kind, token } = pending.challenge
    if (pending.announced.has(link) || !link.serves(service)) return
    const expires = Math.ceil((pending.until - performance.now()) / 1000)
    if (expires < 1) return
    this.#seq = this.#seq >= LAST_SEQ ? 1 : this.#seq + 1
    const seq = this.#seq
    pending.announced.set(link, { seq, state: 'asked' })
    link.say({ type: 'challenge', seq, host, kind, ...(kind === 'http-01' ? { token } : {}), expires })
  }

  #refused(pending: Pending, { gateway }: ChallengeLink, error: ErrorOf): void {
    const { host, kind } = pending.challenge
    const detail = `gateway ${gateway} does not pass the ${kind} challenge for ${host} on: ${printable(error.message)}`
    this.#log.warn({ gateway, code: printable(error.code) }, detail)
    const code = isServiceCode(error.code) ? error.code : 'unsupported'
    pending.refused ??= new TunnelError(code, { scope: 'process', remote: true, detail })
  }

  /** Tells whoever offered it, once nothing more is to be waited for. */
  #settle(pending: Pending, late = false): void {
    const { settle, announced, challenge } = pending
    if (settle === undefined) return
    const states = [...announced.values()].map(({ state }) => state)
    // An authority may come to any of them.
    if ((states.includes('asked') || this.#seeking()) && !late) return
    if (states.includes('ready')) settle()
    else if (pending.refused !== undefined) settle(pending.refused)
    // A tunnel may come, or come back.
    else if (late) settle(notReady(challenge, states.length > 0))
  }

  #takeBack(key: string, pending: Pending): void {
    if (this.#pending.get(key) !== pending) return
    this.#pending.delete(key)
    clearTimeout(pending.expiry)
    for (const [link, { seq, state }] of pending.announced)
      if (state !== 'refused') link.say({ type: 'challenge_done', seq })
    pending.settle?.(closedError())
  }
}

type ErrorOf = NonNullable<ChallengeReady['error']>

/** A hello of tls-alpn-01 says its host and no token, so there is one of each host. */
function keyOf({ kind, host, token }: { kind: ChallengeKind; host: string; token: string }): string {
  return kind === 'tls-alpn-01' ? `${kind} ${host}` : `${kind} ${host} ${token}`
}

function notReady({ service, host, kind }: OrderedChallenge, asked: boolean): TunnelError {
  if (asked) {
    const detail = `no gateway has said in time that it passes the ${kind} challenge for ${host} on`
    return new TunnelError('timeout', { scope: 'process', remote: true, detail })
  }
  const detail = `no gateway has service "${service}" just now, so that nobody passes the ${kind} challenge for ${host} on`
  return new TunnelError('unreachable', { scope: 'process', detail })
}

function closedError(): TunnelError {
  return new TunnelError('closed', { scope: 'process', detail: 'the client was closed' })
}
