import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect, createServer, type Server } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { TunnelError } from '../../src/errors.ts'
import { closeServer, listenOn } from '../../src/net/index.ts'

const servers: Server[] = []

function server(): Server {
  const made = createServer((socket) => socket.end())
  servers.push(made)
  return made
}

afterEach(async () => {
  await Promise.all(servers.splice(0).map(closeServer))
})

/** How many connections to a port are established, from both ends' view; looks until there are `all`, or for 2 s. */
function waitingFor(port: number, all: number): number {
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const deadline = performance.now() + 2_000
  for (;;) {
    const lines = readFileSync('/proc/net/tcp', 'utf8').split('\n')
    const there = lines.filter((line) => {
      const [, from, , state] = line.trim().split(/\s+/)
      return from === local && state === '01'
    }).length
    if (there >= all || performance.now() > deadline) return there
  }
}

async function whyNot(made: Server, address: { host?: string; port: number }): Promise<TunnelError> {
  const error = await listenOn(made, address).then(
    () => undefined,
    (error: unknown) => error,
  )
  if (!(error instanceof TunnelError)) throw new Error('it listens')
  return error
}

async function reaches(host: string, port: number): Promise<string> {
  const socket = connect({ host, port })
  try {
    await once(socket, 'connect')
    return 'yes'
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'no'
  } finally {
    socket.destroy()
  }
}

describe('listenOn', () => {
  it('has room for a burst: nobody of 1 500 who connect at once waits for the kernel to try again', async () => {
    const made = server()
    const { port } = await listenOn(made, { host: '127.0.0.1', port: 0 })
    const kernel = Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8'))
    const burst = Math.min(1_500, kernel)
    const answers = Array.from({ length: burst }, () => reaches('127.0.0.1', port))
    // Connected or not, in a turn in which nobody accepts: what has no room stays out until the kernel tries again.
    const connected = await new Promise<number>((resolve) =>
      process.nextTick(() => resolve(waitingFor(port, burst))),
    )
    expect(connected).toBe(burst)
    expect(new Set(await Promise.all(answers))).toEqual(new Set(['yes']))
  })

  it('picks a free port for port 0, and says where it listens', async () => {
    const at = await listenOn(server(), { host: '127.0.0.1', port: 0 })
    expect(at).toEqual({ host: '127.0.0.1', port: expect.any(Number) })
    expect(at.port).toBeGreaterThan(0)
    expect(await reaches('127.0.0.1', at.port)).toBe('yes')
  })

  it('listens on IPv4 as well when no host is named', async () => {
    const at = await listenOn(server(), { port: 0 })
    expect(['::', '0.0.0.0']).toContain(at.host)
    expect(await reaches('127.0.0.1', at.port)).toBe('yes')
    if (at.host === '::') expect(await reaches('::1', at.port)).toBe('yes')
  })

  it('says who sits on a port and how to find out', async () => {
    const { port } = await listenOn(server(), { host: '127.0.0.1', port: 0 })
    const second = server()
    const error = await whyNot(second, { host: '127.0.0.1', port })
    expect(error).toMatchObject({ code: 'address_in_use', scope: 'process' })
    expect(error.message).toBe(
      `cannot listen on 127.0.0.1:${port}: another program listens there: ` +
        `stop it (\`ss -ltnp 'sport = :${port}'\` names it), or choose another port`,
    )
    // The same server may try again.
    await listenOn(second, { host: '127.0.0.1', port: 0 })
  })

  it('says so for a busy port without a host, too, and does not settle for half of it', async () => {
    const { port } = await listenOn(server(), { host: '0.0.0.0', port: 0 })
    expect(await whyNot(server(), { port })).toMatchObject({
      code: 'address_in_use',
      message: expect.stringContaining(`cannot listen on :${port}: another program`) as string,
    })
  })

  it('says that an address is not of this machine', async () => {
    const error = await whyNot(server(), { host: '192.0.2.1', port: 0 })
    expect(error.message).toContain('192.0.2.1 is no address of this machine')
  })

  it('says what a low port needs', async () => {
    const denied = Object.assign(new Error('listen EACCES'), { code: 'EACCES' })
    const made = server()
    const failing = Object.create(made, {
      listen: { value: () => queueMicrotask(() => made.emit('error', denied)) },
    }) as Server
    expect((await whyNot(failing, { host: '::1', port: 80 })).message).toMatch(
      /^cannot listen on \[::1\]:80: .*AmbientCapabilities=CAP_NET_BIND_SERVICE.*setcap/,
    )
    expect((await whyNot(failing, { host: '::1', port: 8080 })).message).toContain('choose another port')
  })

  it('takes IPv4 alone on a machine without IPv6', async () => {
    const none = Object.assign(new Error('listen EAFNOSUPPORT'), { code: 'EAFNOSUPPORT' })
    const made = server()
    const hosts: unknown[] = []
    const failing = Object.create(made, {
      listen: {
        value: (options: { host: string; port: number }) => {
          hosts.push(options.host)
          if (options.host === '::') queueMicrotask(() => made.emit('error', none))
          else made.listen(options)
        },
      },
    }) as Server
    expect((await listenOn(failing, { port: 0 })).host).toBe('0.0.0.0')
    expect(hosts).toEqual(['::', '0.0.0.0'])
  })

  it('leaves no listener on the server', async () => {
    const made = server()
    await listenOn(made, { host: '127.0.0.1', port: 0 })
    expect(made.listenerCount('error') + made.listenerCount('listening')).toBe(0)
  })
})

describe('closeServer', () => {
  it('is fine with a server that never listened, or is closed already', async () => {
    const made = server()
    await closeServer(made)
    await listenOn(made, { host: '127.0.0.1', port: 0 })
    await closeServer(made)
    await closeServer(made)
    expect(made.listening).toBe(false)
  })
})
