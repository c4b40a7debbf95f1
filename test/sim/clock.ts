/** Virtual time: what is planned happens in its order, and takes none. */
export class Clock {
  now = 0
  readonly #events: { at: number; order: number; run: () => void }[] = []
  #order = 0

  after(delay: number, run: () => void): void {
    const event = { at: this.now + delay, order: this.#order++, run }
    let i = this.#events.length
    while (i > 0 && (this.#events[i - 1] as { at: number }).at > event.at) i -= 1
    this.#events.splice(i, 0, event)
  }

  run(): void {
    for (let event = this.#events.shift(); event !== undefined; event = this.#events.shift()) {
      this.now = event.at
      event.run()
    }
  }
}
