import type { Logger } from 'pino'
import type { TunnelError } from '../errors.ts'
import { BACKOFF_RESET_MS, REPEATED_LOG_FIRST } from '../limits.ts'
import type { Millis } from '../mux/index.ts'
import { Repeats } from './repeats.ts'

/** What was said of a gateway that is connected now. */
interface Connected {
  said: boolean
  /** Until the connection has lasted. */
  timer: NodeJS.Timeout
}

/**
 * The log's lines on how gateways come and go. Neither a gateway that cannot be reached nor one that welcomes and
 * drops can fill the log: of a pair "connected" and "lost" that repeats, and of failed dials, the first are said, then
 * one a minute with the count. A connection that lasts is always said, if only when it has, and makes all of it new.
 *
 * Owns one timer per connected gateway, which keeps no process alive.
 */
export class GatewayLog {
  readonly #log: Logger
  readonly #dials = new Repeats()
  readonly #pairs = new Repeats(REPEATED_LOG_FIRST)
  readonly #connected = new Map<string, Connected>()

  constructor(log: Logger) {
    this.#log = log
  }

  connected(gateway: string, name: string): void {
    this.forget(gateway)
    const tell = (often: string): void =>
      this.#log.info({ gateway, name }, `connected to ${gateway} as "${name}"${often}`)
    const times = this.#pairs.note(gateway, performance.now())
    const connected: Connected = {
      said: times !== undefined,
      timer: setTimeout(() => {
        this.#pairs.forget(gateway)
        this.#dials.forget(gateway)
        if (!connected.said) tell('')
        connected.said = true
      }, BACKOFF_RESET_MS).unref(),
    }
    this.#connected.set(gateway, connected)
    if (times === undefined) return
    this.#dials.forget(gateway)
    tell(oftenText(times))
  }

  /** The last tunnel is lost; undefined: for good. */
  lost(gateway: string, reason: TunnelError, retryMs: Millis | undefined): void {
    const said = this.#connected.get(gateway)?.said ?? true
    this.forget(gateway)
    if (!said && retryMs !== undefined) return
    const text = `lost gateway ${gateway} (${reason.message}); ${nextText(retryMs)}`
    this.#log.warn({ gateway, code: reason.code }, text)
  }

  /** A dial came to nothing. */
  missed(gateway: string, reason: TunnelError, retryMs: Millis | undefined): void {
    const times = this.#dials.note(gateway, performance.now())
    if (times === undefined) return
    const text = `no tunnel to ${gateway}${oftenText(times)}: ${reason.message}; ${nextText(retryMs)}`
    this.#log.warn({ gateway, code: reason.code }, text)
  }

  /** It is not connected any more, and no word about it is due. */
  forget(gateway: string): void {
    clearTimeout(this.#connected.get(gateway)?.timer)
    this.#connected.delete(gateway)
  }

  close(): void {
    for (const gateway of this.#connected.keys()) this.forget(gateway)
  }
}

function oftenText(times: number): string {
  return times === 1 ? '' : ` (${times} times)`
}

function nextText(retryMs: Millis | undefined): string {
  return retryMs === undefined ? 'not dialled again' : `dialling again in ${(retryMs / 1000).toFixed(1)} s`
}
