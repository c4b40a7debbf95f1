import { connect, type IpcNetConnectOpts, type Socket, type TcpNetConnectOpts } from 'node:net'
import { SHARED_READ } from './reading.ts'

/** Connects a socket that is read as `readShared` says. */
export function connectSocket(options: TcpNetConnectOpts | IpcNetConnectOpts): Socket {
  return connect({ ...options, onread: SHARED_READ })
}
