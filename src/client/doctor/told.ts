import { parseTarget } from '../../config/index.ts'
import type { ServiceType } from '../../protocol/index.ts'
import { type ClientService, THIS_PROCESS } from '../services.ts'
import type { ClientStatus } from '../status.ts'

/** What running clients say that they offer, those of quick commands too: each service once, without what is in files. */
export function servicesTold(running: readonly ClientStatus[]): ClientService[] {
  const services = new Map<string, ClientService>()
  for (const { name, type, hosts = [], target, targetKey, tls } of running.flatMap(({ routes }) => routes)) {
    if (services.has(name)) continue
    const here = target === THIS_PROCESS
    services.set(name, {
      name,
      type: type as ServiceType,
      hosts,
      tls: tls?.mode,
      targetKey,
      // One that is served there is not dialled.
      target: here ? { kind: 'unix', path: '', text: target } : parseTarget(target),
      ...(here ? { serve: (connection) => connection.destroy() } : {}),
      idleMs: 0,
      proxyHeader: false,
    })
  }
  return [...services.values()]
}
