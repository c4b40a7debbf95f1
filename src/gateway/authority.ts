import type { Grant } from '../config/index.ts'
import { TunnelError, userError } from '../errors.ts'
import type { Pin } from '../identity/index.ts'
import type { ServiceOffer } from '../protocol/index.ts'
import { Admission, type InviteMade, quoted, type Redeemed } from './admission.ts'
import type { Change } from './change.ts'
import { Enrolments } from './enrolments.ts'
import { Grants } from './grants.ts'
import type { HostTable } from './hosts.ts'
import { Invites } from './invites.ts'
import { routesOf } from './offer.ts'
import { Owners } from './owners.ts'
import type { AuthorityRecord, Enrolment } from './record.ts'
import { formatRoute, parseRoute, type Route, tcpRoute } from './route.ts'

export type { InviteMade, Redeemed } from './admission.ts'
export { type AuthorityRecord, authoritySchema } from './record.ts'

export interface Revoked {
  /** Their tunnels are to be cut at once. */
  keys: Pin[]
  /** Names taken away whole. */
  names: string[]
  /** Routes that were released with them: their services are withdrawn, their visitors cut. */
  routes: Route[]
}

/**
 * Who may do what on this gateway: invites, enrolled and revoked keys, owners of routes, and the grants of
 * the configuration they are held against.
 *
 * Pure: the time comes in (epoch ms), a record goes out. **Nobody is told an answer before it is on disk**:
 * after each call the caller writes `record` if what it last wrote is older than `revision`, waits for that,
 * and then answers. When the write fails the caller answers with that failure; the change stays in memory and
 * goes to disk with the next write, which is harmless, since nobody acted on it and asking again gives the same.
 * `sightings` counts what may reach the disk late (last seen, live, gone).
 *
 * Errors for a person at the gateway have scope `process`, those for a machine that enrolls `tunnel`, those for
 * one service `stream`; all print as they are and carry no secret.
 */
export class Authority {
  /** Changes that must be on disk before anybody is told of them. */
  revision = 0
  /** Changes that may be written a little later; losing the last ones in a crash costs nothing but a guess. */
  sightings = 0
  /** Ports that the gateway itself listens on, which nobody is granted. The caller sets it. */
  reservedPorts: ReadonlySet<number> = new Set()
  /** Under which services without a host get one. The caller sets it. */
  domain: string | undefined
  /** There is a port for visitors that come by TLS. The caller sets it. */
  tls = false
  /** Hears of each change in its turn, before whoever asked for it: `replay` makes the same one elsewhere. Not of `seen`. */
  onChange: (change: Change) => void = () => {}

  #several = { revision: -1, names: false }
  readonly #invites: Invites
  readonly #enrolments: Enrolments
  readonly #owners: Owners
  readonly #admission: Admission

