/** What decides and does not act: pauses, renewals, problems, orders, names. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AcmeError } from '../../src/client/acme/acme-error.ts'
import { renewalId } from '../../src/client/acme/certificate-request.ts'
import { covers } from '../../src/client/acme/issued.ts'
import { Looks, OrderRun, type OrderStep } from '../../src/client/acme/order-run.ts'
import { nextOrderAt, Pace, recentOrders } from '../../src/client/acme/pace.ts'
import { acmeProblem, retryAfter } from '../../src/client/acme/problem.ts'
import { renewAt } from '../../src/client/acme/renewal.ts'
import {
  ACME_ORDER_MS,
  ACME_ORDERS_PER_DAY,
  ACME_ORDERS_PER_HOUR,
  ACME_PAUSES_MS,
  ACME_POLL_MS,
  ACME_POLLS,
  ACME_RETRY_AFTER_MS_MAX,
} from '../../src/limits.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR

describe('pauses after a failure', () => {
  it('double to hours, and begin anew after a success', () => {
    for (const failing of Object.keys(ACME_PAUSES_MS) as (keyof typeof ACME_PAUSES_MS)[]) {
      const { first, most } = ACME_PAUSES_MS[failing]
      const pace = new Pace(() => 1)
      const pauses = Array.from({ length: 40 }, () => pace.afterFailure({ failing, retryAfterMs: undefined }))
      expect(pauses.slice(0, 3)).toEqual([first, first * 2, first * 4])
      expect(pauses.at(-1)).toBe(most)
      expect(most).toBeGreaterThanOrEqual(HOUR)
      pace.reset()
      expect(pace.afterFailure({ failing, retryAfterMs: undefined })).toBe(first)
    }
  })

  it('are never shorter than half, nor than the CA asks for', () => {
    const pace = new Pace(() => 0)
    const limited = (retryAfterMs?: number) => pace.afterFailure({ failing: 'limited', retryAfterMs })
    expect(limited()).toBe(30_000)
    expect(limited(HOUR)).toBe(HOUR + 30_000)
    // One that always says "in a second" is still asked less and less often.
    expect(Array.from({ length: 20 }, () => limited(1_000)).at(-1)).toBe(6 * HOUR)
  })
})

describe('the bound on orders', () => {
  it('holds by the hour and by the day, whatever was ordered when', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 3 * DAY }), { maxLength: 60 }), (wishes) => {
        const orders: number[] = []
        for (const at of wishes.toSorted((a, b) => a - b)) if (nextOrderAt(orders, at) <= at) orders.push(at)
        for (const at of orders) {
          const within = (ms: number) => orders.filter((other) => other <= at && other > at - ms).length
          expect(within(HOUR)).toBeLessThanOrEqual(ACME_ORDERS_PER_HOUR)
          expect(within(DAY)).toBeLessThanOrEqual(ACME_ORDERS_PER_DAY)
        }
      }),
    )
  })

  it('does not hold for years because a clock was ahead once', () => {
    const ahead = Array.from({ length: 20 }, () => 1_000 * DAY)
    expect(nextOrderAt(ahead, DAY)).toBeLessThanOrEqual(DAY)
    expect(recentOrders([...ahead, DAY, 2], DAY + 3)).toEqual([DAY])
  })
})

describe('a renewal', () => {
  const lifetime = { notBefore: 0, notAfter: 90 * DAY }

  it('is at two thirds of a lifetime, and of a short one at half, some of it earlier at random', () => {
    expect(renewAt(lifetime, 0)).toBe(60 * DAY)
    expect(renewAt(lifetime, 1)).toBeCloseTo(55.5 * DAY, -3)
    expect(renewAt({ notBefore: 0, notAfter: 6 * DAY }, 0)).toBe(3 * DAY)
    expect(renewAt({ notBefore: 0, notAfter: 6 * DAY }, 1)).toBeGreaterThan(2.6 * DAY)
  })

  it('is at the drawn moment of the window that the CA gives', () => {
    const window = { start: 10 * DAY, end: 12 * DAY }
    expect([0, 0.5, 1].map((lot) => renewAt(lifetime, lot, window))).toEqual([10 * DAY, 11 * DAY, 12 * DAY])
  })

  it('is never so late that nothing is left of the lifetime', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.integer(),
        fc.nat(),
        (lot, start, length) => {
          expect(renewAt(lifetime, lot, { start, end: start + length })).toBeLessThanOrEqual(81 * DAY)
        },
      ),
    )
  })
})

describe('what a CA refuses with', () => {
  const problem = (type: string, detail?: unknown) => ({ type: `urn:ietf:params:acme:error:${type}`, detail })

  it.each<[number, unknown, string, string]>([
    [429, problem('rateLimited', 'too many'), 'limited', 'x (rateLimited): too many'],
    [429, undefined, 'limited', 'x (429): status 429, and no word why'],
    [503, undefined, 'overloaded', 'x (503): status 503, and no word why'],
    [500, problem('serverInternal'), 'overloaded', 'x (serverInternal): status 500, and no word why'],
    [403, problem('caa', 'no'), 'unproven', 'x (caa): no'],
    [403, problem('unauthorized', 'no'), 'unproven', 'x (unauthorized): no'],
    [
      400,
      problem('invalidContact', 'no'),
      'misconfigured',
      'x (invalidContact): no; check email under [acme]',
    ],
    [400, problem('malformed', 'no'), 'nonsense', 'x (malformed): no'],
    [
      400,
      { type: 'about:blank', detail: { an: 'object' } },
      'nonsense',
      'x (400): status 400, and no word why',
    ],
    [400, null, 'nonsense', 'x (400): status 400, and no word why'],
    [400, problem('a\nb', 'c\nd'), 'nonsense', 'x (a\\x0ab): c\\x0ad'],
  ])('%j %j is %s', (status, body, failing, message) => {
    expect(acmeProblem('x', { status, problem: body })).toMatchObject({
      failing,
      message,
      code: 'acme_failed',
    })
  })

  it('names the hosts that it is about', () => {
    const subproblems = Array.from({ length: 9 }, (_none, at) => ({
      ...problem('caa', 'forbidden'),
      identifier: { type: 'dns', value: `h${at}.example` },
    }))
    const body = { ...problem('unauthorized', 'some'), subproblems }
    expect(acmeProblem('x', { status: 403, problem: body }).message).toBe(
      'x (unauthorized): some; h0.example: forbidden; h1.example: forbidden; h2.example: forbidden',
    )
  })

  it('Retry-After is seconds or a date, and bounded', () => {
    const now = Date.parse('2026-01-01T00:00:00Z')
    expect(retryAfter(undefined, now)).toBeUndefined()
    expect(retryAfter('soon', now)).toBeUndefined()
    expect(retryAfter('120', now)).toBe(120_000)
    expect(retryAfter('Thu, 01 Jan 2026 00:01:00 GMT', now)).toBe(60_000)
    expect(retryAfter('Thu, 01 Jan 2025 00:01:00 GMT', now)).toBe(0)
    expect(retryAfter('9'.repeat(400), now)).toBe(ACME_RETRY_AFTER_MS_MAX)
  })
})

describe('an order', () => {
  it('is authorized and finalized once, however often its state comes back', () => {
    const statuses = fc.array(fc.constantFrom(...(['pending', 'ready', 'processing'] as const)), {
      maxLength: 3 * ACME_POLLS,
    })
    fc.assert(
      fc.property(statuses, (statuses) => {
        const run = new OrderRun('ca', 0)
        const steps: OrderStep['do'][] = []
        try {
          for (const status of statuses) {
            steps.push(run.next({ status }, undefined, 0).do)
          }
        } catch (error) {
          expect(error).toBeInstanceOf(AcmeError)
        }
        const count = (step: OrderStep['do']) => steps.filter((one) => one === step).length
        expect(count('authorize')).toBeLessThanOrEqual(1)
        expect(count('finalize')).toBeLessThanOrEqual(1)
        expect(count('wait')).toBeLessThanOrEqual(ACME_POLLS)
      }),
    )
  })

  it('that is valid without a certificate is waited for; one that is invalid says why', () => {
    const run = new OrderRun('ca', 0)
    expect(run.next({ status: 'valid' }, undefined, 0)).toEqual({ do: 'wait', ms: ACME_POLL_MS })
    expect(run.next({ status: 'valid', certificate: 'u' }, undefined, 0)).toEqual({
      do: 'download',
      url: 'u',
    })
    const error = { type: 'urn:ietf:params:acme:error:caa', detail: 'no' }
    expect(() => run.next({ status: 'invalid', error }, undefined, 0)).toThrow(
      'ca gave up the order (caa): no',
    )
  })

  it('is looked at for some time only', () => {
    const looks = new Looks('it', 0)
    expect(looks.next(7_200_000, 0)).toBe(60_000)
    expect(looks.next(0, 0)).toBe(1_000)
    expect(() => looks.next(0, ACME_ORDER_MS)).toThrow('it does not come to an end')
  })
})

describe('a certificate', () => {
  it('covers its names, and of a wildcard one label', () => {
    const leaf = { names: ['example.com', '*.example.com'] }
    const hosts = [
      'example.com',
      'a.example.com',
      '*.example.com',
      'a.b.example.com',
      '*.a.example.com',
      'com',
    ]
    expect(hosts.filter((host) => covers(leaf, host))).toEqual([
      'example.com',
      'a.example.com',
      '*.example.com',
    ])
    // A wildcard host needs the wildcard: one of the names that it stands for is not all of them.
    expect(covers({ names: ['a.example.com'] }, '*.example.com')).toBe(false)
  })

  it('is asked about by the id that RFC 9773 has as its example', async () => {
    // RFC 9773, 4.1 and appendix A.
    const pem = `MIIBQzCB66ADAgECAgUAh2VDITAKBggqhkjOPQQDAjAVMRMwEQYDVQQDEwpFeGFt
cGxlIENBMCIYDzAwMDEwMTAxMDAwMDAwWhgPMDAwMTAxMDEwMDAwMDBaMBYxFDAS
BgNVBAMTC2V4YW1wbGUuY29tMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEeBZu
7cbpAYNXZLbbh8rNIzuOoqOOtmxA1v7cRm//AwyMwWxyHz4zfwmBhcSrf47NUAFf
qzLQ2PPQxdTXREYEnKMjMCEwHwYDVR0jBBgwFoAUaYhba4dGQEHhs3uEe6CuLN4B
yNQwCgYIKoZIzj0EAwIDRwAwRAIge09+S5TZAlw5tgtiVvuERV6cT4mfutXIlwTb
+FYN/8oCIClDsqBklhB9KAelFiYt9+6FDj3z4KGVelYM5MdsO3pK`
    expect(await renewalId(Buffer.from(pem, 'base64'))).toBe('aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE')
  })
})
