import { TunnelError } from '../../errors.ts'
import { DOCTOR_ANSWER_MS } from '../../limits.ts'
import { readyEvent } from '../../net/index.ts'
import { printable } from '../../protocol/index.ts'
import { dialTarget } from '../dial.ts'
import { probe } from '../probe.ts'
import type { ClientService } from '../services.ts'
import type { ClientStatus } from '../status.ts'
import type { DoctorContext } from './context.ts'
import type { DoctorFinding } from './index.ts'

/** Whether each target takes connections as a visitor's would be made, and answers its health path where it has one. */
export function targetChecks({ services, running, signal }: DoctorContext): Promise<DoctorFinding[]> {
  const dialled = services.filter(({ serve }) => serve === undefined)
  return Promise.all(dialled.map((service) => targetCheck(service, running, signal)))
}

async function targetCheck(
  service: ClientService,
  running: readonly ClientStatus[],
  signal: AbortSignal,
): Promise<DoctorFinding> {
  const { name, health, target } = service
  const about = { check: 'target' as const, about: name }
  const why =
    (await unreached(service, signal)) ??
    (health === undefined
      ? downBy(running, name)
      : await probe(service, { signal, timeoutMs: DOCTOR_ANSWER_MS }))
  if (why === undefined) {
    const proved = target.speaks === 'https' ? ', and proves who it is' : ''
    const text = `${target.text} ${health === undefined ? 'takes connections' : `answers GET ${health}`}${proved}`
    return { ...about, level: 'ok', text }
  }
  if (why instanceof TunnelError) {
    const [
      text = '',
      advice = 'see who answers there; if your target has a new key, write it as `target_key`',
    ] = why.message.split(': ')
    return { ...about, level: 'fail', text: `at ${target.text} ${text}`, advice }
  }
  return {
    ...about,
    level: 'fail',
    text: `${target.text} does not answer (${printable(why)})`,
    advice: 'start it, or correct `target`',
  }
}

/** Its health path is known to the running client alone. */
function downBy(running: readonly ClientStatus[], service: string): string | undefined {
  const down = running.some(({ routes }) =>
    routes.some(({ name, health }) => name === service && health === 'down'),
  )
  return down ? 'its health path, says the running client' : undefined
}

/** Why no connection comes about; undefined when one does. */
function unreached(service: ClientService, signal: AbortSignal): Promise<string | TunnelError | undefined> {
  return new Promise((resolve) => {
    const socket = dialTarget(service)
    const done = (why: string | TunnelError | undefined): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', aborted)
      socket.destroy()
      resolve(why)
    }
    const aborted = (): void => done('nobody waits for it')
    const timer = setTimeout(() => done(`no answer within ${DOCTOR_ANSWER_MS / 1000} s`), DOCTOR_ANSWER_MS)
    signal.addEventListener('abort', aborted, { once: true })
    // One that is not the target has been turned away by then, and the error says why.
    socket.once(readyEvent(socket), () => socket.destroyed || done(undefined))
    socket.on('error', (error: NodeJS.ErrnoException) =>
      done(error instanceof TunnelError ? error : (error.code ?? error.message)),
    )
  })
}
