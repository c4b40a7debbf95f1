import type { ChildProcess } from 'node:child_process'
import { createServer, type Server } from 'node:net'
import type { Logger } from 'pino'
import type { GatewaySettings } from '../../config/index.ts'
import { TunnelError } from '../../errors.ts'
import type { Identity } from '../../identity/index.ts'
import {
  WORKER_ANSWER_MS,
  WORKER_CUT_MS,
  WORKER_END_MS,
  WORKER_OLD_MS,
  WORKER_PAUSE_MS,
  WORKER_PAUSE_MS_MAX,
  WORKER_START_MS,
} from '../../limits.ts'
import { detachHandle, listenOn, plainAddress } from '../../net/index.ts'
import { gatewayId, type Staff } from '../gateway.ts'
import type { Serving } from '../registrar.ts'
import type { StationReport, WorkerRow } from '../report.ts'
import type { Route } from '../route.ts'
import type { Gauge } from '../series.ts'
import type { Address } from '../station.ts'
import type { Store } from '../store.ts'
import { countsOf, sumReports } from '../sum.ts'
import { Bindings } from './bindings.ts'
import { Handovers, type Incoming } from './handovers.ts'
import { type Ears, WithHandle } from './line.ts'
import { LiveRoutes } from './live-routes.ts'
import { Member, within } from './member.ts'
import type { ToPrimary, WorkerReport } from './words.ts'

export interface WorkersOptions {
  settings: GatewaySettings
  identity: Identity
  version: string
  store: Store
  fork: (worker: number) => ChildProcess
  log: Logger
}

/**
 * The staff of a gateway of several processes: each is a gateway with an id of its own, on the same ports. This process
 * carries no visitor. It writes the record for all, and tells all of each change in one order; it binds the ports; and it
 * takes the connections of tunnels, unread, and deals them.
 */
export class Workers implements Staff {
  visitors: Address = { host: '', port: 0 }
  clients: Address = { host: '', port: 0 }
  tls: Address | undefined

  readonly #options: WorkersOptions
  readonly #members = new Map<number, Member>()
  readonly #bindings = new Bindings()
  readonly #handovers: Handovers
  readonly #live: LiveRoutes
  readonly #tunnels: Server
  /** What those have counted that have ended. */
  #past: StationReport[] = []
  /** As they are in force, with the ports as they are bound. */
  #settings: GatewaySettings
  /** How often in a row each has died young. */
  readonly #deaths = new Map<number, number>()
  readonly #pauses = new Set<NodeJS.Timeout>()
  #begun = false
  #ending = false