  /** `record` as `authoritySchema` read it, undefined on a first run; `grants` undefined when the file has none. */
  constructor(record: AuthorityRecord | undefined, grants: ReadonlyMap<string, Grant> | undefined) {
    this.#invites = new Invites(record?.invites ?? [])
    this.#enrolments = new Enrolments(record?.enrolled ?? [], record?.revoked ?? [])
    this.#owners = new Owners(record?.owners ?? [])
    this.#admission = new Admission({
      invites: this.#invites,
      enrolments: this.#enrolments,
      owners: this.#owners,
      grants: new Grants(grants),
    })
  }

  /** A copy of all that must outlive the process, as `authoritySchema` reads it. Built on each call. */
  get record(): AuthorityRecord {
    return {
      version: 1,
      invites: this.#invites.all.map((invite) => ({ ...invite })),
      ...this.#enrolments.record,
      owners: [...this.#owners.all].map((owned) => ({ ...owned })),
    }
  }

  // ── Invites ───────────────────────────────────────────────────────────────────────────────────────────

  /** True while nobody is enrolled: the gateway then shows a first invite on a terminal. */
  get needsFirstInvite(): boolean {
    return this.#enrolments.size === 0
  }

  /**
   * Makes an invite. Without `name` it is for `home`, while no other name is enrolled. Throws `usage` (numbers,
   * no name where one is needed, a second name without grants, too many invites) or `not_granted`.
   */
  createInvite(invite: {
    name?: string
    uses: number
    /** Epoch ms. */
    expiresAt: number
    /** SHA-256 of the secret, hex. */
    secretHash: string
    now: number
  }): InviteMade {
    const made = this.#admission.createInvite(invite)
    this.revision++
    this.onChange({ kind: 'invite', invite })
    return made
  }

  /**
   * The invite shown at a first run: one use, voids the one shown before. Undefined when somebody has joined
   * already, or when the grants leave open for whom it would be.
   */
  createFirstInvite(invite: { expiresAt: number; secretHash: string; now: number }): InviteMade | undefined {
    const made = this.#admission.createFirstInvite(invite)
    if (made === undefined) return undefined
    this.revision++
    this.onChange({ kind: 'firstInvite', invite })
    return made
  }

  /**
   * Enrolls `key` under the name of the invite whose secret this is; the caller has seen proof of the key.
   * The same key again is told the same and takes no use. Throws `revoked`, `invite_invalid`, `invite_expired`,
   * `invite_used` or `overloaded`.
   */
  redeem(by: { secretHash: string; key: Pin; instance?: string; now: number }): Redeemed {
    const redeemed = this.#admission.redeem(by)
    if (by.instance !== undefined) this.seen(by.key, by.instance, by.now)
    if (redeemed.again) return redeemed
    this.revision++
    this.onChange({ kind: 'redeem', by })
    return redeemed
  }

  // ── Keys ──────────────────────────────────────────────────────────────────────────────────────────────

  /** Who dials with this key: a name, `revoked`, or undefined for a stranger. */
  identify(key: Pin): { name: string } | 'revoked' | undefined {
    const enrolled = this.#enrolments.of(key)
    if (enrolled !== undefined) return { name: enrolled.name }
    return this.#enrolments.revoked(key) === undefined ? undefined : 'revoked'
  }

  /** The enrolled machines, oldest first. Copies. */
  get clients(): Enrolment[] {
    return this.#enrolments.record.enrolled
  }

  /** Notes that an enrolled key dialled, from which instance. */
  seen(key: Pin, instance: string, now: number): void {
    if (this.#enrolments.seen(key, instance, now)) this.sightings++
  }

  /**
   * Takes away a name (its keys, invites and routes) or one key (and the invite that enrolled it; its name keeps
   * the routes). A key may be cut short after 8 characters. Revoking twice gives the same keys.
   * Throws `not_found` with what there is, and `usage` for a short or ambiguous key.
   */
  revoke(nameOrKey: string, now: number): Revoked {
    const revoked = nameOrKey.startsWith('sha256:')
      ? this.#revokeKey(nameOrKey, now)
      : this.#revokeName(nameOrKey, now)
    this.onChange({ kind: 'revoke', target: nameOrKey, now })
    return revoked
  }

  #revokeKey(text: string, now: number): Revoked {
    const key = this.#enrolments.match(text)
    const enrolled = this.#enrolments.of(key)
    if (enrolled !== undefined) {
      this.#invites.void((invite) => invite.id === enrolled.invite)
      this.#enrolments.revoke(key, now)
      this.revision++
    }
    return { keys: [key], names: [], routes: [] }
  }

  #revokeName(name: string, now: number): Revoked {
    const keys = this.#enrolments.keysOf(name)
    const routes = this.#owners.routesOf(name)
    const voided = this.#invites.void((invite) => invite.name === name)
    if (keys.length + routes.length + voided === 0) {
      throw userError('not_found', `there is no name "${name}": there is ${quoted(this.names)}`)
    }
    for (const key of keys) this.#enrolments.revoke(key, now)
    for (const route of routes) this.#owners.release(route)
    this.revision++
    return { keys, names: [name], routes }
  }

  /** More than one name has a key or a route. Asked for each visitor, so it is counted once a change. */
  get severalNames(): boolean {
    if (this.#several.revision !== this.revision) {
      this.#several = { revision: this.revision, names: this.names.length > 1 }
    }
    return this.#several.names
  }

  /** Names that have a key or a route. */
  get names(): string[] {
    return [...new Set([...this.#enrolments.names, ...this.#owners.names])]
  }

  // ── Owners ────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Makes `name` the owner of a route, or finds that it is. Ask `mayOffer` first: a claim alone does not look at
   * grants. Throws `route_taken`, `too_many_services`, and `not_granted` for a name that nobody is enrolled under:
   * it may have been revoked while its port was being opened.
   */
  claim(route: Route, name: string): void {
    this.claimAll([route], name)
  }

  /** As `claim`, for all of them or none; returns those that nobody owned. */
  claimAll(routes: readonly Route[], name: string): Route[] {
    this.#checkEnrolled(name)
    const claimed = this.#owners.claim(routes, name, (host) => this.#admission.grants.lists(name, host))
    if (claimed.length === 0) return claimed
    this.revision++
    this.onChange({ kind: 'claim', routes, name })
    return claimed
  }

  /** Where a visitor's host is looked up: all owned routes of hosts. */
  get hosts(): HostTable {
    return this.#owners.hosts
  }

  ownerOf(route: Route): string | undefined {
    return this.#owners.ownerOf(route)
  }

  routesOf(name: string): Route[] {
    return this.#owners.routesOf(name)
  }

  /** All owned routes with their owners: what listeners to keep open, and what `status` shows. */
  get owners(): { route: Route; name: string }[] {
    return [...this.#owners.all].map(({ route, name }) => ({ route, name }))
  }

  /** Frees a route for others, at the operator's word; returns whose it was. Throws `usage` and `not_found`. */
  release(text: string): string {
    const route = formatRoute(parseRoute(text))
    const name = this.#owners.release(route)
    if (name === undefined) {
      const routes = [...this.#owners.all].map((owned) => owned.route)
      throw userError('not_found', `nobody owns ${route}: there is ${quoted(routes)}`)
    }
    this.revision++
    this.onChange({ kind: 'release', route })
    return name
  }

  /** Frees a route at its owner's word. False, and nothing changes, when it is not its owner's. */
  releaseBy(name: string, route: Route): boolean {
    if (this.#owners.ownerOf(route) !== name) return false
    this.#owners.release(route)
    this.revision++
    this.onChange({ kind: 'release', route })
    return true
  }

  /** The port kept for a `tcp` service without one, while its grant still covers it. */
  portFor(name: string, service: string): number | undefined {
    const port = this.#owners.keptPort(name, service)
    return port !== undefined && this.covers(name, tcpRoute(port)) ? port : undefined
  }

  /** Claims a port and keeps it for (name, service); true when nobody owned it. Throws as `claim`. */
  keepPort(name: string, service: string, port: number): boolean {
    this.#checkEnrolled(name)
    const free = this.ownerOf(tcpRoute(port)) === undefined
    if (!this.#owners.keepPort(name, service, port)) return false
    this.revision++
    this.onChange({ kind: 'keepPort', name, service, port })
    return free
  }

  /**
   * The lowest port of the grant that nobody owns, the gateway does not use and `inUse` does not have (ports that
   * could not be opened). Throws `port_in_use` when there is none.
   */
  lowestFreePort(name: string, inUse: ReadonlySet<number>): number {
    const port = this.#admission.grants.lowestPort(
      name,
      (port) => inUse.has(port) || this.reservedPorts.has(port) || this.ownerOf(tcpRoute(port)) !== undefined,
    )
    if (port !== undefined) return port
    const detail = `no port of the grant of "${name}" (${this.#admission.grants.portsOf(name)}) is free: free one with \`blindgate release tcp:PORT\` on the gateway, or grant more`
    throw new TunnelError('port_in_use', { scope: 'stream', remote: true, detail })
  }

  #checkEnrolled(name: string): void {
    if (this.#enrolments.has(name)) return
    const detail = `nobody is enrolled as "${name}" any more: join again with a new invite`
    throw new TunnelError('not_granted', { scope: 'stream', remote: true, detail })
  }

  // ── Grants ────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Where visitors reach an offer of `name`; undefined for a port that has yet to be chosen. `kept` are the routes of
   * the same offer in an earlier request, which a domain does not choose anew. Throws `not_granted`, `unsupported` or
   * `bad_service` unless the offer makes sense and the grant of `name` covers it.
   */
  mayOffer(name: string, offer: ServiceOffer, kept?: readonly Route[]): readonly Route[] | undefined {
    const another = this.#admission.servesAnother(name)
    if (another !== undefined) {
      throw new TunnelError('not_granted', { scope: 'stream', remote: true, detail: another })
    }
    const { grants } = this.#admission
    const wanted = routesOf(offer, {
      name,
      domain: this.domain,
      tls: this.tls,
      foreign: (host) => this.#owners.foreign(host, name, (exact) => grants.lists(name, exact)),
    })
    const routes = kept ?? wanted
    grants.check(name, offer, routes, this.reservedPorts)
    return routes
  }

  /** True while the grant of `name` has room for `route`. */
  covers(name: string, route: Route): boolean {
    return (
      this.#admission.servesAnother(name) === undefined &&
      this.#admission.grants.covers(name, route, this.reservedPorts)
    )
  }

  /**
   * Owned routes that the grants, as they are now, do not cover: nothing is served there and no listener kept.
   * They stay their owner's until released.
   */
  get uncovered(): { route: Route; name: string }[] {
    return this.owners.filter(({ route, name }) => !this.covers(name, route))
  }

  /** Takes the grants of a reloaded file; returns the routes that were covered and no longer are, to be withdrawn. */
  setGrants(grants: ReadonlyMap<string, Grant> | undefined): { route: Route; name: string }[] {
    const before = new Set(this.uncovered.map(({ route }) => route))
    this.#admission.grants = new Grants(grants)
    return this.uncovered.filter(({ route }) => !before.has(route))
  }

  // ── Presence ──────────────────────────────────────────────────────────────────────────────────────────

  /** A route has a client. Only for owned routes. */
  markLive(route: Route): void {
    if (!this.#owners.markLive(route)) return
    this.sightings++
    this.onChange({ kind: 'live', route })
  }

  /** A route has lost its last client. */
  markGone(route: Route, now: number): void {
    if (!this.#owners.markGone(route, now)) return
    this.sightings++
    this.onChange({ kind: 'gone', route, now })
  }

  /** True while visitors of a route are worth holding: it is live, or was within `HOLD_RECENT_MS`. */
  recent(route: Route, now: number): boolean {
    return this.#owners.recent(route, now)
  }

  /** Call once at start: what was live when the record was written has just left. */
  restarted(now: number): void {
    if (this.#owners.restarted(now)) this.sightings++
  }
}
