/**
 * What people write, as typed settings: the two TOML files, flags and environment, and the small texts in
 * them (addresses, targets, durations, sizes, ports, patterns).
 *
 * Every mistake is one line for people, in a file with its line: `file:line: what: what to do`. Knows no
 * tunnel and no state; opens nothing but the file it is told to read.
 */
export {
  type AcmeChallenge,
  type AcmeDns,
  type AcmeSettings,
  DEFAULT_ACME,
  unprovable,
} from './acme-table.ts'
export { formatAddress, type Listen, parseAddress, parseRemote } from './address.ts'
export { CLIENT_KEYS, type ClientFile, type GatewayAddress, loadClientFile } from './client-file.ts'
export { GATEWAY_KEYS, type GatewayFile, type Grant, loadGatewayFile } from './gateway-file.ts'
export {
  type AccessLogSettings,
  DEFAULT_HTTP_LIMITS,
  GATEWAY_ENVIRONMENT,
  type GatewayFlags,
  type GatewaySettings,
  type GatewaySources,
  gatewaySettings,
  type HttpLimits,
} from './gateway-settings.ts'
export { parseHosts, parsePath } from './http-texts.ts'
export { type PortRange, parseHostPattern, parseLabel, parsePortRange } from './patterns.ts'
export type { DocumentedKey } from './schema.ts'
export {
  type CertificateFiles,
  type ServiceSettings,
  type ServiceWish,
  serviceSettings,
  type TlsMode,
} from './service-settings.ts'
export { drainSetting, type Environment, flagOrVariable, labelled } from './sources.ts'
export { parseTarget, serviceNameOf, type Target } from './target.ts'
export { DEFAULT_TRUST, type ProbeProxy, type TrustSettings } from './trust-settings.ts'
export { parseBytes, parseDuration, parseIdle } from './units.ts'