  constructor(options: WorkersOptions) {
    const { settings, store } = options
    this.#options = options
    this.#settings = { ...settings, memoryBytes: Math.floor(settings.memoryBytes / settings.workers) }
    this.#handovers = new Handovers({
      members: () => this.#serving,
      random: Math.random,
      hung: (member) => this.#endHung(member),
    })
    this.#live = new LiveRoutes(store)
    // Nothing is read of those who come: that is for whoever gets them.
    this.#tunnels = createServer({ pauseOnConnect: true }, (socket) => {
      const address = plainAddress(socket.remoteAddress ?? '')
      const handle = detachHandle(socket)
      if (handle !== undefined) this.#take({ handle, address, first: NOTHING })
    })
    store.authority.onChange = (change) => {
      for (const member of this.#members.values()) member.change(change)
    }
  }

  get ready(): boolean {
    return this.#serving.length > 0
  }

  async listen({ tls, tunnel, http }: GatewaySettings['listen']): Promise<void> {
    const { listen } = this.#settings
    if (tls !== undefined) this.tls = at(await this.#bindings.keep(tls))
    this.clients = tunnel === undefined ? (this.tls ?? this.clients) : await listenOn(this.#tunnels, tunnel)
    this.visitors = at(await this.#bindings.keep(http))
    this.#settings.listen = {
      ...listen,
      ...(tls === undefined ? {} : { tls: { ...tls, port: this.tls?.port ?? 0 } }),
      http: { ...http, port: this.visitors.port },
    }
  }

  /** Rejects with what keeps one from serving. */
  async begin(): Promise<void> {
    const { workers } = this.#settings
    const starts = Array.from({ length: workers }, (_, index) => this.#start(index + 1))
    const results = await Promise.allSettled(starts)
    for (const result of results) if (result.status === 'rejected') throw result.reason
    this.#begun = true
    // One may have ended while others were still starting.
    for (let number = 1; number <= workers; number++) if (!this.#members.has(number)) this.#replace(number)
    this.#tellIds()
    this.#options.log.info({ workers, pids: this.#serving.map(({ pid }) => pid) }, 'workers serve')
  }

  async revoked(): Promise<void> {
    await this.#settled()
  }

  async released(): Promise<void> {
    await this.#settled()
  }

  async reload(settings: GatewaySettings): Promise<void> {
    const { listen, memoryBytes } = this.#settings
    this.#settings = { ...settings, listen, memoryBytes }
    for (const { line } of this.#members.values()) line.tell('reload', this.#settings)
    await this.#settled()
  }

  async serving(route: Route): Promise<Serving | undefined> {
    const asked = this.#serving.map(({ line }) =>
      within(line.ask('serving', route), WORKER_ANSWER_MS).catch(() => undefined),
    )
    const all = (await Promise.all(asked)).filter((one) => one !== undefined)
    return all.toSorted((a, b) => b.clients - a.clients)[0]
  }

  async report(): Promise<{ sum: StationReport; workers: WorkerRow[]; gauges: Gauge[] }> {
    const asked = [...this.#members.values()].toSorted((a, b) => a.number - b.number)
    const said = await Promise.all(
      asked.map(async (member) => ({ member, report: await member.report(WORKER_ANSWER_MS) })),
    )
    // What one had counted that has ended meanwhile is among the past: no count may be there twice.
    const here = said.filter(({ member }) => this.#members.get(member.number) === member)
    const members = here.map(({ member }) => member)
    const reports = here.map(({ report }) => report)
    // Of one that does not answer, what it had counted before: no count may fall.
    const silent = members.flatMap(({ last }, index) =>
      reports[index] !== undefined || last === undefined ? [] : [countsOf(last)],
    )
    const answered = reports.filter((report) => report !== undefined)
    return {
      sum: sumReports([...this.#past, ...silent, ...answered]),
      workers: members.map(({ number, pid, id }, index) => ({
        worker: number,
        pid,
        id,
        answered: reports[index] !== undefined,
        tunnels: reports[index]?.tunnels.length ?? 0,
        streams: reports[index]?.streams ?? 0,
      })),
      gauges: workerGauges(this.#settings.workers, members, reports),
    }
  }

  async drain(ms: number): Promise<void> {
    this.#stop()
    const drained = [...this.#members.values()].map(({ line }) =>
      within(line.ask('drain', ms), ms + WORKER_END_MS).catch(() => undefined),
    )
    await Promise.all(drained)
  }

  async close(): Promise<void> {
    this.#stop()
    await Promise.all([...this.#members.values()].map((member) => member.close()))
  }

  /** Nobody comes in any more, and nobody is replaced. */
  #stop(): void {
    if (this.#ending) return
    this.#ending = true
    for (const pause of this.#pauses) clearTimeout(pause)
    this.#tunnels.close()
    this.#handovers.close()
    this.#bindings.close()
  }

  #take(incoming: Incoming): void {
    if (this.#ending) incoming.handle.close()
    else this.#handovers.add(incoming)
  }

  /** Those who may be dealt tunnels. */
  get #serving(): Member[] {
    return [...this.#members.values()].filter(({ ready }) => ready)
  }

  /** Starts one; resolves when it serves. */
  async #start(number: number): Promise<void> {
    const { fork, identity, version, store } = this.#options
    const { authority } = store
    let child: ChildProcess
    try {
      child = fork(number)
    } catch (error) {
      // Without a process, for want of memory, there is no end of one that would bring the next.
      if (this.#begun && !this.#ending) this.#replace(number)
      throw error
    }
    const member: Member = new Member(number, gatewayId(identity), child, this.#ears(number))
    this.#members.set(number, member)
    const ended = member.ended.then((how) => this.#ended(member, how))
    // From here on it is told of each change, so the record it begins with must be as of now.
    const begins = member.begin(
      {
        id: member.id,
        ids: [...this.#serving.map(({ id }) => id), member.id],
        settings: this.#settings,
        identity,
        version,
        record: authority.record,
        reservedPorts: authority.reservedPorts,
        domain: authority.domain,
        ownHost: store.host,
        clients: this.clients,
      },
      WORKER_START_MS,
    )
    try {
      await begins
    } catch (error) {
      member.kill()
      const how = await ended
      if (error instanceof TunnelError && error.code !== 'closed') throw error
      throw new TunnelError('internal', {
        scope: 'process',
        detail: `worker ${number} ended before it served (${how}): the log says why`,
      })
    }
    if (this.#begun) this.#tellIds()
  }

  #ended(member: Member, how: string): string {
    const { number } = member
    this.#members.delete(number)
    this.#bindings.gone(number)
    this.#live.gone(number)
    this.#handovers.gone(member)
    if (member.last !== undefined) this.#past = [sumReports([...this.#past, countsOf(member.last)])]
    if (!this.#begun || this.#ending) return how
    this.#tellIds()
    if (performance.now() - member.startedAt >= WORKER_OLD_MS) this.#deaths.delete(number)
    const retryMs = this.#replace(number)
    this.#options.log.error(
      { worker: number, pid: member.pid, retryMs },
      `worker ${number} has ended (${how}): its visitors and tunnels are cut, another takes its place`,
    )
    return how
  }

  /** Starts another one, after a pause that grows while they die young; returns how long that is. */
  #replace(number: number): number {
    const deaths = this.#deaths.get(number) ?? 0
    this.#deaths.set(number, deaths + 1)
    const wait = Math.min(WORKER_PAUSE_MS_MAX, WORKER_PAUSE_MS * 2 ** deaths)
    const pause = setTimeout(() => {
      this.#pauses.delete(pause)
      this.#start(number).catch((error: unknown) =>
        this.#options.log.error({ err: error, worker: number }, 'a worker cannot begin'),
      )
    }, wait)
    this.#pauses.add(pause)
    return wait
  }

  #tellIds(): void {
    const ids = this.#serving.map(({ id }) => id)
    for (const { line } of this.#serving) line.tell('ids', ids)
  }

  /** All have done what they were told; who has not is ended. */
  async #settled(): Promise<void> {
    const settled = this.#serving.map(async (member) => {
      if (!(await member.settle(WORKER_CUT_MS))) this.#endHung(member)
    })
    await Promise.all(settled)
  }

  #endHung(member: Member): void {
    const { number } = member
    this.#options.log.error({ worker: number }, `worker ${number} did not answer in time: it was ended`)
    member.kill()
  }

  #ears(worker: number): Ears<ToPrimary> {
    const { store } = this.#options
    const { authority } = store
    return {
      redeem: (by) => authority.redeem({ ...by, now: Date.now() }),
      claimAll: ({ routes, name }) => authority.claimAll(routes, name),
      keepPort: ({ name, service, port }) => authority.keepPort(name, service, port),
      releaseBy: ({ name, route }) =>
        !this.#live.elsewhere(route, worker) && authority.releaseBy(name, route),
      save: () => store.save(),
      seen: ({ key, instance }) => {
        authority.seen(key, instance, Date.now())
        store.saveSoon()
      },
      live: (route) => this.#live.live(route, worker),
      gone: (route) => this.#live.left(route, worker),
      bind: async (address) => {
        const { handle, host, port } = await this.#bindings.bind(address, worker)
        return new WithHandle({ host, port }, handle)
      },
      unbind: (address) => this.#bindings.unbind(address, worker),
      deal: ({ address, first }, handle) => {
        if (handle !== undefined) this.#take({ handle, address, first })
      },
      left: (id) => this.#handovers.left(id),
    }
  }
}

const NOTHING = new Uint8Array(0)

function at({ host, port }: Address): Address {
  return { host, port }
}

function workerGauges(
  workers: number,
  members: readonly Member[],
  reports: readonly (WorkerReport | undefined)[],
): Gauge[] {
  const reportOf = new Map(members.map(({ number }, index) => [number, reports[index]]))
  // Of one that has yet to be replaced too: a series that is missing wakes nobody.
  const perWorker = (
    name: string,
    type: Gauge['type'],
    help: string,
    of: (report: WorkerReport | undefined) => number | undefined,
  ): Gauge => ({
    name: `blindgate_worker_${name}`,
    type,
    help,
    labels: ['worker'],
    values: Array.from({ length: workers }, (_, index) => index + 1).flatMap((number) => {
      const value = of(reportOf.get(number))
      return value === undefined ? [] : [{ labels: { worker: `${number}` }, value }]
    }),
  })
  return [
    perWorker('up', 'gauge', 'Whether a worker answers.', (report) => (report === undefined ? 0 : 1)),
    perWorker('resident_memory_bytes', 'gauge', 'Memory of a worker.', (report) => report?.residentBytes),
    perWorker('cpu_seconds_total', 'counter', 'Processor time of a worker.', (report) => report?.cpuSeconds),
  ]
}
