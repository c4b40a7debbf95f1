/** How often each error happened. Codes are from our own table, so it stays small. */
export class Tally {
  readonly #counts = new Map<string, number>()

  count(code: string): void {
    this.#counts.set(code, (this.#counts.get(code) ?? 0) + 1)
  }

  get counts(): Record<string, number> {
    return Object.fromEntries(this.#counts)
  }
}
