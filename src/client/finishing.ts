import { FINISHING_POLL_MS } from '../limits.ts'
import type { Millis, Stream } from '../mux/index.ts'
import { type IdleMember, idleSweep } from '../net/index.ts'

/**
 * Streams whose last bytes wait for visitors that read slowly. No event says when they have left: they are looked at now
 * and then, and one that takes nothing for its time is reset. Never keeps the process alive.
 */
export class Finishing<V extends { readonly stream: Stream }> {
  readonly #members = new Map<V, IdleMember>()
  readonly #over: (visitor: V) => void
  #poll: NodeJS.Timeout | undefined

  /** `over` is called for each whose stream is closed; it is forgotten by whoever is told. */
  constructor(over: (visitor: V) => void) {
    this.#over = over
  }

  add(visitor: V, mostMs: Millis): void {
    const { stream } = visitor
    const member: IdleMember = {
      get activity() {
        return stream.bytesOut
      },
      idle: () => stream.reset(),
    }
    idleSweep.watch(member, mostMs)
    this.#members.set(visitor, member)
    this.#poll ??= setInterval(this.#look, FINISHING_POLL_MS).unref()
  }

  delete(visitor: V): void {
    const member = this.#members.get(visitor)
    if (member === undefined) return
    idleSweep.forget(member)
    this.#members.delete(visitor)
    if (this.#members.size > 0) return
    clearInterval(this.#poll)
    this.#poll = undefined
  }

  readonly #look = (): void => {
    for (const visitor of this.#members.keys()) if (visitor.stream.closed) this.#over(visitor)
  }
}
