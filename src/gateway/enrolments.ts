import { userError } from '../errors.ts'
import type { Pin } from '../identity/index.ts'
import { INSTANCES_PER_KEY, REVOKED_KEYS } from '../limits.ts'
import type { Enrolment, Revocation } from './record.ts'

/** Characters of a key, after `sha256:`, that a person must give: 48 bits, which no two of 100 000 keys share by chance. */
const KEY_PREFIX = 8

/** The keys that may dial, under which names, and those that may no longer. */
export class Enrolments {
  readonly #enrolled = new Map<Pin, Enrolment>()
  readonly #keysOf = new Map<string, Set<Pin>>()
  readonly #revoked = new Map<Pin, Revocation>()

  constructor(enrolled: readonly Enrolment[], revoked: readonly Revocation[]) {
    for (const entry of enrolled) this.#put({ ...entry, instances: entry.instances.map((i) => ({ ...i })) })
    for (const entry of revoked) this.#revoked.set(entry.key, { ...entry })
  }

  get size(): number {
    return this.#enrolled.size
  }

  /** In the order of their oldest keys. */
  get names(): string[] {
    return [...new Set([...this.#enrolled.values()].map((entry) => entry.name))]
  }

  /** The name of the oldest key that is still enrolled. */
  get firstName(): string | undefined {
    for (const { name } of this.#enrolled.values()) return name
    return undefined
  }

  /** Copies, oldest first. */
  get record(): { enrolled: Enrolment[]; revoked: Revocation[] } {
    return {
      enrolled: [...this.#enrolled.values()].map((entry) => ({
        ...entry,
        instances: entry.instances.map((i) => ({ ...i })),
      })),
      revoked: [...this.#revoked.values()].map((entry) => ({ ...entry })),
    }
  }

  of(key: Pin): Enrolment | undefined {
    return this.#enrolled.get(key)
  }

  has(name: string): boolean {
    return this.#keysOf.has(name)
  }

  keysOf(name: string): Pin[] {
    return [...(this.#keysOf.get(name) ?? [])]
  }

  revoked(key: Pin): Revocation | undefined {
    return this.#revoked.get(key)
  }

  add({ key, name, invite, now }: { key: Pin; name: string; invite: string; now: number }): void {
    this.#put({ key, name, invite, enrolledAt: now, lastSeen: now, instances: [] })
  }

  /** False for a key that is not enrolled. */
  seen(key: Pin, instance: string, now: number): boolean {
    const enrolled = this.#enrolled.get(key)
    if (enrolled === undefined) return false
    enrolled.lastSeen = now
    const others = enrolled.instances.filter((other) => other.instance !== instance)
    enrolled.instances = [{ instance, at: now }, ...others].slice(0, INSTANCES_PER_KEY)
    return true
  }

  revoke(key: Pin, now: number): void {
    const enrolled = this.#enrolled.get(key)
    if (enrolled === undefined) return
    this.#enrolled.delete(key)
    const keys = this.#keysOf.get(enrolled.name)
    keys?.delete(key)
    if (keys?.size === 0) this.#keysOf.delete(enrolled.name)
    this.#revoked.set(key, { key, name: enrolled.name, at: now })
    for (const oldest of this.#revoked.keys()) {
      if (this.#revoked.size <= REVOKED_KEYS) break
      this.#revoked.delete(oldest)
    }
  }

  /** The one key that `text` begins. Enrolled ones win over revoked ones. Throws `usage` and `not_found`. */
  match(text: string): Pin {
    if (text.length < 'sha256:'.length + KEY_PREFIX) {
      throw userError(
        'usage',
        `"${text}" is too short to be sure: give ${KEY_PREFIX} characters after "sha256:"`,
      )
    }
    const begins = (key: Pin) => key.startsWith(text)
    const enrolled = [...this.#enrolled.keys()].filter(begins)
    const keys = enrolled.length > 0 ? enrolled : [...this.#revoked.keys()].filter(begins)
    const [key, ...others] = keys
    if (key === undefined) {
      const detail = `no enrolled key begins with ${text}: \`blindgate clients\` lists the ${this.size} there are`
      throw userError('not_found', detail)
    }
    if (others.length > 0) {
      throw userError('usage', `${keys.length} keys begin with ${text}: give more of it`)
    }
    return key
  }

  #put(enrolled: Enrolment): void {
    this.#enrolled.set(enrolled.key, enrolled)
    const keys = this.#keysOf.get(enrolled.name)
    if (keys === undefined) this.#keysOf.set(enrolled.name, new Set([enrolled.key]))
    else keys.add(enrolled.key)
  }
}
