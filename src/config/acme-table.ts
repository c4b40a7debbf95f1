import { constants } from 'node:fs'
import { open, readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { createSecureContext } from 'node:tls'
import { z } from 'zod'
import { TunnelError, userError } from '../errors.ts'
import { ACME_URL_CHARACTERS } from '../limits.ts'
import { parseRemote } from './address.ts'
import { parseDomain } from './domain.ts'
import type { Complain } from './file.ts'
import { key, textAs } from './schema.ts'
import { readToken } from './token-file.ts'
import { quoted } from './units.ts'

export const LETS_ENCRYPT = 'https://acme-v02.api.letsencrypt.org/directory'

export const ACME_CHALLENGES = ['tls-alpn-01', 'http-01', 'dns-01'] as const
export type AcmeChallenge = (typeof ACME_CHALLENGES)[number]

const TSIG_ALGORITHMS = ['hmac-sha256', 'hmac-sha384', 'hmac-sha512'] as const

/** Who writes into DNS for dns-01. */
export type AcmeDns =
  | { kind: 'hook'; hook: string }
  | {
      kind: 'update'
      server: { host: string; port: number }
      /** Lower case. */
      zone: string
      /** TSIG; the secret in base64. */
      key: { name: string; algorithm: (typeof TSIG_ALGORITHMS)[number]; secret: string }
    }

/** `[acme]` of blindgate.toml, with what was left out filled in and its files read. Holds secrets. */
export interface AcmeSettings {
  /** URL. */
  directory: string
  email?: string | undefined
  /** PEM: roots that the CA is proved by, instead of the usual ones. */
  ca?: string | undefined
  profile?: string | undefined
  challenge: AcmeChallenge
  requireCaa: boolean
  /** External account binding; the key in base64url. */
  eab?: { kid: string; key: string } | undefined
  /** There for dns-01. */
  dns?: AcmeDns | undefined
}

/** What is in force without a word in the file. */
export const DEFAULT_ACME: AcmeSettings = {
  directory: LETS_ENCRYPT,
  challenge: 'tls-alpn-01',
  requireCaa: false,
}

export const acmeTable = z.strictObject({
  email: key(
    textAs(parseEmail),
    'Where the CA may write about the certificates; none when left out.',
    '"admin@example.com"',
  ),
  directory: key(
    textAs(parseDirectory),
    "Of which CA (RFC 8555) https services have their certificates: the URL of its directory; Let's Encrypt when left out. Its terms are accepted with the first order.",
    `"${LETS_ENCRYPT}"`,
  ),
  ca_file: key(
    z.string(),
    "A PEM file with the roots that prove the CA to be itself, instead of the system's: for a CA of your own.",
    '"/etc/blindgate/ca.pem"',
  ),
  profile: key(
    textAs(parseProfile),
    "Which of the CA's profiles certificates have; its own choice when left out.",
    '"shortlived"',
  ),
  challenge: key(
    z.enum(ACME_CHALLENGES),
    'How a host is proved to be ours: "tls-alpn-01" and "http-01" through the gateway, "dns-01" by a record that [acme.dns] says how to write; "*." hosts need "dns-01". "tls-alpn-01" when left out.',
    '"dns-01"',
  ),
  require_caa: key(
    z.boolean(),
    'Order only while the CAA records of each host deny all accounts but ours.',
    'true',
  ),
  eab_kid: key(
    textAs(parseKid),
    'External account binding, for CAs that want it: the id of the key that the CA gave you.',
    '"kid-1"',
  ),
  eab_key_file: key(
    z.string(),
    'A file (0600) with that key in its first line, base64url; its path may start at the folder of this file.',
    '"/etc/blindgate/eab.key"',
  ),
  dns: z
    .strictObject({
      server: key(
        textAs(parseRemote),
        'The name server that takes changes of the zone (RFC 2136) over TCP.',
        '"ns1.example.com:53"',
      ),
      zone: key(textAs(parseDomain), 'The zone that it changes.', '"example.com"'),
      key_name: key(textAs(parseKeyName), 'The TSIG key that may change it.', '"blindgate"'),
      key_algorithm: key(
        z.enum(TSIG_ALGORITHMS),
        'And its algorithm; "hmac-sha256" when left out.',
        '"hmac-sha512"',
      ),
      key_file: key(
        z.string(),
        'A file (0600) with its secret in its first line, base64; its path may start at the folder of this file.',
        '"/etc/blindgate/tsig.key"',
      ),
      hook: key(
        z.string(),
        'Instead of all these: a program that writes the record. It gets BLINDGATE_ACTION (add or remove), BLINDGATE_NAME and BLINDGATE_VALUE in its environment, and ends with 0 within two minutes.',
        '"/etc/blindgate/dns-hook"',
      ),
    })
    .optional(),
})
export type AcmeTable = z.infer<typeof acmeTable>

/**
 * The settings of a table, with the files that it names read; paths start at the folder of the file at `path`. What does not
 * fit together is complained about.
 */
export async function acmeSettings(
  table: AcmeTable | undefined,
  path: string,
  complain: Complain,
): Promise<AcmeSettings> {
  if (table === undefined) return DEFAULT_ACME
  const { email, directory = LETS_ENCRYPT, profile, challenge = 'tls-alpn-01' } = table
  const about = async <T>(key: string, read: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await read()
    } catch (error) {
      if (!(error instanceof TunnelError)) throw error
      complain(['acme', ...key.split('.')], `${key.split('.').at(-1) ?? key}: ${error.message}`)
      return undefined
    }
  }
  const { ca_file: caFile, eab_kid: kid, eab_key_file: keyFile } = table
  const from = (file: string): string => resolve(dirname(path), file)
  const ca = caFile === undefined ? undefined : await about('ca_file', () => readRoots(from(caFile)))
  if ((kid === undefined) !== (keyFile === undefined)) {
    const [there, missing] = kid === undefined ? ['eab_key_file', 'eab_kid'] : ['eab_kid', 'eab_key_file']
    complain(['acme', there], `${there} needs ${missing} beside it: add it, or leave both out`)
  }
  const eabKey =
    keyFile === undefined
      ? undefined
      : await about('eab_key_file', () => readSecret(from(keyFile), 'base64url'))
  const dns = await dnsOf(table.dns, from, about, complain)
  if (challenge === 'dns-01' && table.dns === undefined) {
    complain(
      ['acme', 'challenge'],
      'dns-01 needs to know how to write into DNS: add [acme.dns] with hook, or with server, zone, key_name and key_file',
    )
  }
  return {
    directory,
    challenge,
    requireCaa: table.require_caa ?? false,
    ...(email === undefined ? {} : { email }),
    ...(ca === undefined ? {} : { ca }),
    ...(profile === undefined ? {} : { profile }),
    ...(kid === undefined || eabKey === undefined ? {} : { eab: { kid, key: eabKey } }),
    ...(dns === undefined ? {} : { dns }),
  }
}

