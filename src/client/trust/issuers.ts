import { z } from 'zod'
import { TunnelError } from '../../errors.ts'
import { ACME_DIRECTORY_BYTES, DOCTOR_ANSWER_MS } from '../../limits.ts'
import type { CaaAccount } from './caa.ts'
import { httpsGet } from './https-get.ts'

/** Of a directory (RFC 8555, 7.1.1) only this. */
const directory = z.object({ meta: z.object({ caaIdentities: z.array(z.string()) }) })

/**
 * Accounts with the names by which their authorities go in CAA records, as the authorities' directories say them. Never
 * rejects: an authority that does not answer, or does not say, has none.
 */
export async function withIssuers(
  accounts: readonly { directory: string; uri: string }[],
  { ca, get = httpsGet }: { ca?: readonly string[] | undefined; get?: typeof httpsGet } = {},
): Promise<CaaAccount[]> {
  const urls = new Set(accounts.map(({ directory }) => directory))
  const asked = [...urls].map(async (url) => [url, await issuersOf(url, { ca, get })] as const)
  const issuers = new Map(await Promise.all(asked))
  return accounts.map(({ directory, uri }) => ({ uri, issuers: issuers.get(directory) ?? [] }))
}

async function issuersOf(
  url: string,
  { ca, get }: { ca: readonly string[] | undefined; get: typeof httpsGet },
): Promise<string[]> {
  try {
    const { status, body } = await get(url, { bytes: ACME_DIRECTORY_BYTES, ms: DOCTOR_ANSWER_MS, ca })
    const parsed = status === 200 ? directory.safeParse(JSON.parse(body)).data : undefined
    return (
      parsed?.meta.caaIdentities.map((name) => name.toLowerCase()).filter((name) => ISSUER.test(name)) ?? []
    )
  } catch (error) {
    if (error instanceof TunnelError || error instanceof SyntaxError) return []
    throw error
  }
}

/** It is printed into records to copy. */
const ISSUER = /^[a-z0-9.-]{1,253}$/
