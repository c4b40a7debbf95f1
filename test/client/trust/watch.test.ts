import { describe, expect, it } from 'vitest'
import type { TrustChecks } from '../../../src/client/trust/checks.ts'
import type { Finding } from '../../../src/client/trust/finding.ts'
import type { TrustSubject } from '../../../src/client/trust/subjects.ts'
import { TrustWatch } from '../../../src/client/trust/watch.ts'
import {
  CAA_MS,
  CT_MS,
  SELF_PROBE_MS,
  TRUST_FINDINGS,
  TRUST_FIRST_MS,
  TRUST_REPEATED_MS,
} from '../../../src/limits.ts'
import { recordingLog } from '../world.ts'

const START = Date.parse('2026-01-01T00:00:00Z')

function subject(host: string, port: number | undefined): TrustSubject {
  return { service: 'web', host, tls: 'acme', port, probed: true }
}

function foreign(about: string, text = 'foreign leaf'): Finding {
  return { check: 'probe', about, level: 'fail', alarm: true, text, advice: 'stop' }
}

/** A watch whose time and checks are in hand. */
class World {
  hosts = ['a.example']
  port: number | undefined = 443
  /** What is found, by kind and host. */
  found: Record<string, Finding[]> = {}
  readonly made: string[] = []
  readonly alarms: Finding[] = []
  readonly recorded = recordingLog()
  now = START
  random = 0.5
  loaded = 0
  #timers: { at: number; callback: () => void }[] = []
  #moved = (): void => {}
  readonly watch = new TrustWatch({
    subjects: () => this.hosts.map((host) => subject(host, this.port)),
    checks: async () => {
      this.loaded += 1
      return this.checks
    },
    log: this.recorded.log,
    random: () => this.random,
    alarm: (finding) => this.alarms.push(finding),
    now: () => this.now,
    later: (ms, callback) => {
      const timer = { at: this.now + ms, callback }
      this.#timers.push(timer)
      this.#moved()
      return () => {
        this.#timers = this.#timers.filter((each) => each !== timer)
      }
    },
  })
  readonly checks: TrustChecks = {
    caa: (subject, signal) => this.#check('caa', subject, signal),
    ct: (subject, signal) => this.#check('ct', subject, signal),
    probe: (subject, signal) => this.#check('probe', subject, signal),
  }
  /** Called in the midst of a check. */
  meanwhile: ((signal: AbortSignal) => Promise<void>) | undefined

  get timers(): number[] {
    return this.#timers.map(({ at }) => at - START).toSorted((a, b) => a - b)
  }

  /** Lets so much time pass, timer by timer; each round plans its next before the time goes on. */
  async pass(ms: number): Promise<void> {
    const until = this.now + ms
    for (;;) {
      const [next] = this.#timers.filter(({ at }) => at <= until).toSorted((a, b) => a.at - b.at)
      if (next === undefined) break
      this.#timers = this.#timers.filter((each) => each !== next)
      this.now = next.at
      const planned = new Promise<void>((resolve) => {
        this.#moved = resolve
      })
      next.callback()
      await planned
    }
    this.now = until
  }

  lines(level: number): string[] {
    return this.recorded.lines.all.filter((line) => line.level === level).map(({ msg }) => msg)
  }

  async #check(kind: string, { host }: TrustSubject, signal: AbortSignal): Promise<Finding[]> {
    this.made.push(`${kind} ${host}`)
    await this.meanwhile?.(signal)
    return this.found[`${kind} ${host}`] ?? []
  }
}

