import type { Socket } from 'node:net'

/** What a socket that is being dialled tells when its other side is reached: for TLS, when that has proved who it is. */
export function readyEvent(socket: Socket): 'connect' | 'secureConnect' {
  return 'encrypted' in socket ? 'secureConnect' : 'connect'
}
