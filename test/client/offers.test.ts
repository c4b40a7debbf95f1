import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Offers } from '../../src/client/offers.ts'
import { HELLO_BYTES, REFUSED_RETRY_MS } from '../../src/limits.ts'
import { encodeControl, type ServiceOffer } from '../../src/protocol/index.ts'

const http = (name: string): ServiceOffer => ({ name, type: 'http' })
const tcp = (name: string, port: number): ServiceOffer => ({ name, type: 'tcp', port })
const up = ({ name }: ServiceOffer) => ({ name, urls: [] })
const error = { code: 'route_taken', message: 'taken' } as const
const envelope = { type: 'hello', services: [] }

/** Offers that were all in the `hello` and got their answers. */
function offered(...offers: ServiceOffer[]): Offers {
  const made = new Offers()
  made.want(offers)
  made.hello(envelope, HELLO_BYTES)
  made.registered(0, offers.map(up), 0)
  return made
}

describe('what a tunnel offers', () => {
  it('goes with the hello as far as it fits, and the rest in requests, one at a time', () => {
    const offers = new Offers()
    const list = Array.from({ length: 1000 }, (_, at) => http(`${at}`.padStart(250, 's')))
    offers.want(list)
    const first = offers.hello(envelope, HELLO_BYTES)
    expect(JSON.stringify({ ...envelope, services: first }).length).toBeLessThanOrEqual(HELLO_BYTES)
    expect(offers.next(0)).toBeUndefined()
    offers.registered(0, first.map(up), 0)
    const sent = [...first]
    for (let request = offers.next(0); request !== undefined; request = offers.next(0)) {
      if (request.type !== 'register') throw new Error('nothing is there to unregister')
      expect(() => encodeControl(request)).not.toThrow()
      expect(offers.next(0)).toBeUndefined()
      sent.push(...request.services)
      offers.registered(request.seq, request.services.map(up), 0)
    }
    expect(sent).toEqual(list)
    expect(offers.answered).toBe(true)
  })

  it('is told once: the same list again asks for nothing', () => {
    const offers = offered(http('a'), tcp('b', 22))
    offers.want([tcp('b', 22), http('a')])
    expect(offers.next(0)).toBeUndefined()
  })

  it('takes back what is gone, and only then asks for what changed', () => {
    const offers = offered(http('a'), tcp('b', 22), tcp('c', 33))
    offers.want([http('a'), tcp('b', 23)])
    const goodbye = offers.next(0)
    expect(goodbye).toMatchObject({ type: 'unregister', names: ['b', 'c'] })
    expect(goodbye).not.toHaveProperty('release')
    expect(offers.next(0)).toBeUndefined()
    offers.unregistered(goodbye?.seq ?? -1)
    expect(offers.next(0)).toMatchObject({ type: 'register', services: [tcp('b', 23)] })
    expect(offers.has('c')).toBe(false)
  })

  it.each<[string, Partial<ServiceOffer>]>([
    ['what answers', { generation: 'b' }],
    ['what the gateway changes in requests', { rewrite: { host: 'intern.local' } }],
    ['what may be repeated', { retry: 'idempotent' }],
    ['whether streams are shared', { share: false }],
  ])('is registered over what is there when only %s has changed, and served all the time', (_, change) => {
    const web = { name: 'web', type: 'http', hosts: ['a.example'], path: '/a', generation: 'a' } as const
    const offers = offered({ ...web, hosts: ['a.example'] }, http('other'))
    const now: ServiceOffer = { ...web, hosts: ['a.example'], ...change }
    offers.want([now, http('other')])
    expect(offers.has('web')).toBe(true)
    expect(offers.answer('web')).toEqual({ urls: [] })
    const request = offers.next(0)
    expect(request).toMatchObject({ type: 'register', services: [now] })
    expect(offers.has('web')).toBe(true)
    expect(offers.registered(request?.seq ?? -1, [{ name: 'web', urls: ['http://x'] }], 0)).toEqual(['web'])
    expect(offers.answer('web')).toEqual({ urls: ['http://x'] })
    expect(offers.next(0)).toBeUndefined()
  })

  it.each<[string, Partial<ServiceOffer>]>([
    ['type', { type: 'https' }],
    ['hosts', { hosts: ['b.example'] }],
    ['path', { path: '/b' }],
    ['port', { port: 1 }],
    ['tls', { tls: 'acme' }],
  ])('is taken back first when its %s has changed', (_, change) => {
    const web: ServiceOffer = { name: 'web', type: 'http', hosts: ['a.example'], generation: 'a' }
    const offers = offered(web)
    offers.want([{ ...web, ...change }])
    expect(offers.next(0)).toMatchObject({ type: 'unregister', names: ['web'] })
  })

  it('is registered over what was asked for and has no answer yet', () => {
    const offers = new Offers()
    offers.want([{ ...http('a'), generation: '1' }])
    offers.hello(envelope, HELLO_BYTES)
    offers.want([{ ...http('a'), generation: '2' }])
    expect(offers.registered(0, [up(http('a'))], 0)).toEqual([])
    expect(offers.answered).toBe(false)
    expect(offers.next(0)).toMatchObject({ type: 'register', services: [{ name: 'a', generation: '2' }] })
  })

  it('is taken back when what it has become is refused, so that nothing goes on as it was', () => {
    const offers = offered(http('a'))
    offers.want([{ ...http('a'), generation: '2' }])
    const request = offers.next(0)
    expect(offers.registered(request?.seq ?? -1, [{ name: 'a', error }], 0)).toEqual(['a'])
    const goodbye = offers.next(0)
    expect(goodbye).toMatchObject({ type: 'unregister', names: ['a'] })
    offers.unregistered(goodbye?.seq ?? -1)
    // And asked for again like any other; refused once more, there is nothing to take back.
    const again = offers.next(REFUSED_RETRY_MS)
    expect(again).toMatchObject({ type: 'register' })
    offers.registered(again?.seq ?? -1, [{ name: 'a', error }], REFUSED_RETRY_MS)
    expect(offers.next(REFUSED_RETRY_MS)).toBeUndefined()
  })

  it('counts as withdrawn also while its change waits to be told', () => {
    const offers = offered(http('a'))
    offers.want([{ ...http('a'), generation: '2' }])
    expect(offers.withdrawn([{ name: 'a', error }], 0)).toEqual(['a'])
    expect(offers.next(0)).toBeUndefined()
    expect(offers.answer('a')).toEqual({ error })
  })

  it('believes no answer to an earlier shape of a service, no second one and none unasked', () => {
    const offers = new Offers()
    offers.want([tcp('a', 1)])
    offers.hello(envelope, HELLO_BYTES)
    offers.want([tcp('a', 2)])
    expect(offers.registered(0, [{ name: 'a', urls: ['tcp://x:1'] }, up(http('never'))], 0)).toEqual([])
    expect(offers.answered).toBe(false)
    offers.unregistered(offers.next(0)?.seq ?? -1)
    const request = offers.next(0)
    expect(request).toMatchObject({ type: 'register', services: [tcp('a', 2)] })
    expect(offers.registered(request?.seq ?? -1, [{ name: 'a', error }, up(http('a'))], 0)).toEqual(['a'])
    expect(offers.answer('a')).toEqual({ error })
  })

  it('takes an answer in parts', () => {
    const offers = new Offers()
    offers.want([http('a'), http('b')])
    offers.hello(envelope, HELLO_BYTES)
    expect(offers.registered(0, [up(http('a'))], 0)).toEqual(['a'])
    expect(offers.answered).toBe(false)
    expect(offers.registered(0, [up(http('b'))], 0)).toEqual(['b'])
    expect(offers.answered).toBe(true)
  })

  it('asks again for what was refused or withdrawn, after a while and not before', () => {
    const offers = offered(http('a'), http('b'), http('c'))
    expect(offers.due).toBeUndefined()
    expect(offers.withdrawn([{ name: 'a', error }], 1000)).toEqual(['a'])
    expect(offers.withdrawn([{ name: 'a', error }], 1500)).toEqual([])
    expect(offers.withdrawn([{ name: 'b', error }], 2000)).toEqual(['b'])
    const due = offers.due ?? 0
    expect(due).toBe(1000 + REFUSED_RETRY_MS)
    expect(offers.next(due - 1)).toBeUndefined()
    const request = offers.next(due)
    expect(request).toMatchObject({ type: 'register', services: [http('a')] })
    expect(offers.due).toBeUndefined()
    offers.registered(request?.seq ?? -1, [up(http('a'))], due)
    expect(offers.due).toBe(2000 + REFUSED_RETRY_MS)
  })

  it('leaves a gateway that answers everything with exactly the last list, whatever the changes were', () => {
    const name = fc.constantFrom('a', 'b', 'c', 'd')
    const list = fc.uniqueArray(
      fc.record({
        name,
        type: fc.constant('tcp' as const),
        port: fc.integer({ min: 1, max: 3 }),
        generation: fc.constantFrom('1', '2'),
      }),
      { selector: (offer) => offer.name },
    )
    // Between two changes the gateway answers some requests.
    const steps = fc.array(fc.record({ list, answers: fc.nat(3) }), { minLength: 1, maxLength: 12 })
    fc.assert(
      fc.property(steps, (steps) => {
        const offers = new Offers()
        const gateway = new Map<string, ServiceOffer>()
        const [first, ...later] = steps
        offers.want(first?.list ?? [])
        const hello = offers.hello(envelope, HELLO_BYTES)
        for (const offer of hello) gateway.set(offer.name, offer)
        offers.registered(0, hello.map(up), 0)
        const answer = (times: number): void => {
          for (let i = 0; i < times; i++) {
            const request = offers.next(0)
            if (request === undefined) return
            if (request.type === 'register') {
              for (const offer of request.services) {
                // The real one refuses a service that is registered on another route.
                expect(gateway.get(offer.name)?.port ?? offer.port).toBe(offer.port)
                gateway.set(offer.name, offer)
              }
              offers.registered(request.seq, request.services.map(up), 0)
            } else {
              for (const name of request.names) gateway.delete(name)
              offers.unregistered(request.seq)
            }
          }
        }
        for (const { list, answers } of later) {
          offers.want(list)
          answer(answers)
        }
        answer(Number.POSITIVE_INFINITY)
        const last = steps.at(-1)?.list ?? []
        expect([...gateway.values()].map((offer) => JSON.stringify(offer)).sort()).toEqual(
          last.map((offer) => JSON.stringify(offer)).sort(),
        )
        expect(offers.answered).toBe(true)
      }),
    )
  })
})
