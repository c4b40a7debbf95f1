import { isatty } from 'node:tty'
import type { Logger } from 'pino'
import { TunnelError, userError } from '../errors.ts'

/** What goes on until somebody ends it. */
export interface Service {
  /** First signal: lets visitors finish, bounded. */
  drain(): Promise<void>
  /** Second signal, or `work` has failed: ends it now. */
  close(): Promise<void>
  /** SIGHUP: takes the changed settings; what it rejects with is logged, and the old ones stay. */
  reload(): Promise<void>
  /** What the command does meanwhile. Its end ends the service too; its failure is the command's. */
  work(): Promise<void>
}

/** What `untilEnded` needs of the process; a test has its own. */
export interface Signals {
  on(signal: NodeJS.Signals, listener: () => void): unknown
  off(signal: NodeJS.Signals, listener: () => void): unknown
}

/**
 * Keeps a service going. The first SIGINT or SIGTERM drains and resolves. The second cuts and rejects with
 * `closed`, and a third is the system's again. A terminal that is closed drains too: it says so with the same
 * SIGHUP that reloads everywhere else.
 */
export async function untilEnded(
  service: Service,
  log: Logger,
  signals: Signals = process,
  hungUp: () => boolean = terminalIsGone,
): Promise<void> {
  let stopping = false
  let listeners: [NodeJS.Signals, () => void][] = []
  const ignoreSignals = (): void => {
    for (const [signal, listener] of listeners) signals.off(signal, listener)
    listeners = []
  }
  const signalled = new Promise<void>((resolve, reject) => {
    const stop = (signal: NodeJS.Signals): void => {
      if (stopping) {
        ignoreSignals()
        const cut = userError(
          'closed',
          `${signal} came twice: visitors that were still connected have been cut`,
        )
        service.close().then(() => reject(cut), reject)
        return
      }
      stopping = true
      log.info(`${signal}: visitors may finish; once more cuts them`)
      service.drain().then(resolve, reject)
    }
    const reload = (): void => {
      if (hungUp()) stop('SIGHUP')
      else if (!stopping) void reloaded(service, log)
    }
    listeners = [
      ['SIGINT', () => stop('SIGINT')],
      ['SIGTERM', () => stop('SIGTERM')],
      ['SIGHUP', reload],
    ]
    for (const [signal, listener] of listeners) signals.on(signal, listener)
  })
  // Work that fails because the service is ending has nothing to add.
  const worked = service.work().then(
    () => (stopping ? signalled : undefined),
    (error: unknown) => (stopping ? signalled : Promise.reject(error)),
  )
  try {
    await Promise.race([signalled, worked])
  } finally {
    ignoreSignals()
    await service.close()
  }
}

/** For work that only a signal ends. The service's sockets keep the process alive, not this. */
export function forEver(): Promise<never> {
  return new Promise(() => undefined)
}

/** Takes changed settings, or says why not. */
export async function reloaded(service: Pick<Service, 'reload'>, log: Logger): Promise<void> {
  try {
    await service.reload()
  } catch (error) {
    if (!(error instanceof TunnelError)) throw error
    log.error(`${error.message} (the settings stay as they were)`)
  }
}

const begunOn = [0, 1, 2].filter((descriptor) => isatty(descriptor))

/** The terminal that this process began on is closed. */
export function terminalIsGone(): boolean {
  return begunOn.length > 0 && begunOn.every((descriptor) => !isatty(descriptor))
}
