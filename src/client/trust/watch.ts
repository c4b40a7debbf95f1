import type { Logger } from 'pino'
import {
  CAA_MS,
  CT_MS,
  SELF_PROBE_MS,
  TRUST_FINDINGS,
  TRUST_FIRST_MS,
  TRUST_REPEATED_MS,
} from '../../limits.ts'
import type { Millis } from '../../mux/index.ts'
import type { TrustChecks } from './checks.ts'
import { type Finding, findingKey, sentenceOf } from './finding.ts'
import type { TrustSubject } from './subjects.ts'

export interface TrustWatchOptions {
  /** The hosts of this moment. */
  subjects(): readonly TrustSubject[]
  /** Called once, when the first check is due: what asks the network costs memory. */
  checks(): Promise<TrustChecks>
  log: Logger
  /** 0 ≤ x < 1; for when checks are made. */
  random: () => number
  /** Somebody may be between us and our visitors. Each fact once, and again after TRUST_REPEATED_MS. */
  alarm(finding: Finding): void
  /** Milliseconds of the epoch. */
  now?: (() => number) | undefined
  /** Calls back in `ms`; gives what forgets it. */
  later?: ((ms: Millis, callback: () => void) => () => void) | undefined
}

/** An alarm stays in `status` as long as the process runs: what went well later takes nothing back. */
export interface Alarm {
  finding: Finding
  /** ISO 8601. */
  first: string
  last: string
}

/** What `status` shows. */
export interface TrustReport {
  alarms: Alarm[]
  /** What the last checks came to, the bad ones first. */
  findings: Finding[]
}

type Kind = keyof TrustChecks

/** Each in its own rhythm: between so many parts of its time. Probes come when nobody expects them. */
const RHYTHMS = {
  ct: { ms: CT_MS, from: 0.8, to: 1.2 },
  caa: { ms: CAA_MS, from: 0.8, to: 1.2 },
  probe: { ms: SELF_PROBE_MS, from: 0.2, to: 1.8 },
} as const satisfies Record<Kind, { ms: Millis; from: number; to: number }>

/**
 * Looks again and again whether somebody stands between this client and its visitors, and says so. Its timers never keep
 * the process alive; after `close` nothing is left, and nothing is told.
 */
export class TrustWatch {
  readonly #options: TrustWatchOptions
  readonly #now: () => number
  readonly #later: (ms: Millis, callback: () => void) => () => void
  readonly #abort = new AbortController()
  readonly #timers = new Map<Kind, { at: number; forget: () => void }>()
  /** What the last check of a kind and host came to. */
  readonly #findings = new Map<string, Finding[]>()
  readonly #alarms = new Map<string, { finding: Finding; first: number; last: number }>()
  readonly #said = new Map<string, number>()
  #checks: Promise<TrustChecks> | undefined
  #running = Promise.resolve()

  constructor(options: TrustWatchOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
    this.#later = options.later ?? unrefTimer
  }

  /** Begins to check. */
  start(): void {
    for (const kind of Object.keys(RHYTHMS) as Kind[]) {
      this.#plan(kind, TRUST_FIRST_MS * this.#options.random())
    }
  }

