/** A second ClientHello reader, written apart from the first and as plainly as possible: all bytes at once, no care for speed. */
import { isIP } from 'node:net'
import type { ClientHello } from '../../src/protocol/index.ts'

export type Outcome = 'more' | 'refused' | ClientHello

class Refused extends Error {}

function must(held: boolean): void {
  if (!held) throw new Refused()
}

/** What a connection says that began with these bytes, and goes on. */
export function naiveHello(bytes: Buffer): Outcome {
  try {
    const message = naiveMessage(bytes)
    return message === undefined ? 'more' : naiveBody(message)
  } catch (error) {
    if (error instanceof Refused) return 'refused'
    throw error
  }
}

/** The content of the first handshake message: what its records hold is put together. */
function naiveMessage(bytes: Buffer): Buffer | undefined {
  let joined: Buffer = Buffer.alloc(0)
  let left = bytes
  for (let records = 1; left.length > 0; records += 1) {
    must(left[0] === 0x16 && records <= 1024)
    if (left.length > 1) must(left[1] === 3)
    if (left.length < 5) return undefined
    const length = left.readUInt16BE(3)
    must(length > 0 && length <= 0x4000)
    joined = Buffer.concat([joined, left.subarray(5, 5 + length)])
    if (joined.length > 0) must(joined[0] === 1)
    if (joined.length >= 4) {
      const size = joined.readUIntBE(1, 3)
      must(4 + size <= 0x4000)
      if (joined.length >= 4 + size) return joined.subarray(4, 4 + size)
    }
    left = left.subarray(5 + length)
  }
  return undefined
}

/** Takes vectors off the front of some bytes. */
class Rest {
  bytes: Buffer

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }

  take(length: number): Buffer {
    must(length <= this.bytes.length)
    const taken = this.bytes.subarray(0, length)
    this.bytes = this.bytes.subarray(length)
    return taken
  }

  vector(lengthBytes: 1 | 2): Buffer {
    return this.take(this.take(lengthBytes).readUIntBE(0, lengthBytes))
  }

  get empty(): boolean {
    return this.bytes.length === 0
  }
}

function naiveBody(message: Buffer): ClientHello {
  const body = new Rest(message)
  body.take(34)
  must(body.vector(1).length <= 32)
  const ciphers = body.vector(2).length
  must(ciphers > 0 && ciphers % 2 === 0)
  must(body.vector(1).length > 0)
  const found = new Map<number, Buffer>()
  if (!body.empty) {
    const list = new Rest(body.vector(2))
    must(body.empty)
    while (!list.empty) {
      const type = list.take(2).readUInt16BE(0)
      must(!found.has(type))
      found.set(type, list.vector(2))
    }
  }
  const alpn = found.get(16)
  return {
    serverName: naiveName(found.get(0)),
    alpn: naiveAlpn(alpn),
    alpnBytes: alpn?.toString('latin1'),
  }
}

function naiveName(content: Buffer | undefined): string | undefined {
  if (content === undefined) return undefined
  const all = new Rest(content)
  const list = new Rest(all.vector(2))
  must(all.empty)
  must(list.take(1)[0] === 0)
  const name = list.vector(2).toString('latin1')
  must(list.empty)
  const labels = name.split('.')
  must(name.length <= 253 && isIP(name) === 0)
  must(labels.every((label) => /^[A-Za-z0-9_-]{1,63}$/.test(label)))
  must(!/^(\d+|0x[\da-f]*)$/i.test(labels.at(-1) ?? ''))
  return name.toLowerCase()
}

function naiveAlpn(content: Buffer | undefined): string[] {
  if (content === undefined) return []
  must(content.length <= 512)
  const all = new Rest(content)
  const list = new Rest(all.vector(2))
  must(all.empty && !list.empty)
  const names: string[] = []
  while (!list.empty) {
    const name = list.vector(1)
    must(name.length > 0)
    names.push(name.toString('latin1'))
  }
  return names
}
