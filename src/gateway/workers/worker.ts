import type { Server, Socket } from 'node:net'
import type { Logger } from 'pino'
import type { GatewaySettings } from '../../config/index.ts'
import { HANDOVERS, WORKER_ALONE_MS } from '../../limits.ts'
import {
  closeServer,
  detachHandle,
  type Handle,
  type ListenAddress,
  listenOnHandle,
  plainAddress,
  socketOf,
} from '../../net/index.ts'
import type { AccessWrite } from '../access-log.ts'
import { Authority } from '../authority.ts'
import { replay } from '../change.ts'
import type { Ledger } from '../ledger.ts'
import type { Listening } from '../listening.ts'
import { Station } from '../station.ts'
import { Line } from './line.ts'
import type { Beginning, ToPrimary, ToWorker, WorkerReport } from './words.ts'

export interface WorkerOptions {
  log: Logger
  access: AccessWrite
}

type Primary = Line<ToPrimary, ToWorker>

/**
 * Serves as one worker of a gateway, whose primary has started this process for it, and ends with it. Signals are the
 * primary's alone: on a terminal they come to all.
 */
export function runWorker({ log, access }: WorkerOptions): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined)
  // Nobody would hear of a change any more, and the ports must be free for who starts again.
  process.once('disconnect', () => process.exit())
  // Node does not say so while a handle that went up has not been confirmed.
  setInterval(() => {
    if (!process.connected) process.exit()
  }, WORKER_ALONE_MS).unref()
  let worker: Serving | undefined
  const serving = (): Serving => {
    if (worker === undefined) throw new Error('a worker is told something before all else')
    return worker
  }
  const line: Primary = new Line<ToPrimary, ToWorker>(process, {
    begin(beginning) {
      worker = new Serving(beginning, line, { log, access })
      return worker.begin()
    },
    change(change) {
      try {
        serving().change(change)
      } catch (error) {
        // Its copy of the record is none any more. Another worker gets a new one.
        log.error({ err: error, change: change.kind }, 'this copy of the record has gone astray')
        process.exit(1)
      }
    },
    ids: (ids) => serving().station.behind(ids),
    reload: (settings) => serving().reload(settings),
    settle: () => undefined,
    report: () => serving().report(),
    serving: (route) => serving().station.serving(route),
    tunnel: ({ id, first }, handle) => serving().adopt(id, first, handle),
    drain: (ms) => serving().station.drain(ms),
    close: () => serving().station.close(),
  })
}

/** A station on a copy of the record. */
class Serving {
  readonly station: Station
  readonly #authority: Authority
  readonly #line: Primary
  readonly #log: Logger
  readonly #beginning: Beginning
  /** Connections that are on their way to the primary. */
  #leaving = 0

  constructor(beginning: Beginning, line: Primary, { log, access }: WorkerOptions) {
    const { settings, identity, id, ids, version, record, ownHost } = beginning
    const authority = new Authority(record, settings.grants)
    authority.domain = beginning.domain
    authority.tls = settings.listen.tls !== undefined
    authority.reservedPorts = beginning.reservedPorts
    this.#authority = authority
    this.#line = line
    this.#log = log
    this.#beginning = beginning
    this.station = new Station({
      settings,
      identity,
      id,
      ids,
      version,
      authority,
      ledger: ledgerBy(line, authority),
      listening: listeningBy(line),
      tunnel: (socket, first) => this.#deal(socket, first),
      ownHost: () => ownHost,
      log,
      access,
    })
    this.station.clients = beginning.clients
  }

  async begin(): Promise<void> {
    await this.station.listen({ ...this.#beginning.settings.listen, tunnel: undefined })
    this.station.clients = this.#beginning.clients
    await this.station.openOwned()
  }

  change(change: Parameters<typeof replay>[1]): void {
    const { revoked, released } = replay(this.#authority, change)
    if (revoked !== undefined) this.station.revoked(revoked)
    if (released !== undefined) this.station.released(released)
  }

  /** What it takes away is gone when this returns; what it gives back comes later. */
  reload(settings: GatewaySettings): void {
    this.station
      .reload(settings, this.#authority.setGrants(settings.grants))
      .catch((error: unknown) => this.#log.error({ err: error }, 'cannot take all of the changed settings'))
  }

  report(): WorkerReport {
    const { user, system } = process.cpuUsage()
    return {
      ...this.station.report(),
      residentBytes: process.memoryUsage.rss(),
      cpuSeconds: (user + system) / 1e6,
    }
  }

  adopt(id: number, first: Uint8Array, handle: Handle | undefined): void {
    if (handle === undefined) {
      this.#line.tell('left', id)
      return
    }
    const socket = socketOf(handle)
    socket.once('close', () => this.#line.tell('left', id))
    this.station.adopt(socket, first)
  }

  /** Owns `socket`, whose connection may go on in any worker. */
  #deal(socket: Socket, first: Uint8Array): void {
    const address = plainAddress(socket.remoteAddress ?? '')
    const handle = detachHandle(socket)
    if (handle === undefined) return
    if (this.#leaving >= HANDOVERS) {
      handle.close()
      return
    }
    this.#leaving += 1
    this.#line
      .ask('deal', { address, first }, handle)
      .catch(() => undefined)
      .finally(() => {
        this.#leaving -= 1
        handle.close()
      })
  }
}

/** The record is written by the primary, who tells of each change before it answers. */
function ledgerBy(line: Primary, authority: Authority): Ledger {
  return {
    redeem: (by) => line.ask('redeem', by),
    async claimAll(routes, name) {
      // As the client's other tunnels find it, and each that comes again.
      if (routes.every((route) => authority.ownerOf(route) === name)) return []
      return line.ask('claimAll', { routes, name })
    },
    keepPort: (name, service, port) => line.ask('keepPort', { name, service, port }),
    releaseBy: (name, route) => line.ask('releaseBy', { name, route }),
    save: () => line.ask('save', undefined),
    seen: (key, instance) => line.tell('seen', { key, instance }),
    markLive: (route) => line.tell('live', route),
    markGone: (route) => line.tell('gone', route),
  }
}

/** Ports are bound by the primary, so that all workers can listen on one. */
function listeningBy(line: Primary): Listening {
  const open = new Map<Server, ListenAddress>()
  return {
    async listen(server, address) {
      const { value, handle } = await line.askForHandle('bind', address)
      if (handle === undefined) throw new Error('a port without its handle')
      try {
        await listenOnHandle(server, handle, address)
      } catch (error) {
        line.tell('unbind', address)
        throw error
      }
      open.set(server, address)
      return value
    },
    close(server) {
      const closed = closeServer(server)
      const address = open.get(server)
      // At once, whoever is connected still: while anybody has the port bound, visitors would come to nobody.
      if (address !== undefined) line.tell('unbind', address)
      open.delete(server)
      return closed
    },
  }
}
