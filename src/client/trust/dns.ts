import { getServers } from 'node:dns'
import { isIP } from 'node:net'
import { TunnelError } from '../../errors.ts'
import { DNS_ALIASES, DNS_QUESTIONS, DNS_SERVER_ADDRESSES, DNS_SERVERS, DNS_TRIES } from '../../limits.ts'
import { printable } from '../../protocol/index.ts'
import { ask, type NameServer } from './dns-ask.ts'
import { type DnsAnswer, type DnsRecord, plainName, type Question, type QuestionType } from './dns-message.ts'

/** A zone, and who answers for it. */
export interface Zone {
  /** Its name, '' for the root. */
  apex: string
  /** The names of its servers. */
  names: string[]
  /** Their addresses, by which it is told who runs it. */
  addresses: string[]
  /** Who is asked: these addresses, or what the configuration names instead. */
  servers: NameServer[]
}

/** What is known of one name and type, after its aliases. */
export interface Resolved {
  /** Of the last name only; none for a name that has none of that type, or that is not there. */
  records: DnsRecord[]
  /** The last name: the one that was asked for, unless it is an alias. */
  owner: string
  /** The zones that had a say: of the name, and of each one that it leads to. The last one has the records. */
  zones: Zone[]
}

export interface DnsOptions {
  /** Asked instead of the zones' own servers, and believed like them: authoritative ones, or a resolver. */
  nameservers?: readonly NameServer[] | undefined
  /** Asked for who a zone's own servers are: the system's. */
  resolvers?: readonly NameServer[] | undefined
  /** Ends all that is under way. */
  signal?: AbortSignal | undefined
  /** One question to one server. */
  ask?: typeof ask | undefined
}

/**
 * What the servers of a zone themselves say, now: no cache has a part in it, and no resolver that shows the inside of a
 * network something else than the internet. The system's resolver is asked only for who they are.
 *
 * For one look at a few names: what it has learnt of zones it keeps, and the questions it may ask are counted. Rejects with
 * `timeout`, `unreachable` and `not_found`, scope `process`.
 */
export class Dns {
  readonly #nameservers: readonly NameServer[] | undefined
  readonly #resolvers: readonly NameServer[]
  readonly #signal: AbortSignal | undefined
  readonly #ask: typeof ask
  readonly #zones = new Map<string, Promise<Zone>>()
  /** How often a server gave no answer, and the last reason. One that is silent is not waited for at each question. */
  readonly #silence = new Map<string, { times: number; reason: TunnelError }>()
  #questions = 0

  constructor(options: DnsOptions = {}) {
    this.#nameservers = options.nameservers?.length === 0 ? undefined : options.nameservers
    this.#resolvers = options.resolvers ?? systemResolvers()
    this.#signal = options.signal
    this.#ask = options.ask ?? ask
  }

  /** The zone that a name is in: the longest name at or above it that has NS records of its own. */
  zoneOf(name: string): Promise<Zone> {
    const plain = plainName(name)
    const known = this.#zones.get(plain)
    if (known !== undefined) return known
    const looked = this.#zoneOf(plain)
    this.#zones.set(plain, looked)
    return looked
  }

  /** Asks the servers of a name's zone, and of each zone that CNAME and DNAME records lead to. */
  async resolve(name: string, type: QuestionType): Promise<Resolved> {
    let owner = plainName(name)
    const zones: Zone[] = []
    for (let aliases = 0; aliases <= DNS_ALIASES; aliases++) {
      const zone = await this.zoneOf(owner)
      zones.push(zone)
      const { records } = await this.#authoritative(zone, { name: owner, type })
      const found = records.filter((record) => record.name === owner && record.type === type)
      if (found.length > 0) return { records: found, owner, zones }
      const next = aliasOf(owner, records)
      if (next === undefined) return { records: [], owner, zones }
      owner = next
    }
    throw failure('not_found', `${printable(name)} is an alias of an alias, more than ${DNS_ALIASES} times`)
  }

  /** IPv4 and IPv6 addresses of a name, as its zone's servers give them. */
  async addressesOf(name: string): Promise<string[]> {
    const answers = [await this.resolve(name, 'A'), await this.resolve(name, 'AAAA')]
    return [...new Set(answers.flatMap(({ records }) => records.flatMap(addressIn)))]
  }

  /** Records of a zone, or of a name at its parent, by the servers given. */
  async ofZone(zone: Zone, name: string, type: QuestionType): Promise<DnsRecord[]> {
    const { records } = await this.#authoritative(zone, { name, type })
    return records.filter((record) => record.name === name && record.type === type)
  }

