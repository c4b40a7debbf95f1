/**
 * Room that names share: a name takes what it wants while it is alone, and no more than half while others are
 * served here too, so that none can keep the rest out. Pure.
 */
export class Shares {
  readonly #capacity: number
  readonly #severalNames: () => boolean
  readonly #taken = new Map<string, number>()
  #size = 0

  constructor(capacity: number, severalNames: () => boolean) {
    this.#capacity = capacity
    this.#severalNames = severalNames
  }

  /** Taken by all together. */
  get size(): number {
    return this.#size
  }

  /** False: there is no room, for anybody or for this name. */
  take(name: string): boolean {
    const own = this.#taken.get(name) ?? 0
    if (this.#size >= this.#capacity) return false
    if (own * 2 >= this.#capacity && this.#severalNames()) return false
    this.#taken.set(name, own + 1)
    this.#size += 1
    return true
  }

  /** Pays back one `take`. */
  give(name: string): void {
    const own = this.#taken.get(name)
    if (own === undefined) return
    if (own > 1) this.#taken.set(name, own - 1)
    else this.#taken.delete(name)
    this.#size -= 1
  }

  /** Counts one place for another name. False, and nothing has changed: that name has no room. */
  move(from: string, to: string): boolean {
    if (from === to) return true
    this.give(from)
    if (this.take(to)) return true
    this.#taken.set(from, (this.#taken.get(from) ?? 0) + 1)
    this.#size += 1
    return false
  }
}
