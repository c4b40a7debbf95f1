import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto'
import type { Logger } from 'pino'
import { z } from 'zod'
import type { AcmeSettings } from '../../config/index.ts'
import { userError } from '../../errors.ts'
import { ACME_ACCOUNT_LOCK_MS } from '../../limits.ts'
import { printable } from '../../protocol/index.ts'
import type { State } from '../../state/index.ts'
import { AcmeError } from './acme-error.ts'
import type { Ca } from './ca.ts'
import { httpsUrl } from './http.ts'
import { externalBinding, readKey } from './jws.ts'

/** An account at a CA, ready to sign. */
export interface Account {
  uri: string
  key: KeyObject
}

const PREFIX = 'acme-account-'

const record = z.object({
  version: z.literal(1),
  directory: z.string(),
  /** PKCS#8 PEM, P-256. */
  key: z.string(),
  /** None yet: a crash, or a CA that refused, came in between. */
  uri: z.string().optional(),
  email: z.string().optional(),
})
type AccountRecord = z.infer<typeof record>

/** Which accounts this state has, for CAA records that name them. */
export async function accountsIn(state: State): Promise<{ directory: string; uri: string }[]> {
  const names = await state.names(PREFIX, '.json')
  const records = await Promise.all(names.map((name) => state.readJson(name, record)))
  return records.flatMap((kept) =>
    kept?.uri === undefined ? [] : [{ directory: kept.directory, uri: kept.uri }],
  )
}

/** The account at a CA if there is one; nobody is asked. */
export async function keptAccount(state: State, directory: string): Promise<Account | undefined> {
  const kept = await state.readJson(fileOf(directory), record)
  return kept?.uri === undefined ? undefined : { uri: kept.uri, key: keyOf(state, kept) }
}

export interface AccountTools {
  state: State
  settings: AcmeSettings
  log: Logger
}

/**
 * The account at a CA: made on first use, key first, so that a crash costs nothing but a question. One for all services;
 * who comes second waits. Making it accepts the CA's terms, and one line of the log links them. Throws AcmeError,
 * `state_…`.
 */
export async function accountAt(ca: Ca, tools: AccountTools): Promise<Account> {
  const { state, settings } = tools
  const kept = await state.readJson(fileOf(settings.directory), record)
  if (kept?.uri !== undefined && kept.email === settings.email) {
    return { uri: kept.uri, key: keyOf(state, kept) }
  }
  const lock = await state.lock(lockOf(settings.directory), ACME_ACCOUNT_LOCK_MS)
  try {
    return await registered(ca, tools)
  } finally {
    await lock.release()
  }
}

/** A CA that no longer knows the account (a test CA that began anew) gets it once more. */
export async function forgetAccount(state: State, directory: string): Promise<void> {
  const lock = await state.lock(lockOf(directory), ACME_ACCOUNT_LOCK_MS)
  try {
    const kept = await state.readJson(fileOf(directory), record)
    if (kept === undefined) return
    const { uri: _gone, ...rest } = kept
    await state.writeJson(fileOf(directory), rest)
  } finally {
    await lock.release()
  }
}

/** Under the lock. */
async function registered(ca: Ca, { state, settings, log }: AccountTools): Promise<Account> {
  const { directory, email } = settings
  const file = fileOf(directory)
  const kept = await state.readJson(file, record)
  const key = kept === undefined ? newKey() : keyOf(state, kept)
  if (kept?.uri !== undefined) {
    // It may have become ours while we waited.
    if (kept.email !== email) {
      await ca.post({ key, uri: kept.uri }, kept.uri, { contact: contactOf(email) }, 'the e-mail address')
      await state.writeJson(file, { ...withoutEmail(kept), ...(email === undefined ? {} : { email }) })
    }
    return { uri: kept.uri, key }
  }
  const fresh: AccountRecord = {
    version: 1,
    directory,
    key: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    ...(email === undefined ? {} : { email }),
  }
  if (kept === undefined) await state.writeJson(file, fresh)
  const uri = await register(ca, key, settings, log)
  await state.writeJson(file, { ...fresh, uri })
  return { uri, key }
}

/** RFC 8555, 7.3: a key that the CA knows already gets the account that it has. */
async function register(ca: Ca, key: KeyObject, settings: AcmeSettings, log: Logger): Promise<string> {
  const { newAccount, meta = {} } = await ca.directory()
  const { eab, email } = settings
  if (meta.externalAccountRequired === true && eab === undefined) {
    throw new AcmeError(
      'misconfigured',
      `${ca.name} gives accounts only to those that it knows: set eab_kid and eab_key_file under [acme] to what it gave you`,
    )
  }
  const binding =
    eab === undefined
      ? {}
      : {
          externalAccountBinding: await externalBinding(
            { kid: eab.kid, secret: Buffer.from(eab.key, 'base64url') },
            { key, url: newAccount },
          ),
        }
  const payload = { termsOfServiceAgreed: true, contact: contactOf(email), ...binding }
  const { location, status } = await ca.post({ key }, newAccount, payload, 'an account')
  if (location === undefined) throw ca.nonsense('the account', 'has no URI')
  const uri = httpsUrl(location).href
  if (status === 201) {
    const { termsOfService: terms } = meta
    const accepted =
      terms === undefined ? 'which names no terms' : `its terms are accepted: ${printable(terms)}`
    log.info({ account: uri }, `has an account at ${ca.name} now, ${accepted}`)
  }
  return uri
}

function contactOf(email: string | undefined): string[] {
  return email === undefined ? [] : [`mailto:${email}`]
}

function withoutEmail({ email: _old, ...rest }: AccountRecord): AccountRecord {
  return rest
}

function newKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
}

function keyOf(state: State, kept: AccountRecord): KeyObject {
  const key = readKey(kept.key)
  if (key !== undefined) return key
  throw userError(
    'state_invalid',
    `${state.path}/${fileOf(kept.directory)} holds no key: restore it from a backup, or move it away to have a new account`,
  )
}

function fileOf(directory: string): string {
  return `${stem(directory)}.json`
}

function lockOf(directory: string): string {
  return stem(directory)
}

function stem(directory: string): string {
  return `${PREFIX}${createHash('sha256').update(directory).digest('hex').slice(0, 16)}`
}
