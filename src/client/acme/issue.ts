import { createPublicKey, type KeyObject } from 'node:crypto'
import type { Logger } from 'pino'
import type { AcmeChallenge, AcmeSettings } from '../../config/index.ts'
import { pinOf } from '../../identity/index.ts'
import { ACME_PENDING_MS, ACME_RETRY_AFTER_MS_MAX } from '../../limits.ts'
import { printable } from '../../protocol/index.ts'
import type { State } from '../../state/index.ts'
import { type Account, accountAt, forgetAccount } from './accounts.ts'
import { AcmeError } from './acme-error.ts'
import { authorize } from './authorize.ts'
import type { Ca, Reply } from './ca.ts'
import type { Kept } from './certificate-file.ts'
import { certificateRequest, newCertificateKey, renewalId } from './certificate-request.ts'
import { timeText } from './clock.ts'
import { httpsUrl } from './http.ts'
import { chainOf, covers, leafOf } from './issued.ts'
import { Journal, type PendingOrder } from './journal.ts'
import { readKey } from './jws.ts'
import { type Order, order } from './messages.ts'
import { OrderRun } from './order-run.ts'
import { OrderedKeys } from './ordered-keys.ts'
import { nextOrderAt } from './pace.ts'
import type { Prover } from './proofs.ts'

export interface IssueOptions {
  ca: Ca
  service: string
  hosts: readonly string[]
  settings: AcmeSettings
  state: State
  log: Logger
  prover: Prover
  /** Why not to order, by the DNS of the hosts; asked when the settings want it. */
  caa?: CaaCheck | undefined
  /** The one that it is to replace. */
  old?: Kept | undefined
}

/** Says in a sentence why the CAA records of `hosts` are not as they should be; undefined when they are. */
export type CaaCheck = (
  hosts: readonly string[],
  accountUri: string,
  methods: readonly AcmeChallenge[],
) => Promise<string | undefined>

/**
 * Has a certificate made for all hosts of a service, from account to chain. An order that was under way goes on. What
 * it needs after a crash is on the disk before the CA hears of it. The certificate itself is the caller's to keep: until
 * `done`, it could be downloaded again. Rejects with an AcmeError or `state_…`.
 */
export async function issue(options: IssueOptions): Promise<{ kept: Kept; done: () => Promise<void> }> {
  await checkRest(options)
  try {
    return await attempt(options)
  } catch (error) {
    if (error instanceof AcmeError && error.remote && error.retryAfterMs !== undefined) {
      const until = options.ca.clock.now() + error.retryAfterMs
      await new Journal(options.state, options.service).rest(options.settings.directory, until)
    }
    if (!(error instanceof AcmeError) || error.problem !== 'accountDoesNotExist') throw error
    // A test CA that began anew. Once: a CA that never knows its accounts is an error like others.
    await forgetAccount(options.state, options.settings.directory)
    return attempt(options)
  }
}

/** A CA that asked for it is left alone, also by a client that was started again. */
async function checkRest({ ca, settings, state, service }: IssueOptions): Promise<void> {
  const { rest } = await new Journal(state, service).read()
  const now = ca.clock.now()
  const left = (rest?.until ?? 0) - now
  // Longer than anybody may ask for: the clock was ahead when it was written.
  if (rest?.directory !== settings.directory || left <= 0 || left > ACME_RETRY_AFTER_MS_MAX) return
  throw new AcmeError('limited', `${ca.name} asked to be left alone until ${timeText(rest.until)}`, {
    retryAfterMs: left,
  })
}

async function attempt(options: IssueOptions): Promise<{ kept: Kept; done: () => Promise<void> }> {
  const { ca, settings, state, service, log } = options
  const account = await accountAt(ca, { state, settings, log })
  await checkCaa(options, account)
  const journal = new Journal(state, service)
  const under = await resumed(options, account, journal)
  const current = under ?? (await begun(options, account, journal))
  const chain = await finish(current, options, account, journal)
  const kept = await checked(chain, current.key, options)
  return { kept, done: () => journal.keep(undefined) }
}

