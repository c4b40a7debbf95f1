import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type ChallengeHolder, Challenges, type Told } from '../../src/gateway/challenges.ts'
import {
  CHALLENGE_WAIT_MS,
  CHALLENGES,
  CHALLENGES_PER_NAME,
  CHALLENGES_WAITING_PER_HOST,
} from '../../src/limits.ts'
import type { Challenge } from '../../src/protocol/index.ts'

interface Tunnel extends ChallengeHolder {
  usable: boolean
}

const HOST = 'a.example.com'
const ROUTE = `https:${HOST}`

function tunnel(process: string, name = 'home'): Tunnel {
  return { name, process, usable: true }
}

function tlsAlpn(seq: number, rest: Partial<Challenge> = {}): Challenge {
  return { type: 'challenge', seq, host: HOST, kind: 'tls-alpn-01', expires: 60, ...rest }
}

function http(seq: number, token: string): Challenge {
  return tlsAlpn(seq, { kind: 'http-01', token })
}

/** Who was told what: `process seq`, and the code of a refusal. */
function heard(told: readonly Told<Tunnel>[]): string[] {
  return told.map(({ holder, message: { seq, error } }) =>
    [holder.process, seq, ...(error === undefined ? [] : [error.code])].join(' '),
  )
}

describe('a challenge of tls-alpn-01', () => {
  test('is the only one of its host; the next is told when its turn has come', () => {
    const [table, a, b] = [new Challenges<Tunnel>(), tunnel('a'), tunnel('b')]
    expect(heard(table.ask(a, ROUTE, tlsAlpn(1), 0))).toEqual(['a 1'])
    expect(heard(table.ask(b, ROUTE, tlsAlpn(1), 0))).toEqual([])
    expect(table.tlsAlpn(ROUTE, HOST, 0)?.holder).toBe(a)
    expect(heard(table.done(b, 2))).toEqual([])
    expect(heard(table.done(a, 1))).toEqual(['b 1'])
    expect(table.tlsAlpn(ROUTE, HOST, 0)?.holder).toBe(b)
    expect(heard(table.done(b, 1))).toEqual([])
    expect(table.tlsAlpn(ROUTE, HOST, 0)).toBeUndefined()
    expect(table.size).toBe(0)
  })

  test('is over when it expires, to the millisecond', () => {
    const [table, a, b] = [new Challenges<Tunnel>(), tunnel('a'), tunnel('b')]
    table.ask(a, ROUTE, tlsAlpn(1, { expires: 5 }), 0)
    table.ask(b, ROUTE, tlsAlpn(1), 0)
    expect(table.tlsAlpn(ROUTE, HOST, 4_999)?.holder).toBe(a)
    expect(table.tlsAlpn(ROUTE, HOST, 5_000)).toBeUndefined()
    expect(heard(table.expire(4_999))).toEqual([])
    expect(heard(table.expire(5_000))).toEqual(['b 1'])
  })

  test('that waits too long is refused, and does not come up afterwards', () => {
    const [table, a, b] = [new Challenges<Tunnel>(), tunnel('a'), tunnel('b')]
    table.ask(a, ROUTE, tlsAlpn(1), 0)
    table.ask(b, ROUTE, tlsAlpn(1), 0)
    expect(heard(table.expire(CHALLENGE_WAIT_MS - 1))).toEqual([])
    expect(heard(table.expire(CHALLENGE_WAIT_MS))).toEqual(['b 1 route_conflict'])
    expect(heard(table.done(a, 1))).toEqual([])
    expect(table.size).toBe(0)
  })

  test('that expires while it waits is refused', () => {
    const [table, a, b] = [new Challenges<Tunnel>(), tunnel('a'), tunnel('b')]
    table.ask(a, ROUTE, tlsAlpn(1), 0)
    table.ask(b, ROUTE, tlsAlpn(1, { expires: 1 }), 0)
    expect(heard(table.expire(1_000))).toEqual(['b 1 route_conflict'])
  })

  test('of a silent tunnel keeps nobody waiting', () => {
    const [table, a, b, c] = [new Challenges<Tunnel>(), tunnel('a'), tunnel('b'), tunnel('c')]
    table.ask(a, ROUTE, tlsAlpn(1), 0)
    table.ask(b, ROUTE, tlsAlpn(1), 0)
    a.usable = false
    expect(heard(table.ask(c, ROUTE, tlsAlpn(1), 0))).toEqual(['b 1'])
    expect(heard(table.done(b, 1))).toEqual(['c 1'])
  })

  test('goes over to another tunnel of the same run, before those who wait', () => {
    const [table, a, b, again] = [new Challenges<Tunnel>(), tunnel('a'), tunnel('b'), tunnel('a')]
    table.ask(a, ROUTE, tlsAlpn(1), 0)
    table.ask(b, ROUTE, tlsAlpn(1), 0)
    expect(heard(table.ask(again, ROUTE, tlsAlpn(5), 0))).toEqual(['a 5'])
    expect(table.tlsAlpn(ROUTE, HOST, 0)?.holder).toBe(again)
    expect(heard(table.left(a, ROUTE))).toEqual([])
    expect(table.size).toBe(2)
    expect(heard(table.left(again, ROUTE))).toEqual(['b 1'])
  })

  test('does not go over to a stranger who says the same run', () => {
    const [table, a, stranger] = [new Challenges<Tunnel>(), tunnel('a'), tunnel('a', 'guest')]
    table.ask(a, ROUTE, tlsAlpn(1), 0)
    expect(heard(table.ask(stranger, ROUTE, tlsAlpn(1), 0))).toEqual([])
    expect(table.tlsAlpn(ROUTE, HOST, 0)?.holder).toBe(a)
  })

  test('leaves room for so many to wait', () => {
    const table = new Challenges<Tunnel>()
    table.ask(tunnel('first'), ROUTE, tlsAlpn(0), 0)
    for (let n = 1; n <= CHALLENGES_WAITING_PER_HOST; n++)
      expect(heard(table.ask(tunnel(`${n}`), ROUTE, tlsAlpn(n), 0))).toEqual([])
    expect(heard(table.ask(tunnel('last'), ROUTE, tlsAlpn(99), 0))).toEqual(['last 99 route_conflict'])
  })
})

