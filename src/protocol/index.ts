/**
 * What the two sides say to each other, as bytes: control messages on stream 1, the PROXY header at the head
 * of each visitor stream, a TLS visitor's ClientHello, and text from a peer made safe to print.
 *
 * Pure codecs: bytes in, values out. They know no socket, no timer and no clock, decide nothing, and never
 * believe a peer: numbers arrive clamped, shapes checked, memory bounded. docs/PROTOCOL.md is the same thing
 * for people.
 */
export { ACME_ALPN, type ClientHello, ClientHelloReader, isOnlyAlpn, looksLikeTls } from './client-hello.ts'
export {
  type Challenge,
  type ChallengeDone,
  type ChallengeKind,
  type ChallengeReady,
  type ClientMessage,
  ControlReader,
  type Drain,
  encodeControl,
  type Foreign,
  type GatewayMessage,
  type Gateways,
  type Health,
  type Hello,
  isChallengeKind,
  isChallengeToken,
  isRejectCode,
  isServiceCode,
  isServiceType,
  isUnreachedCode,
  type Message,
  PROTOCOL_VERSION,
  packItems,
  type Register,
  type Registered,
  type Reject,
  rejection,
  SERVICE_TYPES,
  type ServiceOffer,
  type ServiceRefusal,
  type ServiceResult,
  type ServiceType,
  TUNNEL_ALPN,
  type Unreached,
  type Unregister,
  type Unregistered,
  type Welcome,
  type Withdrawn,
} from './control.ts'
export { formatIpv6, writeIpv4, writeIpv6 } from './ip.ts'
export {
  type Endpoint,
  encodeLocalHeader,
  encodeProxyHeader,
  type ProxyFields,
  type ProxyHeader,
  ProxyReader,
  type ProxyTlvs,
} from './proxy.ts'
export { printable } from './text.ts'
export { type TlsAlert, tlsAlert } from './tls-alert.ts'
