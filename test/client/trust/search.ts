/** A search for certificates of the test's own, over https. */
import { createServer } from 'node:https'
import type { Pin } from '../../../src/identity/index.ts'
import type { Issued, TestAuthority } from './authorities.ts'
import { type Listening, listening } from './machines.ts'

/** An issuance as SSLMate documents it. */
export interface Entry {
  id: string
  tbs_sha256?: string
  dns_names: string[]
  pubkey_sha256: string
  not_before: string
  not_after: string
}

export interface Search extends Listening {
  entries: Entry[]
  /** Entries of one page. */
  pageSize: number
  /** What is answered instead. */
  instead: ((url: URL) => { status: number; body: string } | undefined) | undefined
  readonly asked: URL[]
  /** For `[trust] ct`. */
  readonly template: string
}

/** For `search.test`, and 127.0.0.1 by that name alone. */
export async function startSearch(ca: TestAuthority): Promise<Search> {
  const { key, cert } = await ca.issue(['localhost'])
  const asked: URL[] = []
  const server = createServer({ key, cert }, (request, response) => {
    const url = new URL(request.url ?? '/', search.template)
    asked.push(url)
    const instead = search.instead?.(url)
    if (instead !== undefined) {
      response.writeHead(instead.status).end(instead.body)
      return
    }
    const after = url.searchParams.get('after')
    const from = after === null ? 0 : search.entries.findIndex(({ id }) => id === after) + 1
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify(search.entries.slice(from, from + search.pageSize)))
  })
  const open = await listening(server)
  const search: Search = {
    ...open,
    entries: [],
    pageSize: 100,
    instead: undefined,
    asked,
    template: `https://localhost:${open.port}/v1/issuances?domain={host}&include_subdomains={subdomains}&expand=dns_names`,
  }
  return search
}

export function entryOf(
  { pin, notBefore, notAfter }: Pick<Issued, 'pin' | 'notBefore' | 'notAfter'>,
  names: string[],
  id: string,
): Entry {
  return { id, dns_names: names, pubkey_sha256: hexOf(pin), not_before: notBefore, not_after: notAfter }
}

export function hexOf(pin: Pin): string {
  return Buffer.from(pin.slice(7), 'base64').toString('hex')
}