describe('a challenge of http-01', () => {
  test('is found by its host and token, at the newest tunnel that can be used', () => {
    const [table, a, b] = [new Challenges<Tunnel>(), tunnel('a'), tunnel('b')]
    expect(heard(table.ask(a, ROUTE, http(1, 'x'), 0))).toEqual(['a 1'])
    expect(heard(table.ask(b, ROUTE, http(1, 'x'), 0))).toEqual(['b 1'])
    expect(table.http(ROUTE, HOST, 'x', 0)?.holder).toBe(b)
    b.usable = false
    expect(table.http(ROUTE, HOST, 'x', 0)?.holder).toBe(a)
    for (const [host, token] of [
      ['b.example.com', 'x'],
      [HOST, 'y'],
      [HOST, ''],
      [HOST, 'x '],
    ] as const)
      expect(table.http(ROUTE, host, token, 0)).toBeUndefined()
    expect(table.tlsAlpn(ROUTE, HOST, 0)).toBeUndefined()
    expect(table.http(ROUTE, HOST, 'x', 60_000)).toBeUndefined()
    expect(heard(table.expire(60_000))).toEqual([])
    expect(table.size).toBe(0)
  })

  test.each([[''], ['a/b'], ['..'], ['a b'], ['a%41'], ['\0']])('with the token %j is refused', (token) => {
    const table = new Challenges<Tunnel>()
    expect(heard(table.ask(tunnel('a'), ROUTE, http(1, token), 0))).toEqual(['a 1 bad_service'])
    expect(table.size).toBe(0)
  })
})

