/** Bytes that say where they belong: what came can be held against what was asked for, and nobody keeps a copy. */
import type { Writable } from 'node:stream'
import { Chance } from '../http1/mutations.ts'

/** A prime, so that no buffer of the program begins at the same byte twice. */
const PERIOD = 65_521
const PIECE = 32 * 1024
const twice = twoPeriods()

function twoPeriods(): Buffer {
  const chance = new Chance(1)
  const once = Buffer.from(Array.from({ length: PERIOD }, () => chance.below(256)))
  return Buffer.concat([once, once])
}

/** At most a period of them. */
export function bytesAt(at: number, length: number): Buffer {
  const from = at % PERIOD
  return twice.subarray(from, from + length)
}

export function isAt(at: number, bytes: Uint8Array): boolean {
  for (let from = 0; from < bytes.length; from += PERIOD) {
    const part = bytes.subarray(from, from + PERIOD)
    if (!bytesAt(at + from, part.length).equals(part)) return false
  }
  return true
}

/** Writes so many of them as they are taken; resolves when all are written, or nobody takes them any more. */
export async function pour(to: Writable, at: number, length: number): Promise<void> {
  for (let sent = 0; sent < length && to.writable; ) {
    const piece = bytesAt(at + sent, Math.min(PIECE, length - sent))
    sent += piece.length
    if (!to.write(piece)) await taken(to)
  }
}

function taken(to: Writable): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      to.off('drain', done)
      to.off('close', done)
      resolve()
    }
    to.on('drain', done)
    to.on('close', done)
    if (to.destroyed) done()
  })
}