/** Why the certificate of a service with these hosts cannot be had so; undefined when it can. */
export function unprovable(hosts: readonly string[], challenge: AcmeChallenge): string | undefined {
  const wildcard = hosts.find((host) => host.startsWith('*.'))
  if (wildcard === undefined || challenge === 'dns-01') return undefined
  return `a certificate for ${quoted(wildcard)} can be had by dns-01 alone: set challenge = "dns-01" under [acme], or name the hosts one by one`
}

async function dnsOf(
  table: AcmeTable['dns'],
  from: (file: string) => string,
  about: <T>(key: string, read: () => Promise<T>) => Promise<T | undefined>,
  complain: Complain,
): Promise<AcmeDns | undefined> {
  if (table === undefined) return undefined
  const { server, zone, key_name: name, key_algorithm: algorithm = 'hmac-sha256', key_file: file } = table
  if (table.hook !== undefined) {
    const other = Object.keys(table).find((key) => key !== 'hook')
    if (other !== undefined) {
      complain(['acme', 'dns', other], `hook writes the records alone: leave ${other} out, or hook`)
    }
    const hook = from(table.hook)
    return (await about('dns.hook', () => checkHook(hook))) && { kind: 'hook', hook }
  }
  const needed = { server, zone, key_name: name, key_file: file }
  const missing = Object.entries(needed).find(([, value]) => value === undefined)?.[0]
  if (server === undefined || zone === undefined || name === undefined || file === undefined) {
    complain(
      ['acme', 'dns'],
      `[acme.dns] has no "${missing ?? ''}": it takes hook, or server, zone, key_name and key_file`,
    )
    return undefined
  }
  const secret = await about('dns.key_file', () => readSecret(from(file), 'base64'))
  return secret === undefined ? undefined : { kind: 'update', server, zone, key: { name, algorithm, secret } }
}

