import { type KeyObject, randomBytes, sign } from 'node:crypto'

/**
 * A certificate of an Ed25519 key, signed by that key (RFC 5280, 4.1; RFC 8410), as DER. TLS wants one; peers look at
 * nothing in it but the key.
 *
 * Written by hand since all of it but serial, key and signature is fixed: a library for it would stay in the gateway's
 * memory after a first start, 11 MB for 200 bytes.
 */
export function selfSignedCertificate(publicKey: KeyObject, privateKey: KeyObject): Buffer {
  const algorithm = sequence(oid(ED25519))
  const name = sequence(set(sequence(oid(COMMON_NAME), der(0x0c, Buffer.from('blindgate')))))
  const body = sequence(
    der(0xa0, der(0x02, Buffer.of(2))),
    der(0x02, serial()),
    algorithm,
    name,
    sequence(NOT_BEFORE, NOT_AFTER),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
  )
  const signature = sign(null, body, privateKey)
  return sequence(body, algorithm, der(0x03, Buffer.of(0), signature))
}

/** 1.3.101.112 and 2.5.4.3, as they are encoded. */
const ED25519 = Buffer.of(0x2b, 0x65, 0x70)
const COMMON_NAME = Buffer.of(0x55, 0x04, 0x03)

/** No peer looks at the dates; these pass whoever else does, on machines whose clock is wrong as well. 1970 to the end of time. */
const NOT_BEFORE = der(0x17, Buffer.from('700101000000Z'))
const NOT_AFTER = der(0x18, Buffer.from('99991231235959Z'))

/** Positive, and without a leading zero byte. */
function serial(): Buffer {
  const bytes = randomBytes(16)
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40
  return bytes
}

function sequence(...parts: Buffer[]): Buffer {
  return der(0x30, ...parts)
}

function set(...parts: Buffer[]): Buffer {
  return der(0x31, ...parts)
}

function oid(encoded: Buffer): Buffer {
  return der(0x06, encoded)
}

/** One value with its tag and length; none here is longer than 65 535 bytes. */
function der(tag: number, ...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts)
  const { length } = content
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.of(tag, ...size), content])
}
