/**
 * A tunnel's bytes: dial and accept TLS, and bind a socket to a yamux session, its control stream and its
 * keepalive. Knows keys only as parameters and nothing of routes, services, visitors or targets.
 */

export { TunnelListener, type TunnelListenerOptions } from './listener.ts'
export { Liveness } from './liveness.ts'
export { Pace } from './pace.ts'
export { type DialOptions, dialTls, type Keys, notAGateway, tunnelContext } from './tls.ts'
export { Tunnel, type TunnelHandler, type TunnelOptions } from './tunnel.ts'
export { WaitingList } from './waiting-list.ts'
