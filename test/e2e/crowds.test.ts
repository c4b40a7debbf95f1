import { connect } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ask, freePort, Target, Visitor } from './visitors.ts'
import { until, World } from './world.ts'

let world: World
beforeEach(() => {
  world = new World()
})
afterEach(() => world.close())

/** Connections that say nothing by themselves, and end when the test does. */
function connections(count: number, port: number): Visitor[] {
  return Array.from({ length: count }, () => {
    const visitor = new Visitor(connect({ host: '127.0.0.1', port })).read()
    world.with({ close: () => void visitor.socket.destroy() })
    return visitor
  })
}

describe('on the port of the tunnels', () => {
  it('2 000 silent connections keep no client out, and cost no visitor anything', async () => {
    const gateway = await world.gateway()
    const web = world.with(await Target.web('here'))
    const silent = connections(2_000, gateway.clients)
    await world.join('home', gateway)
    const { port } = await world.offer('home', ['http', String(web.port)])
    expect(await ask(port)).toEqual({ status: 200, body: 'here' })
    // The oldest were let go; the others wait for their end.
    await until('most of them are closed', () => {
      const open = silent.filter(({ socket }) => !socket.destroyed).length
      return open <= 128 ? true : `${open} are open`
    })
    expect(await gateway.gauge('blindgate_unauthenticated')).toBeLessThanOrEqual(128)
  })

  it('garbage, a browser and a TLS client of another protocol are closed, and make no noise', async () => {
    const gateway = await world.gateway()
    for (const words of ['x'.repeat(5_000), 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n']) {
      const [visitor] = connections(1, gateway.clients)
      visitor?.socket.write(words)
      await visitor?.closed
    }
    for (const ALPNProtocols of [['h2', 'http/1.1'], undefined]) {
      const stranger = connectTls({
        host: '127.0.0.1',
        port: gateway.clients,
        rejectUnauthorized: false,
        ...(ALPNProtocols === undefined ? {} : { ALPNProtocols }),
      })
      await new Visitor(stranger).read().closed
    }
    expect(await gateway.gauge('blindgate_unauthenticated')).toBe(0)
    expect(gateway.program.err).not.toMatch(/"level":"(?:error|debug)"/)
  })
})

describe('with few descriptors', () => {
  it.each(['gateway', 'client'] as const)(
    'more visitors than the %s has room for cost it neither its tunnel nor its later visitors',
    async (side) => {
      const few = { descriptors: 300 }
      const gateway = await world.gateway([], side === 'gateway' ? few : {})
      await world.join('home', gateway)
      const [echo, port] = await Promise.all([Target.echo(), freePort()])
      world.with(echo)
      const tcp = ['tcp', String(echo.port), '--port', String(port)]
      const { program } = await world.offer('home', tcp, side === 'client' ? few : {})

      const crowd = connections(400, port)
      for (const { socket } of crowd) socket.write('hello')
      await until('each visitor is served or sent away', () => {
        const open = crowd.filter(({ socket, received }) => !socket.destroyed && received === 0).length
        return open === 0 ? true : `${open} have no answer`
      })
      const served = crowd.filter(({ socket }) => !socket.destroyed)
      expect(served.length).toBeGreaterThan(40)
      expect(served.length).toBeLessThan(300)
      expect(gateway.program.err).not.toContain('client gone: the tunnel')

      for (const { socket } of served) socket.destroy()
      await gateway.reaches('blindgate_visitors', 0)
      await (await Visitor.to(port)).read().echo('later')
      expect(program.err).not.toContain('lost gateway')
      expect(program.child.exitCode).toBe(null)
      // Commands still get through.
      expect(await gateway.command(['clients'])).toContain(' yes ')
    },
  )
})