async function checkCaa({ settings, caa, hosts, ca }: IssueOptions, account: Account): Promise<void> {
  if (!settings.requireCaa) return
  // Said by the user, so not to be skipped where nobody can look.
  const problem =
    caa === undefined
      ? 'require_caa is set, and nothing here can check it'
      : await caa(hosts, account.uri, [settings.challenge])
  if (problem !== undefined) throw new AcmeError('misconfigured', `not ordered at ${ca.name}: ${problem}`)
}

/** An order at the CA and the key that it is for. */
interface Current {
  url: string
  key: KeyObject
  order: Order
  reply: Reply
}

/** The order that a crash or a failure left under way, if it is still of use. */
async function resumed(
  { ca, settings, hosts, log }: IssueOptions,
  account: Account,
  journal: Journal,
): Promise<Current | undefined> {
  const { pending } = await journal.read()
  if (pending === undefined) return undefined
  const key = readKey(pending.key)
  const same =
    pending.directory === settings.directory &&
    pending.account === account.uri &&
    pending.profile === settings.profile &&
    pending.hosts.join() === hosts.join() &&
    ca.clock.now() - pending.at < ACME_PENDING_MS
  if (same && key !== undefined && pending.url !== undefined) {
    const found = await lookAt(pending.url, key, ca, account).catch((error: unknown) => {
      if (isRefusal(error)) return undefined
      throw error
    })
    if (found !== undefined && found.order.status !== 'invalid') {
      log.info(`the order at ${ca.name} for ${namesOf(hosts)} goes on`)
      return found
    }
  }
  await journal.keep(undefined)
  return undefined
}

/** It knows the order no more, or not as ours: another is made. */
function isRefusal(error: unknown): boolean {
  return (
    error instanceof AcmeError &&
    (error.failing === 'nonsense' || error.failing === 'unproven' || error.failing === 'misconfigured') &&
    error.problem !== 'accountDoesNotExist'
  )
}

/** A new order with a new key: first the key is known for ours, then kept, then the CA is asked. */
async function begun(options: IssueOptions, account: Account, journal: Journal): Promise<Current> {
  const { ca, settings, hosts, state, log } = options
  const now = ca.clock.now()
  const at = nextOrderAt((await journal.read()).orders, now)
  if (at > now) {
    throw new AcmeError(
      'local',
      `so many orders were made already that the next one waits until ${timeText(at)}`,
      {
        retryAfterMs: at - now,
      },
    )
  }
  await checkProfile(options)
  const key = newCertificateKey()
  await new OrderedKeys(state, () => ca.clock.now()).add(pinOf(createPublicKey(key)), hosts)
  const pending: PendingOrder = {
    directory: settings.directory,
    account: account.uri,
    hosts: [...hosts],
    at: now,
    ...(settings.profile === undefined ? {} : { profile: settings.profile }),
    key: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
  }
  await journal.begin(pending, now)
  const reply = await newOrder(options, account)
  const { location } = reply
  if (location === undefined) throw ca.nonsense('the order', 'has no URL')
  const url = httpsUrl(location).href
  await journal.keep({ ...pending, url })
  log.info(`ordered a certificate for ${namesOf(hosts)} at ${ca.name}`)
  return { url, key, reply, order: ca.read(order, reply, 'the order') }
}

async function checkProfile({ ca, settings: { profile } }: IssueOptions): Promise<void> {
  if (profile === undefined) return
  const { meta = {} } = await ca.directory()
  const known = Object.keys(meta.profiles ?? {})
  if (known.includes(profile)) return
  const shown = known.slice(0, 8).map((name) => printable(name, 40))
  const has = shown.length === 0 ? 'none at all' : shown.join(', ')
  throw new AcmeError(
    'misconfigured',
    `${ca.name} has no profile "${profile}", but ${has}: change profile under [acme]`,
  )
}

