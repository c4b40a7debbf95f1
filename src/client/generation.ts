import { createHmac, randomBytes } from 'node:crypto'
import type { ClientService } from './services.ts'

/** 64 bits: two generations of one service must differ, and nobody gains by finding two that do not. */
const CHARACTERS = 16

/**
 * Names what answers for a service, so that a gateway never hands a stream that leads to the old target to a visitor
 * of the new one. What it is made of is no gateway's business, and a few guesses would find a target: so it is keyed
 * by what this object alone knows. Replicas differ in it, and nobody compares theirs.
 */
export class Generations {
  readonly #secret = randomBytes(32)
  readonly #here = new WeakMap<NonNullable<ClientService['serve']>, number>()
  #served = 0

  of({ target, proxyHeader, serve }: Pick<ClientService, 'target' | 'proxyHeader' | 'serve'>): string {
    const who =
      serve === undefined ? [target.kind, target.text, proxyHeader] : ['here', this.#numberOf(serve)]
    return createHmac('sha256', this.#secret).update(JSON.stringify(who)).digest('hex').slice(0, CHARACTERS)
  }

  #numberOf(serve: NonNullable<ClientService['serve']>): number {
    let number = this.#here.get(serve)
    if (number === undefined) {
      this.#served += 1
      number = this.#served
      this.#here.set(serve, number)
    }
    return number
  }
}
