/** First in, first out, without moving the rest at each step; keeps nothing that has left. */
export class Fifo<T> {
  readonly #values: (T | undefined)[] = []
  #head = 0

  get length(): number {
    return this.#values.length - this.#head
  }

  push(value: T): void {
    this.#values.push(value)
  }

  /** The caller has seen to it that there is one. */
  shift(): T {
    const values = this.#values
    const value = values[this.#head] as T
    values[this.#head++] = undefined
    if (this.#head === values.length) {
      values.length = 0
      this.#head = 0
    } else if (this.#head >= 1024 && this.#head * 2 >= values.length) {
      values.splice(0, this.#head)
      this.#head = 0
    }
    return value
  }

  /** Drops what `keep` is false for, and leaves the rest in its order. */
  prune(keep: (value: T) => boolean): void {
    const values = this.#values
    let kept = 0
    for (let i = this.#head; i < values.length; i++) {
      const value = values[i] as T
      if (keep(value)) values[kept++] = value
    }
    values.length = kept
    this.#head = 0
  }
}
