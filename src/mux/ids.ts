import { CLOSED_STREAMS_REMEMBERED, SKIPPED_STREAM_IDS } from '../limits.ts'

/** Frames that may still come for a stream after it closed here: ACK, FIN, RST and late window updates, with room to spare. */
const LATE_FRAMES = 8

/**
 * The ids that the peer has opened. A peer that opens from several threads may send a later id first, so
 * an id that was left out may come until others have gone too far ahead; an id never comes twice.
 */
export class PeerIds {
  /** Highest id seen. */
  highest: number
  readonly #skipped = new Set<number>()

  /** `before`: the id two below the first one, so that parity follows. */
  constructor(before: number) {
    this.highest = before
  }

  /** Takes `id`, of the right parity, into use. False: it was used, or leaves out too many. */
  open(id: number): boolean {
    if (id <= this.highest) return this.#skipped.delete(id)
    if (id - this.highest > 2 * (SKIPPED_STREAM_IDS + 1)) return false
    for (let skipped = this.highest + 2; skipped < id; skipped += 2) this.#skipped.add(skipped)
    this.highest = id
    // Added in order, so the oldest are first. One that is too far behind counts as used.
    for (const skipped of this.#skipped) {
      if (id - skipped <= 2 * SKIPPED_STREAM_IDS) break
      this.#skipped.delete(skipped)
    }
    return true
  }

  used(id: number): boolean {
    return id <= this.highest && !this.#skipped.has(id)
  }
}

/**
 * What may still come for streams that are closed here while the peer, not knowing, still sends: as many
 * bytes as their windows had left, and a few frames without any. Remembers a bounded number of streams;
 * what the forgotten ones had left is one sum for the session.
 */
export class ClosedStreams {
  readonly #left = new Map<number, number>()
  #forgotten = 0
  #frames = 0

  /** Stream `id` was closed while the peer might send `left` bytes more. */
  add(id: number, left: number): void {
    this.frames()
    if (left <= 0) return
    this.#left.set(id, left)
    if (this.#left.size <= CLOSED_STREAMS_REMEMBERED) return
    const [oldest, rest] = this.#left.entries().next().value as [number, number]
    this.#left.delete(oldest)
    this.#forgotten += rest
  }

  /** A stream closed with nothing more to come but frames without bytes. */
  frames(): void {
    this.#frames = Math.min(this.#frames + LATE_FRAMES, LATE_FRAMES * CLOSED_STREAMS_REMEMBERED)
  }

  /** `bytes` came for `id`. False: more than its window had left. */
  charge(id: number, bytes: number): boolean {
    const left = this.#left.get(id)
    if (left === undefined) {
      if (bytes > this.#forgotten) return false
      this.#forgotten -= bytes
    } else {
      if (bytes > left) return false
      this.#left.set(id, left - bytes)
    }
    return true
  }

  /** A frame without bytes came for a closed stream. False: more than there can be reason for. */
  frame(): boolean {
    if (this.#frames === 0) return false
    this.#frames -= 1
    return true
  }

  /** The peer has ended `id` too: nothing more may come. */
  end(id: number): void {
    this.#left.delete(id)
  }
}
