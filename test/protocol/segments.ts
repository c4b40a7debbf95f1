import * as fc from 'fast-check'

/** Sizes of successive chunks, used round and round. */
export const segments = fc.array(
  fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 40 }), fc.constant(1 << 20)),
  {
    minLength: 1,
    maxLength: 8,
  },
)

/** Cuts bytes into chunks, each in memory of its own, so that nothing can rely on its neighbour. */
export function cut(bytes: Uint8Array, sizes: readonly number[]): Uint8Array[] {
  const chunks: Uint8Array[] = []
  for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length] ?? 1
    chunks.push(bytes.slice(at, at + size))
    at += size
  }
  return chunks
}
