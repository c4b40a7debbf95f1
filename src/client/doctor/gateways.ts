import { TunnelError } from '../../errors.ts'
import { printable } from '../../protocol/index.ts'
import { tunnelContext } from '../../transport/index.ts'
import type { GatewayEntry } from '../gateways.ts'
import { dialInOrder, greet } from '../greeting.ts'
import { helloOf } from '../hello.ts'
import type { DoctorContext } from './context.ts'
import type { DoctorFinding } from './index.ts'

/** Each gateway: whether it is reached, has the pinned key, and knows this machine. */
export async function gatewayChecks(context: DoctorContext): Promise<DoctorFinding[]> {
  return (await Promise.all(context.gateways.map((gateway) => gatewayCheck(context, gateway)))).flat()
}

async function gatewayCheck(
  { identity, introduction, signal }: DoctorContext,
  { addresses, pin }: GatewayEntry,
): Promise<DoctorFinding[]> {
  const gateway = addresses[0] ?? ''
  const about = { check: 'gateway' as const, about: gateway }
  try {
    const context = tunnelContext(identity)
    const { socket } = await dialInOrder({ addresses, pin, context, signal })
    const reached: DoctorFinding = {
      ...about,
      level: 'ok',
      text: `is reached, and has the pinned key ${pin}`,
    }
    let name = ''
    const greeting = await greet({
      socket,
      hello: helloOf(introduction, []),
      memory: undefined,
      gateway,
      opened: () => {},
      welcomed(tunnel, welcome) {
        ;({ name } = welcome)
        tunnel.end()
        return { message: () => {}, stream: (stream) => stream.reset(), closed: () => {} }
      },
    })
    if (greeting.kind === 'refused')
      return [reached, { ...about, level: 'fail', ...split(greeting.error.message) }]
    return [reached, { ...about, level: 'ok', text: `knows this machine, as "${printable(name)}"` }]
  } catch (error) {
    if (!(error instanceof TunnelError)) throw error
    return [{ ...about, level: 'fail', ...split(error.message) }]
  }
}

/** Our errors say the fact, a colon, and the way out. */
function split(message: string): { text: string; advice?: string } {
  const at = message.lastIndexOf(': ')
  return at < 0 ? { text: message } : { text: message.slice(0, at), advice: message.slice(at + 2) }
}
