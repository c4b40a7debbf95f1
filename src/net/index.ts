/**
 * One room, one idea: sockets. How a socket and a stream become one connection, how a visitor is kept while
 * there is no stream, how to listen and to say why not, what an address is. It knows nothing of tunnels,
 * routes, services or of what the bytes mean.
 */
export {
  type AddressClass,
  addressClass,
  addressKey,
  globalAddresses,
  isOwnAddress,
  ownAddresses,
  plainAddress,
} from './address.ts'
export { Backlog } from './backlog.ts'
export { connectSocket } from './connect.ts'
export { connectionError } from './connection-error.ts'
export {
  descriptorLimit,
  descriptorsForVisitors,
  gatewayDescriptors,
  socketOptions,
  visitorServerOptions,
} from './descriptors.ts'
export { type DuplexInfo, duplexOf, linger, type StreamDuplex } from './duplex.ts'
export { bindPort, detachHandle, type Handle, listenOnHandle, socketOf } from './handles.ts'
export { HeldSocket, type HeldSocketOptions } from './held.ts'
export { type IdleMember, IdleSweep, idleSweep } from './idle.ts'
export { Keep } from './keep.ts'
export { closeServer, type ListenAddress, listenOn } from './listen.ts'
export { Outlet, type OutletOwner } from './outlet.ts'
export { readShared } from './reading.ts'
export { readyEvent } from './ready.ts'
export { askWhetherReset, resetSocket } from './reset.ts'
export { SocketStream } from './socket-stream.ts'
export { type Splice, type SpliceOptions, type SpliceResult, splice } from './splice.ts'
