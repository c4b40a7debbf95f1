/**
 * The side behind NAT: keeps tunnels to its gateways, offers its services there, and serves the visitors that
 * come by them from its targets. Only its owner's configuration names a target; what a gateway says selects among
 * the services offered to that gateway, and is otherwise a claim. It must never know how a gateway decides.
 */
export { loadAcme } from './acme/load.ts'
export { chooseGateway } from './choose.ts'
export { Client, type ClientEvents, type ClientOptions } from './client.ts'
export type { DoctorContext, DoctorFinding } from './doctor/index.ts'
export { loadDoctor } from './doctor/load.ts'
export { checkKnown, type GatewayEntry, joinedGateways, rememberGateway } from './gateways.ts'
export { type JoinOptions, join } from './join.ts'
export type { ClientService, ServiceOutcome, VisitorInfo } from './services.ts'
export type { ClientStatus } from './status.ts'
export type { Finding, TrustReport } from './trust/index.ts'
export type { ClientTrust } from './trust/of-client.ts'
export { trustBy } from './trust/of-file.ts'
