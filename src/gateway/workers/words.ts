import type { GatewaySettings } from '../../config/index.ts'
import type { Identity, Pin } from '../../identity/index.ts'
import type { ListenAddress } from '../../net/index.ts'
import type { Redeemed } from '../admission.ts'
import type { Change } from '../change.ts'
import type { AuthorityRecord } from '../record.ts'
import type { Serving } from '../registrar.ts'
import type { StationReport } from '../report.ts'
import type { Route } from '../route.ts'
import type { Address } from '../station.ts'

/** All that a worker begins with; what changes later is told. */
export interface Beginning {
  id: string
  ids: readonly string[]
  /** With the ports that are bound already, and a worker's part of the memory. */
  settings: GatewaySettings
  identity: Identity
  version: string
  record: AuthorityRecord
  reservedPorts: ReadonlySet<number>
  domain: string | undefined
  ownHost: string | undefined
  clients: Address
}

/** What a worker says of itself, with what its process costs. */
export interface WorkerReport extends StationReport {
  residentBytes: number
  cpuSeconds: number
}

/** What a worker is told and asked. All of it is heard in one order, which is that of the record's changes. */
export interface ToWorker {
  /** Answered when it serves. */
  begin(beginning: Beginning): void
  change(change: Change): void
  ids(ids: readonly string[]): void
  reload(settings: GatewaySettings): void
  /** Answered at once: what was told before is done. */
  settle(nothing: undefined): void
  report(nothing: undefined): WorkerReport
  serving(route: Route): Serving | undefined
  /** The connection of a tunnel is with it, of which `first` was read. */
  tunnel(tunnel: { id: number; first: Uint8Array }): void
  /** Answered when its visitors have gone. */
  drain(ms: number): void
  close(nothing: undefined): void
}

/** What a worker tells and asks: what `Ledger` has, ports, and where tunnels go. */
export interface ToPrimary {
  redeem(by: { secretHash: string; key: Pin; instance: string }): Redeemed
  claimAll(claim: { routes: readonly Route[]; name: string }): Route[]
  keepPort(port: { name: string; service: string; port: number }): boolean
  releaseBy(release: { name: string; route: Route }): boolean
  save(nothing: undefined): void
  seen(seen: { key: Pin; instance: string }): void
  live(route: Route): void
  gone(route: Route): void
  /** Answered with the bound port. */
  bind(address: ListenAddress): { host: string; port: number }
  unbind(address: ListenAddress): void
  /** The connection of a tunnel that came to the visitors' port is with it. */
  deal(tunnel: { address: string; first: Uint8Array }): void
  /** A tunnel that was handed over has ended. */
  left(id: number): void
}