describe('the watch of a client', () => {
  it('checks soon after its start, certificates every 6 hours, and itself at times that nobody knows', async () => {
    const world = new World()
    world.watch.start()
    expect(world.timers).toEqual([30_000, 30_000, 30_000])
    expect(world.loaded).toBe(0)
    await world.pass(TRUST_FIRST_MS)
    expect(world.made.toSorted()).toEqual(['caa a.example', 'ct a.example', 'probe a.example'])
    expect(world.loaded).toBe(1)
    expect(world.timers).toEqual([30_000 + SELF_PROBE_MS, 30_000 + CT_MS, 30_000 + CAA_MS])
    for (const [random, ms] of [
      [0, SELF_PROBE_MS * 0.2],
      [0.999, SELF_PROBE_MS * 1.8],
    ] as const) {
      const other = new World()
      other.random = random
      other.watch.start()
      await other.pass(TRUST_FIRST_MS)
      expect((other.timers[0] ?? 0) - TRUST_FIRST_MS * random).toBeCloseTo(ms, -5)
    }
  })

  it('tells an alarm at once, and again after a day while it goes on', async () => {
    const world = new World()
    world.found['probe a.example'] = [foreign('a.example')]
    world.watch.start()
    await world.pass(TRUST_FIRST_MS)
    expect(world.alarms).toEqual([foreign('a.example')])
    expect(world.lines(50)).toEqual(['a.example: foreign leaf: stop'])
    await world.pass(20 * SELF_PROBE_MS)
    expect(world.alarms).toHaveLength(1)
    await world.pass(TRUST_REPEATED_MS)
    expect(world.alarms).toHaveLength(2)
    // Another fact is news at once.
    world.found['probe a.example'] = [foreign('a.example', 'exporter mismatch')]
    await world.pass(2 * SELF_PROBE_MS)
    expect(world.alarms).toHaveLength(3)
  })

  it('keeps an alarm in its report, though the next look finds nothing', async () => {
    const world = new World()
    world.found['probe a.example'] = [foreign('a.example')]
    world.watch.start()
    await world.pass(TRUST_FIRST_MS)
    world.found = {}
    await world.pass(5 * SELF_PROBE_MS)
    expect(world.watch.report).toEqual({
      alarms: [
        {
          finding: foreign('a.example'),
          first: '2026-01-01T00:00:30.000Z',
          last: '2026-01-01T00:00:30.000Z',
        },
      ],
      findings: [],
    })
  })

  it('warns of what it could not find out, once a day, and reports what is bad first', async () => {
    const world = new World()
    const ok: Finding = { check: 'caa', about: 'a.example', level: 'ok', text: 'good' }
    const warn: Finding = { check: 'ct', about: 'a.example', level: 'warn', text: 'could not be asked' }
    world.found = { 'caa a.example': [ok], 'ct a.example': [warn] }
    world.watch.start()
    await world.pass(2 * CT_MS)
    expect(world.lines(40)).toEqual(['a.example: could not be asked'])
    expect(world.alarms).toEqual([])
    expect(world.watch.report.findings).toEqual([warn, ok])
    await world.pass(TRUST_REPEATED_MS)
    expect(world.lines(40)).toHaveLength(2)
  })

  it('looks at new hosts soon, and forgets those that are gone', async () => {
    const world = new World()
    world.found['probe a.example'] = [{ check: 'probe', about: 'a.example', level: 'ok', text: 'ok' }]
    world.watch.start()
    await world.pass(TRUST_FIRST_MS)
    world.made.length = 0
    world.watch.changed()
    await world.pass(TRUST_FIRST_MS)
    expect(world.made).toEqual([])
    world.hosts = ['b.example']
    world.watch.changed()
    await world.pass(TRUST_FIRST_MS)
    expect(world.made.toSorted()).toEqual(['caa b.example', 'ct b.example', 'probe b.example'])
    expect(world.watch.report.findings).toEqual([])
  })

  it('visits a host once it is known where visitors come in', async () => {
    const world = new World()
    world.port = undefined
    world.watch.start()
    await world.pass(TRUST_FIRST_MS)
    expect(world.made.toSorted()).toEqual(['caa a.example', 'ct a.example'])
    world.port = 8443
    // Each word of a gateway asks for it, and none puts it off.
    world.watch.changed()
    world.random = 0.9
    world.watch.changed()
    await world.pass(TRUST_FIRST_MS / 2)
    expect(world.made).toContain('probe a.example')
  })

  it('begins anew when what is ours is said anew', async () => {
    const world = new World()
    world.found['ct a.example'] = [{ ...foreign('a.example'), check: 'ct' }]
    world.watch.start()
    await world.pass(TRUST_FIRST_MS)
    expect(world.watch.report.alarms).toHaveLength(1)
    world.found = {}
    world.watch.restart()
    await world.pass(TRUST_FIRST_MS)
    expect(world.watch.report.alarms).toEqual([])
    expect(world.made.filter((each) => each === 'ct a.example')).toHaveLength(2)
  })

  it('goes on after a check that failed by a mistake of ours', async () => {
    const world = new World()
    world.meanwhile = () => Promise.reject(new Error('mistake'))
    world.watch.start()
    await world.pass(TRUST_FIRST_MS)
    expect(world.lines(50)).toHaveLength(3)
    world.meanwhile = undefined
    world.made.length = 0
    await world.pass(3 * SELF_PROBE_MS)
    expect(world.made).toContain('probe a.example')
  })

  it('holds a bounded number of alarms and findings', async () => {
    const world = new World()
    const many = Array.from({ length: TRUST_FINDINGS + 50 }, (_, each) =>
      foreign('a.example', `leaf ${each}`),
    )
    world.found['probe a.example'] = many
    world.watch.start()
    await world.pass(TRUST_FIRST_MS)
    const { alarms, findings } = world.watch.report
    expect([alarms.length, findings.length]).toEqual([TRUST_FINDINGS, TRUST_FINDINGS])
    expect(alarms.at(-1)?.finding).toEqual(many.at(-1))
  })

  it('ends the check that is under way, tells nothing afterwards and leaves nothing', async () => {
    const world = new World()
    world.found['ct a.example'] = [{ ...foreign('a.example'), check: 'ct' }]
    const begun = new Promise<void>((resolve) => {
      world.meanwhile = (signal) =>
        new Promise((done) => {
          signal.addEventListener('abort', () => done())
          resolve()
        })
    })
    world.watch.start()
    void world.pass(TRUST_FIRST_MS)
    await begun
    await world.watch.close()
    expect(world.alarms).toEqual([])
    expect(world.timers).toEqual([])
    expect(world.made).toHaveLength(1)
  })
})