async function newOrder(options: IssueOptions, account: Account): Promise<Reply> {
  const { ca, hosts, settings, old } = options
  const directory = await ca.directory()
  const { profile } = settings
  const payload = {
    identifiers: hosts.map((value) => ({ type: 'dns', value })),
    ...(profile === undefined ? {} : { profile }),
  }
  const replaces =
    directory.renewalInfo !== undefined && old?.directory === settings.directory ? old.renewalId : undefined
  if (replaces !== undefined) {
    try {
      return await ca.post(account, directory.newOrder, { ...payload, replaces }, 'the order')
    } catch (error) {
      // It is a courtesy (RFC 9773, 5): a CA that does not know the old one still makes the new one.
      const about = ['alreadyReplaced', 'malformed', 'unauthorized']
      if (!(error instanceof AcmeError) || !about.includes(error.problem ?? '')) throw error
    }
  }
  return ca.post(account, directory.newOrder, payload, 'the order')
}

/** From whatever the order has come to until its chain is here. */
async function finish(
  current: Current,
  { ca, hosts, settings, prover }: IssueOptions,
  account: Account,
  journal: Journal,
): Promise<string> {
  const run = new OrderRun(ca.name, ca.clock.now())
  let { order: state, reply } = current
  checkNames(state, hosts, ca)
  try {
    for (;;) {
      const step = run.next(state, reply.retryAfterMs, ca.clock.now())
      if (step.do === 'download') {
        return ca.chain(await ca.post(account, step.url, undefined, 'the certificate'))
      }
      if (step.do === 'authorize') {
        await authorize(state.authorizations, { ca, account, hosts, kind: settings.challenge, prover })
      } else if (step.do === 'finalize') {
        const csr = await certificateRequest(current.key, hosts)
        await ca.post(account, state.finalize, { csr }, 'the request for a certificate')
      } else {
        await ca.clock.sleep(step.ms, ca.signal)
      }
      ;({ order: state, reply } = await lookAt(current.url, current.key, ca, account))
    }
  } catch (error) {
    // What the CA turned down does not get better; what it did not answer goes on next time.
    if (isRefusal(error)) await journal.keep(undefined)
    throw error
  }
}

async function lookAt(url: string, key: KeyObject, ca: Ca, account: Account): Promise<Current> {
  const reply = await ca.post(account, url, undefined, 'to show the order')
  return { url, key, reply, order: ca.read(order, reply, 'the order') }
}

/** An order for other names would spend the proofs of ours on somebody else's. */
function checkNames({ identifiers, authorizations }: Order, hosts: readonly string[], ca: Ca): void {
  const names = identifiers.map(({ type, value }) => `${type}:${value.toLowerCase()}`).toSorted()
  const wanted = hosts.map((host) => `dns:${host}`).toSorted()
  if (names.join() !== wanted.join()) throw ca.nonsense('the order', 'is for other names than were asked for')
  if (authorizations.length > hosts.length || new Set(authorizations).size < authorizations.length) {
    throw ca.nonsense('the order', 'wants more proofs than it has names')
  }
}

/** A certificate is served only if it is what was asked for. */
async function checked(
  pem: string,
  key: KeyObject,
  { ca, hosts, settings, state, service }: IssueOptions,
): Promise<Kept> {
  const chain = chainOf(pem)
  const leaf = leafOf(chain, key)
  const without = leaf === undefined ? undefined : hosts.find((host) => !covers(leaf, host))
  const why =
    leaf === undefined
      ? 'is no certificate for the key that was asked for'
      : without !== undefined
        ? `is not for ${without}`
        : leaf.notAfter <= ca.clock.now()
          ? 'has run out already: check this machine’s clock'
          : undefined
  if (leaf === undefined || why !== undefined) {
    await new Journal(state, service).keep(undefined)
    throw ca.nonsense('the certificate', why ?? '')
  }
  const id = await renewalId(leaf.der)
  return {
    certificate: { key: key.export({ type: 'pkcs8', format: 'pem' }).toString(), chain },
    leaf,
    directory: settings.directory,
    ...(id === undefined ? {} : { renewalId: id }),
  }
}

/** Hosts for a sentence: a service may have 64. */
export function namesOf(hosts: readonly string[]): string {
  const [first = '', ...others] = hosts
  return others.length === 0 ? first : `${first} and ${others.length} more`
}
