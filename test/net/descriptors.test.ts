import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { describe, expect, it } from 'vitest'
import { RESERVED_DESCRIPTORS } from '../../src/limits.ts'
import {
  closeServer,
  descriptorLimit,
  descriptorsForVisitors,
  listenOn,
  socketOptions,
  visitorServerOptions,
} from '../../src/net/index.ts'

describe('descriptors', () => {
  it('knows the soft limit of this process', () => {
    const limit = descriptorLimit()
    if (!existsSync('/proc/self/limits')) {
      expect(limit).toBe(undefined)
      return
    }
    const shell = execFileSync('sh', ['-c', 'ulimit -Sn'], { encoding: 'utf8' }).trim()
    expect(shell).toBe(limit === undefined ? 'unlimited' : String(limit))
  })

  it('leaves the reserve to others, and something to visitors where the limit is tiny', () => {
    expect(descriptorsForVisitors(65_536)).toBe(65_536 - RESERVED_DESCRIPTORS)
    expect(descriptorsForVisitors(1_024)).toBe(1_024 - RESERVED_DESCRIPTORS)
    expect(descriptorsForVisitors(256)).toBe(51)
    expect(descriptorsForVisitors()).toBeGreaterThan(0)
  })

  it('has options that Node takes, on both ends of a connection', async () => {
    const server = createServer(visitorServerOptions, (socket) => {
      expect(socket.allowHalfOpen).toBe(true)
      expect(socket.readableHighWaterMark).toBe(visitorServerOptions.highWaterMark)
      socket.end()
    })
    const { port } = await listenOn(server, { host: '127.0.0.1', port: 0 })
    const socket = connect({ port, host: '127.0.0.1', ...socketOptions })
    socket.resume()
    await new Promise((resolve) => socket.once('end', resolve))
    socket.end()
    await closeServer(server)
  })
})
