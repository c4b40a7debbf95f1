import { z } from 'zod'
import { TunnelError } from '../../errors.ts'
import { type Pin, pinOfHash } from '../../identity/index.ts'
import { CT_NAMED } from '../../limits.ts'
import { printable } from '../../protocol/index.ts'
import type { Finding } from './finding.ts'

/** A certificate that a public log has. */
export interface Issuance {
  id: string
  names: string[]
  /** Of its public key. */
  pin: Pin
  notBefore: string
  notAfter: string
}

/** Says whether a certificate's key is one that we made, or were told is ours. */
export interface KnownKeys {
  has(pin: Pin): boolean
}

/** The URL to ask for a host; undefined where the template has no way to ask for what a wildcard covers. */
export function searchUrl(template: string, host: string): string | undefined {
  const wildcard = host.startsWith('*.')
  if (wildcard && !template.includes('{subdomains}')) return undefined
  return template
    .replaceAll('{host}', encodeURIComponent(host.replace(/^\*\./, '')))
    .replaceAll('{subdomains}', String(wildcard))
}

/**
 * What we use of an element of an answer, as https://sslmate.com/help/reference/ct_search_api_v1 documents it. A schema of
 * lists would note each wrong element: 4 MiB of them took 40 s and 3.6 GB, or more arguments than a call may have.
 */
const element = z.object({
  id: z.string().min(1),
  dns_names: z.custom<string[]>(
    (names) => Array.isArray(names) && names.every((name) => typeof name === 'string'),
  ),
  pubkey_sha256: z.string().regex(/^[0-9a-f]{64}$/i),
  not_before: z.string(),
  not_after: z.string(),
})

/** One page of the search's answer; the last page is empty. Throws `bad_message` for what is none. */
export function readIssuances(body: string): Issuance[] {
  let value: unknown
  try {
    value = JSON.parse(body)
  } catch {
    throw unreadable('it is not JSON')
  }
  if (!Array.isArray(value)) throw unreadable('it is no list')
  return value.map((each: unknown, index) => {
    const { data, error } = element.safeParse(each)
    if (data === undefined) {
      const path = [index, ...(error?.issues[0]?.path ?? [])].map(String).join('.')
      throw unreadable(`"${printable(path)}" is not what it should be`)
    }
    const { id, dns_names, pubkey_sha256, not_before, not_after } = data
    return {
      id,
      names: dns_names,
      pin: pinOfHash(Buffer.from(pubkey_sha256, 'hex')),
      notBefore: not_before,
      notAfter: not_after,
    }
  })
}

/**
 * Compares the unexpired certificates of a host with the keys that are ours. `complete`: the search has shown all that it
 * has. Pure.
 */
export function judgeIssuances(
  host: string,
  issuances: readonly Issuance[],
  { known, now, complete }: { known: KnownKeys; now: number; complete: boolean },
): Finding {
  const live = issuances.filter((each) => covers(each, host) && !isOver(each, now))
  const foreign = live.filter(({ pin }) => !known.has(pin))
  const about = { check: 'ct' as const, about: host }
  if (foreign.length > 0) {
    const keys = new Set(foreign.map(({ pin }) => pin))
    return {
      ...about,
      level: 'fail',
      alarm: true,
      text: `there are certificates for this host whose keys are not ours: ${[...keys].slice(0, CT_NAMED).toSorted().join(', ')}`,
      advice:
        'if you have them, name their keys in [trust] keys; if not, somebody else can answer as this host: have the authority revoke them, and set CAA records',
      details: foreign.slice(0, CT_NAMED).map(lineOf),
    }
  }
  if (!complete) {
    return {
      ...about,
      level: 'warn',
      text: `certificate transparency shows more certificates than can be read: of the first ${live.length} all are ours`,
      advice: 'set [trust] ct to a search that lists fewer',
    }
  }
  return {
    ...about,
    level: 'ok',
    text:
      live.length === 0
        ? 'certificate transparency shows no certificate for this host that is valid now'
        : `certificate transparency shows no key but ours (certificates that are valid now: ${live.length})`,
  }
}

/** A wildcard stands for one label, in certificates and in services: what matches either is of interest. */
function covers({ names }: Issuance, host: string): boolean {
  return names.some((text) => {
    const name = text.toLowerCase().replace(/\.$/, '')
    return name === host || isBelow(name, host) || isBelow(host, name)
  })
}

/** Whether a wildcard has exactly this name below it. */
function isBelow(name: string, wildcard: string): boolean {
  return (
    wildcard.startsWith('*.') && name.slice(name.indexOf('.')) === wildcard.slice(1) && !name.startsWith('*.')
  )
}

/** A date that cannot be read is no proof that it is over. */
function isOver({ notAfter }: Issuance, now: number): boolean {
  return Date.parse(notAfter) < now
}

function lineOf({ pin, names, notBefore, notAfter, id }: Issuance): string {
  return printable(`${pin} for ${names.join(', ')}, from ${notBefore} to ${notAfter} (issuance ${id})`)
}

function unreadable(why: string): TunnelError {
  return new TunnelError('bad_message', {
    scope: 'process',
    remote: true,
    detail: `its answer cannot be read: ${why}`,
  })
}
