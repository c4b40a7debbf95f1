import { lookup } from 'node:dns/promises'
import { setMaxListeners } from 'node:events'
import { isIP } from 'node:net'
import type { TrustSettings } from '../../config/index.ts'
import { TunnelError } from '../../errors.ts'
import type { Pin } from '../../identity/index.ts'
import { TRUST_CHECK_MS } from '../../limits.ts'
import { printable } from '../../protocol/index.ts'
import type { CaaAccount, ValidationMethod } from './caa.ts'
import { caaProblem, checkCaa } from './caa-check.ts'
import type { KnownKeys } from './ct.ts'
import { checkCt } from './ct-check.ts'
import { Dns } from './dns.ts'
import type { Finding } from './finding.ts'
import { checkProbe, publicFor } from './probe-check.ts'
import type { ProbeNonces } from './probe-nonces.ts'
import type { TrustSubject } from './subjects.ts'

/** What the checks of one client have in common. */
export interface TrustContext {
  settings: TrustSettings
  /** Of this machine. */
  identity: Pin
  /** All hosts that are configured. */
  hosts(): readonly string[]
  /** Names or IP addresses of the gateways, without ports. */
  gateways(): readonly string[]
  /** Ours at certificate authorities; none: certificates come from elsewhere. */
  accounts(): Promise<readonly CaaAccount[]>
  methods: readonly ValidationMethod[]
  /** CAA that is not right is `fail`: nothing is ordered. */
  requireCaa: boolean
  /** Keys of certificates that are ours, besides those of `[trust]`. */
  known(): Promise<readonly Pin[]>
  /** Of the terminators in this process. */
  nonces?: ProbeNonces | undefined
  /** PEM: believed besides the system's roots. */
  ca?: readonly string[] | undefined
  /** Milliseconds of the epoch. */
  now(): number
  /** Where probes come from, on a machine with several addresses. */
  localAddress?: string | undefined
}

/** The checks of one host. None rejects; each ends within TRUST_CHECK_MS, or with its signal. */
export interface TrustChecks {
  caa(subject: TrustSubject, signal: AbortSignal): Promise<Finding[]>
  ct(subject: TrustSubject, signal: AbortSignal): Promise<Finding[]>
  probe(subject: TrustSubject, signal: AbortSignal): Promise<Finding[]>
}

/** The checks over the network, as the client runs them by itself and `doctor` on demand. */
export function trustChecks(context: TrustContext): TrustChecks {
  return {
    caa: (subject, signal) =>
      bounded('caa', subject, signal, async (signal) => {
        const { host, tls } = subject
        // Nobody believes it anyway.
        if (tls === 'self-signed') return []
        const dns = new Dns({ nameservers: context.settings.nameservers, signal })
        const findings = await checkCaa(dns, {
          host,
          hosts: context.hosts(),
          accounts: tls === 'acme' ? await context.accounts() : [],
          methods: context.methods,
          gatewayAddresses: await gatewayAddresses(dns, host, context.gateways()),
        })
        return context.requireCaa && tls === 'acme' ? findings.map(required) : findings
      }),
    ct: (subject, signal) =>
      bounded('ct', subject, signal, async (signal) => {
        const { host, tls } = subject
        const { settings, ca } = context
        if (tls === 'self-signed') return []
        if (tls === 'passthrough' && settings.keys.length === 0) return [unknownKeys(host)]
        const known = await knownKeys(context, tls === 'passthrough')
        return [await checkCt({ host, template: settings.ct, known, now: context.now(), ca, signal })]
      }),
    probe: (subject, signal) =>
      bounded('probe', subject, signal, async (signal) => {
        const { host, port, tls, probed } = subject
        if (!probed || port === undefined) return []
        const { settings, ca } = context
        const { nameservers } = settings
        const dns = new Dns({ nameservers, signal })
        return checkProbe(dns, {
          host,
          port,
          accepted: [context.identity, ...settings.replicas],
          via: settings.probeVia,
          known: await knownKeys(context, false),
          nonces: context.nonces,
          gateways: await ownAddresses(dns, context.gateways()).catch(() => []),
          wantsTrust: tls !== 'self-signed',
          isPublic: publicFor(nameservers),
          ca,
          signal,
          localAddress: context.localAddress,
        })
      }),
  }
}

