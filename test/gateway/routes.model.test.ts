import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { TunnelError } from '../../src/errors.ts'
import { type Replica, Routes } from '../../src/gateway/routes.ts'
import { PASSED_OVER_MAX_MS } from '../../src/limits.ts'

const TUNNELS = ['a', 'b', 'c', 'd']
const ROUTES = ['default', 'tcp:1', 'tcp:2']

const tunnel = fc.constantFrom(...TUNNELS)
const route = fc.constantFrom(...ROUTES)
const service = fc.constantFrom('web', 'api')
const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      does: fc.constant('register' as const),
      tunnel,
      name: fc.constantFrom('home', 'home', 'home', 'office'),
      service,
      type: fc.constantFrom('http' as const, 'http' as const, 'tcp' as const),
      route,
    }),
  },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('unregister' as const), tunnel, service }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('drop' as const), tunnel }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('withdraw' as const), route }) },
  {
    weight: 2,
    arbitrary: fc.record({ does: fc.constant('suspect' as const), tunnel, suspect: fc.boolean() }),
  },
  {
    weight: 6,
    arbitrary: fc.record({ does: fc.constant('visit' as const), route, exclude: fc.subarray(TUNNELS) }),
  },
  { weight: 3, arbitrary: fc.record({ does: fc.constant('end' as const), which: fc.nat() }) },
  {
    weight: 2,
    arbitrary: fc.record({ does: fc.constant('health' as const), tunnel, service, up: fc.boolean() }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      does: fc.constant('answered' as const),
      which: fc.nat(),
      well: fc.boolean(),
      after: fc.constantFrom(0, 500, 1_000, 5_000),
    }),
  },
)

/** One row of the naive table. */
interface Row {
  tunnel: string
  route: string
  name: string
  service: string
  type: string
}

