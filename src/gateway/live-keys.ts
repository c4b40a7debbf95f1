import type { Pin } from '../identity/index.ts'

/**
 * From which instances (machines or state folders) each key is live now. Several processes of one instance are
 * normal; two instances mean that a key was copied, and somebody should hear of it.
 */
export class LiveKeys {
  /** Tunnels per instance, per key. */
  readonly #live = new Map<Pin, Map<string, number>>()

  /** Counts a tunnel in; true when it makes its key live from one instance more than before, and not the first. */
  add(key: Pin, instance: string): boolean {
    const instances = this.#live.get(key) ?? new Map<string, number>()
    this.#live.set(key, instances)
    const tunnels = instances.get(instance) ?? 0
    instances.set(instance, tunnels + 1)
    return tunnels === 0 && instances.size > 1
  }

  /** Counts a tunnel out. */
  remove(key: Pin, instance: string): void {
    const instances = this.#live.get(key)
    const tunnels = instances?.get(instance)
    if (instances === undefined || tunnels === undefined) return
    if (tunnels > 1) instances.set(instance, tunnels - 1)
    else instances.delete(instance)
    if (instances.size === 0) this.#live.delete(key)
  }

  instancesOf(key: Pin): string[] {
    return [...(this.#live.get(key)?.keys() ?? [])]
  }

  /** Keys that are live from more than one instance. */
  get copied(): Pin[] {
    return [...this.#live].filter(([, instances]) => instances.size > 1).map(([key]) => key)
  }
}
