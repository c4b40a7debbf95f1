import type { Server } from 'node:net'
import { closeServer, type ListenAddress, listenOn } from '../net/index.ts'

/** How ports are opened: by this process for itself, or for all workers. */
export interface Listening {
  /** Rejects with `address_in_use`, the system's error being its cause. */
  listen(server: Server, address: ListenAddress): Promise<{ host: string; port: number }>
  /** Lets nobody in any more; resolves when those who are connected have gone too. Fine on one that never listened. */
  close(server: Server): Promise<void>
}

export const ownListening: Listening = {
  listen: listenOn,
  close: closeServer,
}