test('the table agrees with a naive list, whatever happens in whatever order', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80, size: 'max' }), (steps) => {
      const suspect = new Set<string>()
      const heard = new Map<string, boolean>()
      const hear = (route: string, usable: boolean) => {
        expect(heard.get(route) ?? false).toBe(!usable)
        heard.set(route, usable)
      }
      const routes = new Routes<string>({
        isLive: (tunnel) => !suspect.has(tunnel),
        onLive: (route) => hear(route, true),
        onGone: (route) => hear(route, false),
      })
      let rows: Row[] = []
      const streams: { replica: Replica<string>; row: Row }[] = []
      const on = (route: string) => rows.filter((row) => row.route === route)
      let now = 0
      /** Of a service of a tunnel, while it is offered. */
      const down = new Set<string>()
      const targetOf = ({ tunnel, service }: { tunnel: string; service: string }) => `${tunnel} ${service}`
      const forgetGone = () => {
        const there = new Set(rows.map(targetOf))
        for (const target of down) if (!there.has(target)) down.delete(target)
      }
      const works = (row: Row) => !suspect.has(row.tunnel) && !down.has(targetOf(row))
      const active = ({ tunnel, service }: Row) =>
        streams.filter(({ row }) => row.tunnel === tunnel && row.service === service && rows.includes(row))
          .length

      for (const step of steps) {
        switch (step.does) {
          case 'register': {
            const { tunnel, name, service, type, route } = step
            const others = on(route).filter(
              (row) => row.name !== name || row.service !== service || row.type !== type,
            )
            const blocking = others.filter((row) => row.tunnel === tunnel || !suspect.has(row.tunnel))
            let code: string | undefined
            let displaced: string[] = []
            try {
              displaced = routes
                .register(tunnel, name, { name: service, type }, [route])
                .map((one) => one.tunnel)
            } catch (error) {
              if (!(error instanceof TunnelError)) throw error
              code = error.code
            }
            const blocker = blocking[0]
            if (blocker !== undefined) {
              expect(code).toBe(blocker.name === name ? 'route_conflict' : 'route_taken')
              break
            }
            expect(code).toBeUndefined()
            expect(displaced).toEqual(others.map((row) => row.tunnel))
            rows = rows.filter((row) => !others.includes(row))
            if (!on(route).some((row) => row.tunnel === tunnel))
              rows.push({ tunnel, route, name, service, type })
            break
          }
          case 'unregister': {
            const gone = routes.unregister(step.tunnel, [step.service])
            const lost = rows.filter((row) => row.tunnel === step.tunnel && row.service === step.service)
            expect(gone.map((one) => one.route).sort()).toEqual(lost.map((row) => row.route).sort())
            rows = rows.filter((row) => !lost.includes(row))
            break
          }
          case 'drop':
            routes.drop(step.tunnel)
            rows = rows.filter((row) => row.tunnel !== step.tunnel)
            break
          case 'withdraw':
            expect(routes.withdraw(step.route).map((one) => one.tunnel)).toEqual(
              on(step.route).map((row) => row.tunnel),
            )
            rows = rows.filter((row) => row.route !== step.route)
            break
          case 'suspect':
            if (step.suspect) suspect.add(step.tunnel)
            else suspect.delete(step.tunnel)
            routes.refresh(step.tunnel)
            break
          case 'visit': {
            const allowed = on(step.route).filter((row) => works(row) && !step.exclude.includes(row.tunnel))
            const until = (row: Row) => replicaOf(routes, row).passedOver
            const good = allowed.filter((row) => until(row) <= now)
            const soonest = Math.min(...allowed.map(until))
            const eligible = good.length > 0 ? good : allowed.filter((row) => until(row) === soonest)
            const picked = routes.pick(step.route, new Set(step.exclude), now)
            const row = eligible.find((row) => row.tunnel === picked?.tunnel)
            expect(picked === undefined).toBe(eligible.length === 0)
            if (picked === undefined) break
            if (row === undefined) throw new Error('picked what is not eligible')
            const least = Math.min(...eligible.map((row) => loadOf(routes, row)))
            if (good.length > 0) expect(picked.active).toBe(least)
            routes.begin(picked)
            streams.push({ replica: picked, row })
            break
          }
          case 'health': {
            const offered = rows.some((row) => targetOf(row) === targetOf(step))
            expect(routes.setHealth(step.tunnel, step.service, step.up)).toBe(
              offered && step.up === down.has(targetOf(step)),
            )
            if (offered && !step.up) down.add(targetOf(step))
            if (step.up) down.delete(targetOf(step))
            break
          }
          case 'answered': {
            now += step.after
            const stream = streams[step.which % Math.max(1, streams.length)]
            if (stream === undefined) break
            if (step.well) routes.worked(stream.replica)
            else routes.failed(stream.replica, now)
            const { passedOver } = stream.replica
            expect(passedOver > now).toBe(!step.well)
            expect(passedOver - now).toBeLessThanOrEqual(PASSED_OVER_MAX_MS)
            break
          }
          case 'end': {
            const [stream] = streams.splice(step.which % Math.max(1, streams.length), 1)
            if (stream !== undefined) routes.end(stream.replica)
            break
          }
        }
        forgetGone()
        for (const route of ROUTES) {
          expect(routes.replicas(route).map((one) => one.tunnel)).toEqual(on(route).map((row) => row.tunnel))
          expect(new Set(on(route).map((row) => `${row.name} ${row.service} ${row.type}`)).size).toBeLessThan(
            2,
          )
          const usable = on(route).some(works)
          expect(routes.usable(route)).toBe(usable)
          expect(heard.get(route) ?? false).toBe(usable)
        }
        for (const row of rows) expect(loadOf(routes, row)).toBeGreaterThanOrEqual(active(row))
        for (const tunnel of TUNNELS) {
          const mine = rows.filter((row) => row.tunnel === tunnel)
          expect(
            routes
              .of(tunnel)
              .map((one) => one.route)
              .sort(),
          ).toEqual(mine.map((row) => row.route).sort())
        }
      }
      // Every begun stream ends: nothing is left counted.
      for (const { replica } of streams) routes.end(replica)
      for (const row of rows) expect(loadOf(routes, row)).toBe(0)
    }),
    { numRuns: 80 },
  )
})

function loadOf(routes: Routes<string>, row: Row): number {
  return replicaOf(routes, row).active
}

function replicaOf(routes: Routes<string>, row: Row): Replica<string> {
  const replica = routes.replicas(row.route).find((one) => one.tunnel === row.tunnel)
  if (replica === undefined) throw new Error('the row is not in the table')
  return replica
}

test('no replica that stays is passed over for long: equals take turns', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 0, max: 30 }), (replicas, visits) => {
      const routes = new Routes<number>({ isLive: () => true })
      for (let n = 0; n < replicas; n++)
        routes.register(n, 'home', { name: 'web', type: 'http' }, ['default'])
      const seen = Array.from({ length: replicas }, () => 0)
      for (let n = 0; n < visits; n++) {
        const tunnel = routes.pick('default')?.tunnel ?? -1
        seen[tunnel] = (seen[tunnel] ?? 0) + 1
      }
      expect(Math.max(...seen) - Math.min(...seen)).toBeLessThanOrEqual(1)
    }),
    { numRuns: 50 },
  )
})
