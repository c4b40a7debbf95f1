import { ACME_PROOFS_AT_ONCE } from '../../limits.ts'
import { printable } from '../../protocol/index.ts'
import type { Account } from './accounts.ts'
import { AcmeError } from './acme-error.ts'
import type { Ca, Reply } from './ca.ts'
import { keyAuthorization } from './jws.ts'
import { type Authorization, authorization } from './messages.ts'
import { Looks } from './order-run.ts'
import { acmeProblem } from './problem.ts'
import type { Proof, Prover } from './proofs.ts'

export interface AuthorizeOptions {
  ca: Ca
  account: Account
  /** What the order is for. */
  hosts: readonly string[]
  kind: 'tls-alpn-01' | 'http-01' | 'dns-01'
  prover: Prover
}

/** A challenge that is to be answered. */
interface Asked extends Proof {
  /** As configured. */
  name: string
  /** Undefined where the CA was asked to look before a crash, and does. */
  challengeUrl: string | undefined
  authorizationUrl: string
}

/** Proves to the CA that each host is ours, some at a time. Rejects with an AcmeError that names the host. */
export async function authorize(urls: readonly string[], options: AuthorizeOptions): Promise<void> {
  const left = new Set(options.hosts)
  for (let from = 0; from < urls.length; from += ACME_PROOFS_AT_ONCE) {
    await some(urls.slice(from, from + ACME_PROOFS_AT_ONCE), left, options)
  }
}

async function some(urls: readonly string[], left: Set<string>, options: AuthorizeOptions): Promise<void> {
  const { ca, account, prover } = options
  const asked: Asked[] = []
  for (const url of urls) {
    const one = await challengeAt(url, left, options)
    if (one !== undefined) asked.push(one)
  }
  if (asked.length === 0) return
  const proofs = asked.map(({ host, token, keyAuthorization }) => ({ host, token, keyAuthorization }))
  const takeBack = await prover.lay(proofs, ca.signal)
  try {
    for (const { name, challengeUrl } of asked) {
      if (challengeUrl === undefined) continue
      await ca.post(account, challengeUrl, {}, `the challenge for ${name}`)
    }
    for (const one of asked) await proved(one, options)
  } finally {
    await takeBack()
  }
}

/** What the CA wants to see for one authorization; undefined when it has seen it already. */
async function challengeAt(
  url: string,
  left: Set<string>,
  { ca, account, kind }: AuthorizeOptions,
): Promise<Asked | undefined> {
  const state = await look(url, ca, account)
  const host = state.identifier.value.toLowerCase()
  const name = state.wildcard === true ? `*.${host}` : host
  if (state.identifier.type !== 'dns' || !left.delete(name)) {
    throw ca.nonsense('an authorization', `is for ${printable(name, 80)}, which the order is not for`)
  }
  if (state.status === 'valid') return undefined
  if (state.status !== 'pending') throw refusal(ca, name, state)
  const challenge = state.challenges.find(({ type }) => type === kind)
  if (challenge?.token === undefined || challenge.url === undefined) {
    const offered = state.challenges.map(({ type }) => printable(type, 40)).join(', ') || 'none'
    throw new AcmeError(
      'misconfigured',
      `${ca.name} offers no ${kind} for ${name}, but ${offered}: change challenge under [acme]`,
    )
  }
  return {
    name,
    host,
    token: challenge.token,
    keyAuthorization: await keyAuthorization(challenge.token, account.key),
    challengeUrl: challenge.status === 'processing' ? undefined : challenge.url,
    authorizationUrl: url,
  }
}

/** Resolves when the CA has seen the proof. */
async function proved({ name, authorizationUrl }: Asked, { ca, account }: AuthorizeOptions): Promise<void> {
  const looks = new Looks(`${ca.name}: the proof for ${name}`, ca.clock.now())
  for (;;) {
    const reply = await fetchAuthorization(authorizationUrl, ca, account)
    const state = ca.read(authorization, reply, 'an authorization')
    if (state.status === 'valid') return
    if (state.status !== 'pending') throw refusal(ca, name, state)
    await ca.clock.sleep(looks.next(reply.retryAfterMs, ca.clock.now()), ca.signal)
  }
}

async function look(url: string, ca: Ca, account: Account): Promise<Authorization> {
  return ca.read(authorization, await fetchAuthorization(url, ca, account), 'an authorization')
}

function fetchAuthorization(url: string, ca: Ca, account: Account): Promise<Reply> {
  return ca.post(account, url, undefined, 'to show an authorization')
}

function refusal(ca: Ca, name: string, { status, challenges }: Authorization): AcmeError {
  const problem = challenges.map(({ error }) => error).find((error) => error !== undefined && error !== null)
  const what = `${ca.name} did not see the proof that ${name} is ours`
  if (problem === undefined) return new AcmeError('unproven', `${what} (${status})`)
  const error = acmeProblem(what, { status: 403, problem })
  // Whatever it calls it: another try will not be better so soon.
  return new AcmeError(error.failing === 'nonsense' ? 'unproven' : error.failing, error.message)
}
