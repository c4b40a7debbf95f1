/** The messages that change DNS, against what miekg/dns makes of the same; and hooks. */

import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { exchange } from '../../src/client/acme/dns/exchange.ts'
import { readAnswer, updateMessage } from '../../src/client/acme/dns/messages.ts'
import { sign, type TsigKey, verify } from '../../src/client/acme/dns/tsig.ts'
import { HookWriter } from '../../src/client/acme/dns/writers.ts'
import { newFolder } from '../state/folders.ts'
import vectors from './tsig.vectors.json' with { type: 'json' }

const zone = 'example.test'
const record = { name: '_acme-challenge.example.test', value: 'abcDEF-_123' }
const now = 1_700_000_000_000
const keyOf = (algorithm: string): TsigKey => ({
  name: 'blindgate.key',
  algorithm: algorithm as TsigKey['algorithm'],
  secret: Uint8Array.from({ length: 16 }, (_none, at) => at + 1),
})

describe('an update', () => {
  it.each(vectors)('to $action, signed with $algorithm, is what others make of it', (vector) => {
    const message = updateMessage(vector.action as 'add' | 'remove', { zone, record, id: 0x1234 })
    const signed = sign(message, keyOf(vector.algorithm), now)
    expect(signed.message.toString('hex')).toBe(vector.request)
    expect(signed.mac.toString('hex')).toBe(vector.mac)
  })

  it.each(vectors)('has an answer that is believed only as it was signed ($action, $algorithm)', (vector) => {
    const key = keyOf(vector.algorithm)
    const answer = Buffer.from(vector.response, 'hex')
    const mac = Buffer.from(vector.mac, 'hex')
    expect(verify(answer, key, now, mac)).toBe('ok')
    expect(readAnswer(answer, 0x1234)).toMatchObject({ code: 'NOERROR' })
    expect(readAnswer(answer, 0x1235)).toBeUndefined()
    // Counts that would have the decoder follow every name that points at another.
    const many = Buffer.from(answer)
    many.writeUInt16BE(0x0300, 6)
    expect(readAnswer(Buffer.concat([many, Buffer.alloc(0x0300 * 11)]), 0x1234)).toBeUndefined()
    expect(verify(answer, key, now + 302_000, mac)).toBe('badtime')
    expect(verify(answer, key, now, Buffer.alloc(mac.length))).toBe('unsigned')
    expect(verify(answer, { ...key, secret: Buffer.alloc(16) }, now, mac)).toBe('unsigned')
    expect(verify(answer, { ...key, name: 'other.key' }, now, mac)).toBe('unsigned')
    // The id is another check's: a server on the way may change it (RFC 8945, 5.3).
    for (let at = 2; at < answer.length; at++) {
      const forged = Buffer.from(answer)
      forged.writeUInt8(forged.readUInt8(at) ^ 1, at)
      expect([at, verify(forged, key, now, mac)]).toEqual([at, 'unsigned'])
    }
    for (let length = 0; length < answer.length; length++) {
      expect(verify(answer.subarray(0, length), key, now, mac)).toBe('unsigned')
    }
  })

  it('reads whatever a server answers without a throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
        readAnswer(Buffer.from(bytes), 1)
        expect(verify(Buffer.from(bytes), keyOf('hmac-sha256'), now)).toBe('unsigned')
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('a question to a name server', () => {
  it.each<[string, (socket: net.Socket) => void]>([
    ['says nothing', () => undefined],
    ['hangs up', (socket) => socket.end()],
    ['sends half', (socket) => socket.end(Buffer.of(0, 9, 1))],
  ])('that %s ends', async (_what, behave) => {
    const server = net.createServer((socket) => {
      socket.on('error', () => undefined)
      socket.resume()
      behave(socket)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as net.AddressInfo
    const { signal } = new AbortController()
    await expect(exchange({ host: '127.0.0.1', port }, Buffer.alloc(12), signal, 100)).rejects.toThrow(
      /no answer|closed/,
    )
    const over = exchange({ host: '127.0.0.1', port }, Buffer.alloc(12), AbortSignal.abort())
    await expect(over).rejects.toThrow('aborted')
    await new Promise((resolve) => server.close(resolve))
  })
})

describe('a hook', () => {
  async function hook(script: string): Promise<string> {
    const path = join(await newFolder(), 'hook')
    await writeFile(path, `#!/bin/sh\n${script}\n`, { mode: 0o700 })
    return path
  }
  const { signal } = new AbortController()

  it('gets its values as they are, by no shell', async () => {
    const path = await hook(
      'printf "%s|%s|%s" "$BLINDGATE_ACTION" "$BLINDGATE_NAME" "$BLINDGATE_VALUE" > "$0.out"',
    )
    const strange = { name: '$(id).example.test', value: '`id`; "x" \\ $HOME' }
    await new HookWriter(path).write('add', strange, signal)
    expect(await readFile(`${path}.out`, 'utf8')).toBe(`add|${strange.name}|${strange.value}`)
  })

  it('that never ends is stopped', async () => {
    const path = await hook('exec sleep 1000')
    await expect(new HookWriter(path, 100).write('add', record, signal)).rejects.toThrow(
      'did not end within 0.1 s',
    )
  })

  it('that writes without end is stopped', async () => {
    const path = await hook('exec yes')
    await expect(new HookWriter(path).write('add', record, signal)).rejects.toThrow('wrote too much')
  })

  it('that is not there, or is no program, is said', async () => {
    await expect(new HookWriter('/nonexistent/hook').write('add', record, signal)).rejects.toThrow(
      'the hook /nonexistent/hook add _acme-challenge.example.test failed (ENOENT)',
    )
  })

  it('of an order that is given up is stopped', async () => {
    const path = await hook('exec sleep 1000')
    const abort = new AbortController()
    const written = new HookWriter(path).write('add', record, abort.signal)
    abort.abort()
    await expect(written).rejects.toMatchObject({ name: 'AbortError' })
  })
})
