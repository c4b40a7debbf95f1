import type { Identity } from '../../identity/index.ts'
import type { State } from '../../state/index.ts'
import type { GatewayEntry } from '../gateways.ts'
import type { Introduction } from '../hello.ts'
import type { ClientService } from '../services.ts'
import type { ClientStatus } from '../status.ts'
import type { ClientTrust } from '../trust/of-client.ts'

/** What `doctor` looks at. */
export interface DoctorContext {
  state: State
  identity: Identity
  introduction: Introduction
  gateways: readonly GatewayEntry[]
  services: readonly ClientService[]
  /** The names of those that are not run by `trust`: by which settings they are to be judged only the client that runs knows. */
  told: ReadonlySet<string>
  trust: ClientTrust
  /** Of the client processes that run on this state. */
  running: readonly ClientStatus[]
  signal: AbortSignal
}

/** Where visitors reach a service, as far as a running client was told. */
export function urlsOf({ running }: Pick<DoctorContext, 'running'>, service: string): string[] {
  const urls = running.flatMap(({ routes }) =>
    routes.flatMap((route) => (route.name === service ? route.urls : [])),
  )
  return [...new Set(urls)]
}