  async #zoneOf(name: string): Promise<Zone> {
    for (let apex = name; ; apex = parentOf(apex)) {
      if (apex === '') throw await this.#zoneless(name)
      const { records } = await this.#first(this.#guides, { name: apex, type: 'NS' }, true)
      const names = records.flatMap((record) =>
        record.type === 'NS' && record.name === apex ? [record.data] : [],
      )
      if (names.length > 0) return this.#zone(apex, names)
    }
  }

  /** A resolver that knows no name at all, as one of a closed network, says nothing of this one. */
  async #zoneless(name: string): Promise<TunnelError> {
    const none = failure('not_found', `no zone is found for ${printable(name)} (is it registered?)`)
    if (this.#nameservers !== undefined) return none
    const root = await this.#first(this.#resolvers, { name: '', type: 'NS' }, true).catch(() => undefined)
    if (root?.records.some(({ type }) => type === 'NS') === true) return none
    const hosts = this.#resolvers.map(({ host }) => host).join(', ')
    return failure('unreachable', `the resolver of this machine, ${hosts}, does not answer for the internet`)
  }

  async #zone(apex: string, names: string[]): Promise<Zone> {
    const addresses: string[] = []
    for (const name of names.slice(0, DNS_SERVERS)) {
      for (const type of ['A', 'AAAA'] as const) {
        // One of several that has no address, or a lame one, is not worth the end of the check.
        const answer = await this.#first(this.#guides, { name, type }, true).catch(() => undefined)
        addresses.push(...(answer?.records.flatMap(addressIn) ?? []))
      }
    }
    const known = [...new Set(addresses)].slice(0, DNS_SERVER_ADDRESSES)
    if (known.length === 0 && this.#nameservers === undefined) {
      throw failure('not_found', `the name servers of ${printable(apex)} have no address`)
    }
    const servers = this.#nameservers ?? known.slice(0, DNS_SERVERS).map((host) => ({ host, port: 53 }))
    return { apex, names, addresses: known, servers: [...servers] }
  }

  #authoritative({ servers }: Zone, question: Question): Promise<DnsAnswer> {
    return this.#first(servers, question, this.#nameservers !== undefined)
  }

  /** Who knows where the zones' own servers are. */
  get #guides(): readonly NameServer[] {
    return this.#nameservers ?? this.#resolvers
  }

  /** The first usable answer: one that says yes or no, and of a zone's own server, with authority. */
  async #first(servers: readonly NameServer[], question: Question, recursive: boolean): Promise<DnsAnswer> {
    let reason = failure('unreachable', 'there is no name server to ask')
    for (let round = 0; round < DNS_TRIES; round++) {
      for (const server of servers.slice(0, DNS_SERVERS)) {
        const silence = this.#silence.get(`${server.host} ${server.port}`)
        if (silence !== undefined && silence.times >= DNS_TRIES) {
          ;({ reason } = silence)
          continue
        }
        this.#count(question)
        try {
          const answer = await this.#ask(server, question, { recursive, signal: this.#signal })
          const { rcode, authoritative } = answer
          // Servers of a parent zone, and those that have no such zone, answer without authority.
          if ((rcode === 'NOERROR' || rcode === 'NXDOMAIN') && (recursive || authoritative)) return answer
          reason = failure(
            'unreachable',
            `name server ${server.host} does not answer for ${printable(question.name)} (${rcode})`,
          )
        } catch (error) {
          if (!(error instanceof TunnelError)) throw error
          reason = error
          const times = (silence?.times ?? 0) + 1
          this.#silence.set(`${server.host} ${server.port}`, { times, reason })
        }
        if (this.#signal?.aborted === true) throw reason
      }
    }
    throw reason
  }

  #count({ name }: Question): void {
    this.#questions += 1
    if (this.#questions <= DNS_QUESTIONS) return
    throw failure(
      'not_found',
      `${printable(name)} takes more than ${DNS_QUESTIONS} questions: its aliases go in circles`,
    )
  }
}

/** Where the records of a name say that it leads; undefined if nowhere. A DNAME is of a name above (RFC 6672, 2.2). */
function aliasOf(name: string, records: readonly DnsRecord[]): string | undefined {
  for (const record of records) {
    if (record.type === 'CNAME' && record.name === name) return record.data
  }
  for (const record of records) {
    if (record.type !== 'DNAME' || !name.endsWith(`.${record.name}`)) continue
    return `${name.slice(0, -record.name.length - 1)}.${record.data}`
  }
  return undefined
}

/** '' above the last label. */
export function parentOf(name: string): string {
  const dot = name.indexOf('.')
  return dot < 0 ? '' : name.slice(dot + 1)
}

function addressIn(record: DnsRecord): string[] {
  return (record.type === 'A' || record.type === 'AAAA') && isIP(record.data) !== 0 ? [record.data] : []
}

function systemResolvers(): NameServer[] {
  return getServers().flatMap((text) => {
    const [, bracketed, plain = '', port = '53'] =
      /^(?:\[([^\]]+)\]|([^\]]+?))(?::([0-9]+))?$/.exec(isIP(text) === 6 ? `[${text}]` : text) ?? []
    const host = bracketed ?? plain
    // A zone (`fe80::1%eth0`) is part of it.
    return host === '' ? [] : [{ host, port: Number(port) }]
  })
}

function failure(code: 'not_found' | 'unreachable', detail: string): TunnelError {
  return new TunnelError(code, { scope: 'process', remote: true, detail })
}
