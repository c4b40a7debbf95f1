/** Things that happened, in order, and the wait for one that has not yet. */
export class Moments<T> {
  readonly all: T[] = []
  readonly #waiting = new Set<() => void>()

  add(item: T): void {
    this.all.push(item)
    for (const look of this.#waiting) look()
  }

  /** The first that fits, from the `from`-th on. */
  find<S extends T>(fits: (item: T) => item is S, from?: number): Promise<S>
  find(fits: (item: T) => boolean, from?: number): Promise<T>
  find(fits: (item: T) => boolean, from = 0): Promise<T> {
    return new Promise((resolve) => {
      const look = (): void => {
        const found = this.all.slice(from).find(fits)
        if (found === undefined) return
        this.#waiting.delete(look)
        resolve(found)
      }
      this.#waiting.add(look)
      look()
    })
  }

  /** The `index`-th, 0 being the first. */
  at(index: number): Promise<T> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (this.all.length <= index) return
        this.#waiting.delete(look)
        resolve(this.all[index] as T)
      }
      this.#waiting.add(look)
      look()
    })
  }
}