describe('the table', () => {
  test('has room for so many of a name, and for so many of all', () => {
    const table = new Challenges<Tunnel>()
    const names = CHALLENGES / CHALLENGES_PER_NAME
    for (let name = 0; name < names; name++) {
      const holder = tunnel(`p${name}`, `n${name}`)
      for (let seq = 0; seq < CHALLENGES_PER_NAME; seq++) table.ask(holder, ROUTE, http(seq, `t${seq}`), 0)
      const over = heard(table.ask(holder, ROUTE, http(9_999, 'over'), 0))
      expect(over).toEqual([`p${name} 9999 too_many_services`])
    }
    expect(table.size).toBe(CHALLENGES)
    expect(heard(table.ask(tunnel('p', 'late'), ROUTE, http(1, 'x'), 0))).toEqual(['p 1 too_many_services'])
    table.expire(60_000)
    expect(table.size).toBe(0)
    expect(heard(table.ask(tunnel('p', 'late'), ROUTE, http(1, 'x'), 60_000))).toEqual(['p 1'])
  })

  test('forgets all that a tunnel had on a route, and nothing else', () => {
    const [table, a, b] = [new Challenges<Tunnel>(), tunnel('a'), tunnel('b')]
    table.ask(a, ROUTE, http(1, 'x'), 0)
    table.ask(a, ROUTE, tlsAlpn(2), 0)
    table.ask(a, 'https:*.b', tlsAlpn(3, { host: 'a.b' }), 0)
    table.ask(b, ROUTE, http(1, 'x'), 0)
    table.left(a, ROUTE)
    expect(table.size).toBe(2)
    expect(table.http(ROUTE, HOST, 'x', 0)?.holder).toBe(b)
    expect(table.tlsAlpn('https:*.b', 'a.b', 0)?.holder).toBe(a)
  })

  type Step =
    | {
        does: 'ask'
        who: number
        seq: number
        host: string
        kind: 'tls-alpn-01' | 'http-01'
        expires: number
      }
    | { does: 'done'; who: number; seq: number }
    | { does: 'left'; who: number; host: string }
    | { does: 'silent'; who: number; usable: boolean }
    | { does: 'wait'; ms: number }

  const who = fc.nat(4)
  const seq = fc.nat(3)
  const host = fc.constantFrom('a', 'b')
  const step: fc.Arbitrary<Step> = fc.oneof(
    fc.record({
      does: fc.constant('ask' as const),
      who,
      seq,
      host,
      kind: fc.constantFrom('tls-alpn-01' as const, 'http-01' as const),
      expires: fc.integer({ min: 1, max: 20 }),
    }),
    fc.record({ does: fc.constant('done' as const), who, seq }),
    fc.record({ does: fc.constant('left' as const), who, host }),
    fc.record({ does: fc.constant('silent' as const), who, usable: fc.boolean() }),
    fc.record({ does: fc.constant('wait' as const), ms: fc.nat(8_000) }),
  )

  test('answers each challenge once at most, passes on only what it said was ready, and keeps nothing in the end', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60, size: 'max' }), (steps) => {
        const table = new Challenges<Tunnel>()
        // Two of them are tunnels of one run.
        const tunnels = ['a', 'b', 'c', 'c', 'd'].map((process) => tunnel(process))
        let now = 0
        /** What was asked and is not over as far as its client can know: answered or not. */
        const asked = new Map<string, { host: string; kind: string; ready: boolean; until: number }>()
        const key = (holder: Tunnel, number: number): string => `${tunnels.indexOf(holder)} ${number}`
        const hear = (told: readonly Told<Tunnel>[]): void => {
          for (const { holder, message } of told) {
            const known = asked.get(key(holder, message.seq))
            if (message.error === undefined) {
              expect(known?.ready).toBe(false)
              if (known !== undefined) known.ready = true
              // A number that is in use is no word on the one that has it.
            } else if (message.error.code !== 'bad_service') {
              expect(known?.ready).toBe(false)
              asked.delete(key(holder, message.seq))
            }
          }
        }
        for (const each of steps) {
          if (each.does === 'wait') {
            now += each.ms
            hear(table.expire(now))
            for (const [id, { until, ready }] of asked) if (until <= now && ready) asked.delete(id)
            continue
          }
          const holder = tunnels[each.who] as Tunnel
          if (each.does === 'silent') holder.usable = each.usable
          else if (each.does === 'done') {
            asked.delete(key(holder, each.seq))
            hear(table.done(holder, each.seq))
          } else if (each.does === 'left') {
            for (const [id, { host: of }] of asked)
              if (id.startsWith(`${each.who} `) && of === each.host) asked.delete(id)
            hear(table.left(holder, each.host))
          } else {
            const { seq: number, kind, expires } = each
            const id = key(holder, number)
            const until = now + expires * 1000
            if (!asked.has(id)) {
              const older = [...asked].find(([other, one]) => {
                const same = tunnels[Number(other[0])]?.process === holder.process && other[0] !== id[0]
                return same && one.ready && one.host === each.host && one.kind === kind
              })
              // A silent one goes where another wants its place.
              const ghost = [...asked].find(([other, one]) => {
                const silent = tunnels[Number(other[0])]?.usable === false
                return silent && one.ready && one.host === each.host && one.kind === kind
              })
              const gone = older ?? (kind === 'tls-alpn-01' ? ghost : undefined)
              if (gone !== undefined) asked.delete(gone[0])
              asked.set(id, { host: each.host, kind, ready: false, until })
            }
            hear(
              table.ask(
                holder,
                each.host,
                { type: 'challenge', seq: number, host: each.host, kind, token: 't', expires },
                now,
              ),
            )
          }
          for (const at of ['a', 'b']) {
            const first = table.tlsAlpn(at, at, now)
            if (first === undefined) continue
            const its = [...asked].filter(([one]) => one.startsWith(`${tunnels.indexOf(first.holder)} `))
            expect(its.some(([, one]) => one.ready && one.kind === 'tls-alpn-01' && one.host === at)).toBe(
              true,
            )
          }
        }
        table.expire(now + 30_000)
        table.expire(now + 60_000)
        expect(table.size).toBe(0)
      }),
      { numRuns: 500 },
    )
  })
})