/** A secret in a file of its own, which is what `encoding` says. */
async function readSecret(path: string, encoding: 'base64' | 'base64url'): Promise<string> {
  const text = (await readToken(path)).replace(/=+$/, '')
  // Node skips what does not belong; only a text that comes out as it went in is one.
  const same = Buffer.from(text, encoding).toString(encoding).replace(/=+$/, '') === text
  if (same) return text
  throw userError('config_invalid', `${path} holds no ${encoding}: copy the key as it was given`)
}

async function readRoots(path: string): Promise<string> {
  const text = await readFile(path, 'latin1').catch((error: unknown) => {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException
    throw userError('config_invalid', `${path} cannot be read (${code}): check the path`)
  })
  try {
    if (!text.includes('-----BEGIN CERTIFICATE-----')) throw new Error('none')
    createSecureContext({ ca: text })
    return text
  } catch {
    throw userError('config_invalid', `${path} holds no certificate: it takes PEM`)
  }
}

/** A program that runs with our rights is written by nobody else. */
async function checkHook(path: string): Promise<true> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: unknown) => {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException
    throw userError('config_invalid', `${path} cannot be read (${code}): check the path`)
  })
  try {
    const { mode, uid } = await file.stat()
    if ((mode & constants.S_IFMT) !== constants.S_IFREG || (mode & 0o111) === 0) {
      throw userError('config_invalid', `${path} is no program: chmod +x it`)
    }
    if ((mode & 0o022) !== 0) {
      throw userError(
        'config_invalid',
        `others can write ${path}, and so choose what runs: chmod go-w ${path}`,
      )
    }
    const us = process.geteuid?.()
    if (us !== undefined && uid !== 0 && uid !== us) {
      throw userError(
        'config_invalid',
        `${path} belongs to user ${uid}, who can change it: chown ${us} ${path}`,
      )
    }
    return true
  } finally {
    await file.close()
  }
}

function parseEmail(text: string): string {
  // RFC 8555, 7.3: one address, no header fields. What else it must be is for the CA to say.
  if (/^[^\s,?&%@<>"]{1,64}@[A-Za-z0-9.-]{1,253}$/.test(text)) return text
  throw userError('config_invalid', `${quoted(text)} is not one e-mail address: write "admin@example.com"`)
}

function parseDirectory(text: string): string {
  if (text.length <= ACME_URL_CHARACTERS && URL.canParse(text)) {
    const { protocol, username, password, hash, href } = new URL(text)
    if (protocol === 'https:' && username === '' && password === '' && hash === '') return href
  }
  throw userError(
    'config_invalid',
    `${quoted(text)} is not the URL of a CA: write one that begins with https://`,
  )
}

function parseProfile(text: string): string {
  if (/^[A-Za-z0-9._-]{1,64}$/.test(text)) return text
  throw userError('config_invalid', `${quoted(text)} is not the name of a profile: see what the CA offers`)
}

function parseKid(text: string): string {
  if (/^[!-~]{1,255}$/.test(text)) return text
  throw userError('config_invalid', `${quoted(text)} is not the id of a key: copy it as the CA gave it`)
}

function parseKeyName(text: string): string {
  const name = text.toLowerCase().replace(/\.$/, '')
  if (/^[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*$/.test(name) && name.length <= 253) return name
  throw userError(
    'config_invalid',
    `${quoted(text)} is not the name of a TSIG key: write it as the server has it`,
  )
}
