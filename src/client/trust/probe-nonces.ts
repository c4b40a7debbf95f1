import { PROBE_NONCES } from '../../limits.ts'

/**
 * The nonces of probes that are under way in this process, and which of them its terminators have seen. Shared between the
 * prober, which announces, and the terminators, which note; what visitors make up is never kept.
 */
export class ProbeNonces {
  readonly #arrived = new Map<string, boolean>()

  /** A probe begins. The oldest is forgotten where there are too many. */
  expect(nonce: string): void {
    const [oldest] = this.#arrived.keys()
    if (this.#arrived.size >= PROBE_NONCES && oldest !== undefined) this.#arrived.delete(oldest)
    this.#arrived.set(nonce, false)
  }

  /** A terminator was asked by this nonce. */
  note(nonce: string): void {
    if (this.#arrived.has(nonce)) this.#arrived.set(nonce, true)
  }

  /** A probe is over: whether its nonce came. */
  take(nonce: string): boolean {
    const arrived = this.#arrived.get(nonce) === true
    this.#arrived.delete(nonce)
    return arrived
  }
}
