import { TunnelError, userError } from '../errors.ts'
import { createIdentity, type Identity, readIdentity } from '../identity/index.ts'
import type { State } from './state.ts'

/**
 * The identity of this machine in its role: ROLE.key and ROLE.crt, made on first use. Processes that begin at
 * once get the same one. Throws `state_invalid` when one of the two files is missing or does not fit the other.
 */
export async function identityIn(state: State, role: 'gateway' | 'client'): Promise<Identity> {
  const kept = await keptIdentity(state, role)
  if (kept !== undefined) return kept
  const lock = await state.lock(`${role}-identity`)
  try {
    const meanwhile = await keptIdentity(state, role)
    if (meanwhile !== undefined) return meanwhile
    const identity = createIdentity()
    // The key last: a crash in between leaves a certificate without a key, which nobody can have seen.
    await state.write(`${role}.crt`, identity.certificate)
    await state.write(`${role}.key`, identity.key)
    return identity
  } finally {
    await lock.release()
  }
}

async function keptIdentity(state: State, role: 'gateway' | 'client'): Promise<Identity | undefined> {
  // In the order opposite to writing: whoever finds the key finds its certificate.
  const key = await state.read(`${role}.key`)
  if (key === undefined) return undefined
  const certificate = await state.read(`${role}.crt`)
  if (certificate === undefined) {
    throw userError(
      'state_invalid',
      `${state.path}/${role}.crt is missing: restore it from a backup, or move ${role}.key away to become a new machine`,
    )
  }
  try {
    return readIdentity(key.toString(), certificate.toString())
  } catch (error) {
    // It knows texts; whoever reads the error needs to know which files.
    if (!(error instanceof TunnelError)) throw error
    throw userError(error.code, `${state.path}/${role}.key and .crt: ${error.message}`)
  }
}
