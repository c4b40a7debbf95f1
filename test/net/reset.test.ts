import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { closeServer, resetSocket } from '../../src/net/index.ts'

let server: Server
let near: Socket
let far: Socket
beforeEach(async () => {
  server = createServer({ allowHalfOpen: true }).listen({ host: '127.0.0.1', port: 0 })
  await once(server, 'listening')
  far = connect({ host: '127.0.0.1', port: (server.address() as AddressInfo).port, allowHalfOpen: true })
  ;[near] = (await once(server, 'connection')) as [Socket]
  far.resume()
})
afterEach(async () => {
  near.destroy()
  far.destroy()
  await closeServer(server)
})

const descriptors = (): number => readdirSync('/proc/self/fd').length

describe('resetSocket', () => {
  it('resets the other side', async () => {
    const failed = once(far, 'error')
    resetSocket(near)
    expect(await failed).toMatchObject([{ code: 'ECONNRESET' }])
  })

  it('closes a socket whose end is on its way, which the other side has seen as one, and keeps no descriptor', async () => {
    const before = descriptors()
    const errors: unknown[] = []
    near.on('error', (error) => errors.push(error))
    near.write('whole')
    near.end()
    resetSocket(near)
    await Promise.all([once(near, 'close'), once(far, 'end')])
    far.destroy()
    await once(far, 'close')
    expect(errors).toEqual([])
    expect(descriptors()).toBe(before - 2)
  })
})
