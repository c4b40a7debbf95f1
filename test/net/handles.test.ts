import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import {
  bindPort,
  closeServer,
  detachHandle,
  type Handle,
  listenOn,
  listenOnHandle,
  socketOf,
} from '../../src/net/index.ts'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})

function server(onConnection?: (socket: Socket) => void): Server {
  const made = createServer(onConnection)
  closing.push(() => closeServer(made))
  return made
}

function dial(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  closing.push(() => socket.destroy())
  return once(socket, 'connect').then(() => socket)
}

describe('a bound port', () => {
  it('is nobody’s until somebody listens, who then has all that come', async () => {
    const { handle, host, port } = await bindPort({ host: '127.0.0.1', port: 0 })
    expect(host).toBe('127.0.0.1')
    await expect(dial(port)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    const accepted: Socket[] = []
    const listening = server((socket) => void accepted.push(socket.end()))
    await listenOnHandle(listening, handle, { port })
    await once((await dial(port)).resume(), 'end')
    expect(accepted).toHaveLength(1)
  })

  it('is of IPv6 and IPv4 without a host', async () => {
    const { handle, port } = await bindPort({ port: 0 })
    await listenOnHandle(
      server((socket) => void socket.end()),
      handle,
      { port },
    )
    await once((await dial(port)).resume(), 'end')
  })

  it('that another has is said to be in use, as where one listens by oneself', async () => {
    const { port } = await listenOn(server(), { host: '127.0.0.1', port: 0 })
    const own = await listenOn(server(), { host: '127.0.0.1', port }).catch((error: Error) => error.message)
    await expect(bindPort({ host: '127.0.0.1', port })).rejects.toMatchObject({
      code: 'address_in_use',
      message: own,
      cause: { code: 'EADDRINUSE' },
    })
  })

  it('is found by the name of its host; what is no address of this machine is said to be none', async () => {
    const { handle, host } = await bindPort({ host: 'localhost', port: 0 })
    handle.close()
    expect(['127.0.0.1', '::1']).toContain(host)
    await expect(bindPort({ host: '192.0.2.1', port: 0 })).rejects.toThrow(/is no address of this machine/)
    await expect(bindPort({ host: 'nobody.invalid', port: 0 })).rejects.toMatchObject({
      code: 'address_in_use',
    })
  })

  it('is free again once its handle is closed', async () => {
    const { handle, port } = await bindPort({ host: '127.0.0.1', port: 0 })
    handle.close()
    // The system closes it in the next turn.
    await new Promise(setImmediate)
    expect((await listenOn(server(), { host: '127.0.0.1', port })).port).toBe(port)
  })
})

describe('the handle of a socket', () => {
  it('is read no more here: what comes later lies in the kernel for whoever gets it', async () => {
    const listening = server()
    const { port } = await listenOn(listening, { host: '127.0.0.1', port: 0 })
    const accepted = once(listening, 'connection') as Promise<[Socket]>
    const other = await dial(port)
    const [socket] = await accepted
    const heard = once(socket, 'data') as Promise<[Buffer]>
    other.write('first')
    let handle: Handle | undefined
    socket.once('data', () => {
      handle = detachHandle(socket)
    })
    expect(String((await heard)[0])).toBe('first')
    if (handle === undefined) throw new Error('it has a handle')
    await new Promise<void>((resolve) => other.write('second', () => resolve()))
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate)
    expect([socket.destroyed, socket.readableLength]).toEqual([true, 0])
    const next = socketOf(handle)
    closing.push(() => next.destroy())
    expect(String(((await once(next, 'data')) as [Buffer])[0])).toBe('second')
    next.end('third')
    expect(String(((await once(other, 'data')) as [Buffer])[0])).toBe('third')
  })

  it('is none once it is closed', () => {
    const socket = connect(1, '127.0.0.1').on('error', () => {})
    socket.destroy()
    expect(detachHandle(socket)).toBeUndefined()
  })
})