  /** Other hosts are offered, or reached: those that nobody has looked at are not to wait for the next round. */
  changed(): void {
    for (const [kind, { at, forget }] of this.#timers) {
      const soon = TRUST_FIRST_MS * this.#options.random()
      if (this.#hasSeenAll(kind) || at <= this.#now() + soon) continue
      forget()
      this.#plan(kind, soon)
    }
  }

  /** What is ours is said anew: what was found before may be none of it. */
  restart(): void {
    this.#findings.clear()
    this.#alarms.clear()
    this.#said.clear()
    this.changed()
  }

  /** Resolves when no check is under way any more. */
  async close(): Promise<void> {
    this.#abort.abort()
    for (const { forget } of this.#timers.values()) forget()
    this.#timers.clear()
    await this.#running
  }

  get report(): TrustReport {
    const iso = (at: number): string => new Date(at).toISOString()
    const findings = [...this.#findings.values()].flat()
    return {
      alarms: [...this.#alarms.values()].map(({ finding, first, last }) => ({
        finding,
        first: iso(first),
        last: iso(last),
      })),
      findings: findings.toSorted((a, b) => RANKS[a.level] - RANKS[b.level]).slice(0, TRUST_FINDINGS),
    }
  }

  #plan(kind: Kind, ms: Millis): void {
    if (this.#abort.signal.aborted) return
    const forget = this.#later(ms, () => {
      this.#timers.delete(kind)
      // One kind after the other: a client is not to spend its uplink on itself.
      this.#running = this.#running.then(() => this.#round(kind))
    })
    this.#timers.set(kind, { at: this.#now() + ms, forget })
  }

  async #round(kind: Kind): Promise<void> {
    const { log, random } = this.#options
    const { signal } = this.#abort
    const hosts = this.#subjects(kind)
    const { ms, from, to } = RHYTHMS[kind]
    let next: Millis = ms * (from + (to - from) * random())
    this.#forgetAllBut(kind, hosts)
    try {
      for (const subject of hosts) {
        if (signal.aborted) return
        this.#checks ??= this.#options.checks()
        const checks = await this.#checks
        const findings = await checks[kind](subject, signal)
        if (!signal.aborted) this.#note(kind, subject, findings)
      }
      // Hosts that came meanwhile.
      if (!this.#hasSeenAll(kind)) next = TRUST_FIRST_MS * random()
    } catch (error) {
      log.error(
        { err: error },
        'a check of whether visitors reach this client unread failed: it is made again',
      )
    }
    this.#plan(kind, next)
  }

  #hasSeenAll(kind: Kind): boolean {
    return this.#subjects(kind).every(({ host }) => this.#findings.has(`${kind} ${host}`))
  }

  /** Hosts that can be looked at: a visit needs a place, and somebody who answers. */
  #subjects(kind: Kind): readonly TrustSubject[] {
    const all = this.#options.subjects()
    return kind === 'probe' ? all.filter(({ probed, port }) => probed && port !== undefined) : all
  }

  /** Hosts that are no longer offered. */
  #forgetAllBut(kind: Kind, subjects: readonly TrustSubject[]): void {
    const kept = new Set(subjects.map(({ host }) => `${kind} ${host}`))
    for (const key of this.#findings.keys()) {
      if (key.startsWith(`${kind} `) && !kept.has(key)) this.#findings.delete(key)
    }
  }

  #note(kind: Kind, { host, service }: TrustSubject, findings: Finding[]): void {
    this.#findings.set(`${kind} ${host}`, findings)
    for (const finding of findings) {
      if (finding.level === 'ok') continue
      if (finding.alarm === true) this.#noteAlarm(finding)
      if (this.#wasSaid(finding)) continue
      const { check, about } = finding
      const fields = { check, host: about, service }
      if (finding.alarm === true) {
        this.#options.log.error(fields, sentenceOf(finding))
        this.#options.alarm(finding)
      } else this.#options.log.warn(fields, sentenceOf(finding))
    }
  }

  #noteAlarm(finding: Finding): void {
    const key = findingKey(finding)
    const now = this.#now()
    const { first = now } = this.#alarms.get(key) ?? {}
    this.#alarms.delete(key)
    this.#alarms.set(key, { finding, first, last: now })
    bound(this.#alarms)
  }

  #wasSaid(finding: Finding): boolean {
    const key = findingKey(finding)
    const now = this.#now()
    const at = this.#said.get(key)
    if (at !== undefined && now - at < TRUST_REPEATED_MS) return true
    this.#said.delete(key)
    this.#said.set(key, now)
    bound(this.#said)
    return false
  }
}

const RANKS = { fail: 0, warn: 1, ok: 2 } as const satisfies Record<Finding['level'], number>

/** Forgets the oldest. */
function bound(map: Map<string, unknown>): void {
  const [oldest] = map.keys()
  if (map.size > TRUST_FINDINGS && oldest !== undefined) map.delete(oldest)
}

function unrefTimer(ms: Millis, callback: () => void): () => void {
  const timer = setTimeout(callback, ms).unref()
  return () => clearTimeout(timer)
}
