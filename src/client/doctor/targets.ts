import { TunnelError } from '../../errors.ts'
import { DOCTOR_ANSWER_MS } from '../../limits.ts'
import { readyEvent } from '../../net/index.ts'
import { printable } from '../../protocol/index.ts'
import { dialTarget } from '../dial.ts'
import { probe } from '../probe.ts'
import { type ClientService, targetText } from '../services.ts'
import type { DoctorContext } from './context.ts'
import type { DoctorFinding } from './index.ts'

/** Whether each target takes connections, and answers its health path where it has one. */
export function targetChecks({ services, signal }: DoctorContext): Promise<DoctorFinding[]> {
  return Promise.all(services.map((service) => targetCheck(service, signal)))
}

async function targetCheck(service: ClientService, signal: AbortSignal): Promise<DoctorFinding> {
  const { name, health } = service
  const about = { check: 'target' as const, about: name }
  const target = targetText(service)
  const why =
    health === undefined
      ? await unreached(service, signal)
      : await probe(service, { signal, timeoutMs: DOCTOR_ANSWER_MS })
  if (why === undefined) {
    return {
      ...about,
      level: 'ok',
      text: `${target} ${health === undefined ? 'takes connections' : `answers GET ${health}`}`,
    }
  }
  return {
    ...about,
    level: 'fail',
    text: `${target} does not answer: ${printable(why)}`,
    advice: 'start it, or correct `target`',
  }
}

/** Why no connection comes about; undefined when one does. */
function unreached(service: ClientService, signal: AbortSignal): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = dialTarget(service)
    const done = (why: string | undefined): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', aborted)
      socket.destroy()
      resolve(why)
    }
    const aborted = (): void => done('nobody waits for it')
    const timer = setTimeout(() => done(`no answer within ${DOCTOR_ANSWER_MS / 1000} s`), DOCTOR_ANSWER_MS)
    signal.addEventListener('abort', aborted, { once: true })
    socket.once(readyEvent(socket), () => done(undefined))
    socket.on('error', (error: NodeJS.ErrnoException) =>
      done(error instanceof TunnelError ? error.message : (error.code ?? error.message)),
    )
  })
}