/**
 * For `acme.require_caa`: says why no certificate should be ordered for these hosts by this account; undefined when their
 * records let it, and nobody else. Never rejects: what cannot be found out is a reason too.
 */
export function orderGuard(
  context: Pick<TrustContext, 'settings' | 'gateways' | 'accounts'>,
): (
  hosts: readonly string[],
  accountUri: string,
  methods: readonly ValidationMethod[],
) => Promise<string | undefined> {
  return async (hosts, accountUri, methods) => {
    const abort = new AbortController()
    const timer = setTimeout(() => abort.abort(), TRUST_CHECK_MS)
    try {
      const dns = new Dns({ nameservers: context.settings.nameservers, signal: abort.signal })
      const accounts = await context.accounts()
      const account = accounts.find(({ uri }) => uri === accountUri) ?? { uri: accountUri, issuers: [] }
      const addresses: string[] = []
      for (const host of hosts) addresses.push(...(await gatewayAddresses(dns, host, context.gateways())))
      return await caaProblem(dns, hosts, { accounts: [account], methods, gatewayAddresses: addresses })
    } catch (error) {
      if (!(error instanceof TunnelError)) throw error
      return error.message
    } finally {
      clearTimeout(timer)
    }
  }
}

/** One check, with its time and without an end by exception. */
async function bounded(
  check: Finding['check'],
  { host }: TrustSubject,
  outer: AbortSignal,
  work: (signal: AbortSignal) => Promise<Finding[]>,
): Promise<Finding[]> {
  const abort = new AbortController()
  // Each address and each way to it listens.
  setMaxListeners(0, abort.signal)
  const stop = (): void => abort.abort()
  const timer = setTimeout(stop, TRUST_CHECK_MS)
  outer.addEventListener('abort', stop, { once: true })
  if (outer.aborted) stop()
  try {
    return await work(abort.signal)
  } catch (error) {
    return [notDone(check, host, error)]
  } finally {
    clearTimeout(timer)
    outer.removeEventListener('abort', stop)
  }
}

/** Where the gateway is: its own addresses, and those to which the host leads visitors. */
async function gatewayAddresses(dns: Dns, host: string, gateways: readonly string[]): Promise<string[]> {
  const addresses = await dns.addressesOf(host.replace(/^\*\./, ''))
  return [...addresses, ...(await ownAddresses(dns, gateways))]
}

async function ownAddresses(dns: Dns, gateways: readonly string[]): Promise<string[]> {
  const addresses: string[] = []
  for (const gateway of gateways) {
    if (isIP(gateway) !== 0) addresses.push(gateway)
    else addresses.push(...(await dns.addressesOf(gateway).catch(() => systemAddresses(gateway))))
  }
  return addresses
}

/** For names that only this machine knows. */
async function systemAddresses(name: string): Promise<string[]> {
  try {
    return (await lookup(name, { all: true })).map(({ address }) => address)
  } catch {
    throw new TunnelError('not_found', {
      scope: 'process',
      detail: `gateway ${printable(name)} has no address, so that it cannot be told whether it runs the zone`,
    })
  }
}

/** Of a target that speaks TLS only what the configuration says. */
async function knownKeys(context: TrustContext, configured: boolean): Promise<KnownKeys> {
  return new Set([...context.settings.keys, ...(configured ? [] : await context.known())])
}

function required(finding: Finding): Finding {
  return finding.check === 'caa' && finding.level === 'warn' ? { ...finding, level: 'fail' } : finding
}

function unknownKeys(host: string): Finding {
  return {
    check: 'ct',
    about: host,
    level: 'warn',
    text: 'certificate transparency is not asked: the target has the certificate, and its keys are not known here',
    advice: 'name them in [trust] keys',
  }
}

function notDone(check: Finding['check'], about: string, error: unknown): Finding {
  if (!(error instanceof TunnelError)) throw error
  return { check, about, level: 'warn', text: `not checked: ${error.message}` }
}
