import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { realPathOf } from './socket-path.ts'

/**
 * Tells this machine and state folder from all others, without telling which: 32 hex characters, the same for
 * all client processes there.
 */
export function instanceId(statePath: string): string {
  return createHash('sha256')
    .update(`${machineId()}\0${realPathOf(statePath)}`)
    .digest('hex')
    .slice(0, 32)
}

/** machine-id(5), or where there is none the host's name. */
function machineId(): string {
  for (const path of ['/etc/machine-id', '/var/lib/dbus/machine-id']) {
    try {
      const id = readFileSync(path, 'utf8').trim()
      if (/^[0-9a-f]{32}$/.test(id)) return id
    } catch {
      // The next one, then.
    }
  }
  return hostname()
}
