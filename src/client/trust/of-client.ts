import { X509Certificate } from 'node:crypto'
import type { Logger } from 'pino'
import type { TrustSettings } from '../../config/index.ts'
import { type Pin, pinOf } from '../../identity/index.ts'
import type { State } from '../../state/index.ts'
import type { ClientService } from '../services.ts'
import type { CaaAccount, ValidationMethod } from './caa.ts'
import type { TrustChecks, TrustContext } from './checks.ts'
import type { Finding } from './finding.ts'
import type { ProbeNonces } from './probe-nonces.ts'
import { ShownKeys } from './shown-keys.ts'
import { subjectsOf } from './subjects.ts'
import { TrustWatch } from './watch.ts'

/** How a client checks whether visitors reach it unread. */
export interface ClientTrust {
  settings: TrustSettings
  /** Its accounts at certificate authorities; none when left out. */
  accounts?: (() => Promise<readonly CaaAccount[]>) | undefined
  /** How it proves its names to them. */
  methods?: readonly ValidationMethod[] | undefined
  /** Nothing is ordered while CAA records are not right. */
  requireCaa?: boolean | undefined
  /** Keys that it ordered certificates for. */
  ordered?: (() => Promise<readonly Pin[]>) | undefined
  /** PEM: believed besides the system's roots. */
  ca?: readonly string[] | undefined
  /** Instead of those over the network. */
  checks?: ((context: TrustContext) => TrustChecks) | undefined
}

/** What a client says of itself; functions, since all of it changes. */
export interface WatchedClient {
  trust(): ClientTrust
  identity: Pin
  state: State | undefined
  nonces: ProbeNonces
  log: Logger
  random: () => number
  services(): Iterable<ClientService>
  urls(service: string): readonly string[]
  /** Names or IP addresses, without ports. */
  gateways(): readonly string[]
  /** Chains that visitors are shown now, or will be once they are read, PEM. */
  chains(): Promise<readonly string[]>
  alarm(finding: Finding): void
}

/** The watch of a client, not started. */
export function watchOf(client: WatchedClient): TrustWatch {
  const { log, identity, nonces } = client
  const subjects = () => subjectsOf(client.services(), (name) => client.urls(name))
  return new TrustWatch({
    subjects,
    log,
    random: () => client.random(),
    alarm: (finding) => client.alarm(finding),
    async checks() {
      const make = client.trust().checks ?? (await import('./checks.ts')).trustChecks
      return make({
        get settings() {
          return client.trust().settings
        },
        get methods() {
          return client.trust().methods ?? []
        },
        get requireCaa() {
          return client.trust().requireCaa === true
        },
        get ca() {
          return client.trust().ca
        },
        identity,
        nonces,
        hosts: () => subjects().map(({ host }) => host),
        gateways: () => client.gateways(),
        accounts: async () => (await client.trust().accounts?.()) ?? [],
        async known() {
          const { state } = client
          const chains = await client.chains()
          if (state !== undefined) await new ShownKeys(state).add(pinsOf(chains), Date.now())
          return keysOf(chains, { trust: client.trust(), state })
        },
        now: Date.now,
      })
    },
  })
}

/** Every key that a certificate of ours may have: shown now (`chains`, PEM), ordered, or shown before. */
export async function keysOf(
  chains: readonly string[],
  { trust, state }: { trust: ClientTrust; state: State | undefined },
): Promise<Pin[]> {
  const ordered = (await trust.ordered?.()) ?? []
  const shown = state === undefined ? [] : await new ShownKeys(state).list()
  return [...pinsOf(chains), ...ordered, ...shown]
}

function pinsOf(chains: readonly string[]): Pin[] {
  return chains.map((chain) => pinOf(new X509Certificate(chain).publicKey))
}
