import { createHmac, timingSafeEqual } from 'node:crypto'
import type { Millis } from '../../../mux/index.ts'

/** A key that a name server shares with those who may change its zone. */
export interface TsigKey {
  name: string
  algorithm: 'hmac-sha256' | 'hmac-sha384' | 'hmac-sha512'
  secret: Uint8Array
}

const TSIG = 250
const ANY = 255
/** Seconds that two clocks may be apart (RFC 8945, 10). */
const FUDGE = 300
const ADDITIONALS_AT = 10

/** Appends the signature of a message (RFC 8945); `mac` is what its answer is signed along with. */
export function sign(message: Buffer, key: TsigKey, now: Millis): { message: Buffer; mac: Buffer } {
  const stamp = stampOf(Math.floor(now / 1_000))
  const mac = macOf(key, [message, variables(key, stamp, 0, Buffer.alloc(0))])
  const data = Buffer.concat([
    wireName(key.algorithm),
    stamp,
    uint16(mac.length),
    mac,
    message.subarray(0, 2),
    uint16(0),
    uint16(0),
  ])
  const record = Buffer.concat([
    wireName(key.name),
    uint16(TSIG),
    uint16(ANY),
    Buffer.alloc(4),
    uint16(data.length),
    data,
  ])
  const whole = Buffer.concat([message, record])
  whole.writeUInt16BE(whole.readUInt16BE(ADDITIONALS_AT) + 1, ADDITIONALS_AT)
  return { message: whole, mac }
}

/**
 * What the signature of a message is worth: `ok`, or `badtime` where the server says that the clocks differ; all else is
 * `unsigned`, as from anybody. `requestMac`: of the question, where the message is its answer. Never throws.
 */
export function verify(
  message: Buffer,
  key: TsigKey,
  now: Millis,
  requestMac?: Uint8Array,
): 'ok' | 'badtime' | 'unsigned' {
  try {
    return verified(message, key, now, requestMac)
  } catch (error) {
    if (error instanceof RangeError) return 'unsigned'
    throw error
  }
}

function verified(
  message: Buffer,
  key: TsigKey,
  now: Millis,
  requestMac: Uint8Array | undefined,
): 'ok' | 'badtime' | 'unsigned' {
  const start = lastRecordOf(message)
  if (start === undefined) return 'unsigned'
  const read = new Reader(message, start)
  const name = read.name()
  const [type, klass] = [read.uint16(), read.uint16()]
  const ttl = read.take(4).readUInt32BE()
  const length = read.uint16()
  const whole = read.at + length === message.length
  const algorithm = read.name()
  const stamp = read.take(8)
  const mac = read.take(read.uint16())
  const id = read.take(2)
  const error = read.uint16()
  const other = read.take(read.uint16())
  const ours =
    type === TSIG &&
    klass === ANY &&
    read.at === message.length &&
    whole &&
    ttl === 0 &&
    name === key.name.toLowerCase() &&
    algorithm === key.algorithm
  if (!ours) return 'unsigned'
  const bare = Buffer.from(message.subarray(0, start))
  id.copy(bare)
  bare.writeUInt16BE(bare.readUInt16BE(ADDITIONALS_AT) - 1, ADDITIONALS_AT)
  const prefix = requestMac === undefined ? [] : [uint16(requestMac.length), requestMac]
  const expected = macOf(key, [...prefix, bare, variables(key, stamp, error, other)])
  if (mac.length !== expected.length || !timingSafeEqual(mac, expected)) return 'unsigned'
  if (error === 18) return 'badtime'
  const seconds = stamp.readUIntBE(0, 6)
  const apart = Math.abs(seconds - Math.floor(now / 1_000))
  return apart <= stamp.readUInt16BE(6) ? 'ok' : 'badtime'
}

/** Where the last record of a message begins; undefined without any. Throws RangeError for what is no message. */
function lastRecordOf(message: Buffer): number | undefined {
  const read = new Reader(message, 4)
  const questions = read.uint16()
  const records = read.uint16() + read.uint16() + read.uint16()
  for (let left = questions; left > 0; left--) {
    read.name()
    read.take(4)
  }
  let start: number | undefined
  for (let left = records; left > 0; left--) {
    start = read.at
    read.name()
    read.take(8)
    read.take(read.uint16())
  }
  return start
}

class Reader {
  at: number
  readonly #bytes: Buffer

  constructor(bytes: Buffer, at: number) {
    this.#bytes = bytes
    this.at = at
  }

  take(length: number): Buffer {
    const end = this.at + length
    if (end > this.#bytes.length) throw new RangeError('cut off')
    const part = this.#bytes.subarray(this.at, end)
    this.at = end
    return part
  }

  uint16(): number {
    return this.take(2).readUInt16BE()
  }

  /** Lower case, without the dot at its end. One that points elsewhere is skipped: ours never do. */
  name(): string {
    const labels: string[] = []
    for (;;) {
      const length = this.take(1).readUInt8()
      if (length === 0) return labels.join('.')
      if (length >= 0xc0) {
        this.take(1)
        return ''
      }
      labels.push(this.take(length).toString('latin1').toLowerCase())
    }
  }
}

/** RFC 8945, 4.3.3. */
function variables(key: TsigKey, stamp: Buffer, error: number, other: Buffer): Buffer {
  return Buffer.concat([
    wireName(key.name),
    uint16(ANY),
    Buffer.alloc(4),
    wireName(key.algorithm),
    stamp,
    uint16(error),
    uint16(other.length),
    other,
  ])
}

function macOf({ algorithm, secret }: TsigKey, parts: readonly Uint8Array[]): Buffer {
  const hmac = createHmac(algorithm.slice('hmac-'.length), secret)
  for (const part of parts) hmac.update(part)
  return hmac.digest()
}

/** Time, 48 bits, and fudge. */
function stampOf(seconds: number): Buffer {
  const stamp = Buffer.alloc(8)
  stamp.writeUIntBE(seconds, 0, 6)
  stamp.writeUInt16BE(FUDGE, 6)
  return stamp
}

function wireName(name: string): Buffer {
  const labels = name.toLowerCase().split('.').filter(Boolean)
  return Buffer.concat([
    ...labels.flatMap((label) => [Buffer.of(label.length), Buffer.from(label, 'latin1')]),
    Buffer.of(0),
  ])
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}
