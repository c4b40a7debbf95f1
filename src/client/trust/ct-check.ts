import { TunnelError } from '../../errors.ts'
import { CT_ANSWER_MS, CT_PAGE_BYTES, CT_PAGES } from '../../limits.ts'
import { printable } from '../../protocol/index.ts'
import { type Issuance, judgeIssuances, type KnownKeys, readIssuances, searchUrl } from './ct.ts'
import type { Finding } from './finding.ts'
import { httpsGet } from './https-get.ts'

export interface CtQuestion {
  /** As configured, `*.` included. */
  host: string
  /** The search, with `{host}` in it. */
  template: string
  known: KnownKeys
  /** Milliseconds of the epoch. */
  now: number
  ca?: readonly string[] | undefined
  signal?: AbortSignal | undefined
  get?: typeof httpsGet | undefined
}

/** Asks the search for a host's certificates and compares them with our keys. Never rejects: not to know is `warn`. */
export async function checkCt(question: CtQuestion): Promise<Finding> {
  const { host, template, known, now } = question
  const issuances: Issuance[] = []
  try {
    const url = searchUrl(template, host)
    if (url === undefined) {
      throw new TunnelError('config_invalid', {
        scope: 'process',
        detail: 'the URL has no {subdomains}, so that certificates below a wildcard cannot be asked for',
      })
    }
    const complete = await collect(url, issuances, question)
    return judgeIssuances(host, issuances, { known, now, complete })
  } catch (error) {
    if (!(error instanceof TunnelError)) throw error
    // What the first pages showed stands, whatever became of the others.
    const found = judgeIssuances(host, issuances, { known, now, complete: false })
    if (found.alarm === true) return found
    return {
      check: 'ct',
      about: host,
      level: 'warn',
      text: `certificate transparency could not be asked: ${error.message}`,
      advice: 'if that goes on, set [trust] ct to another search',
    }
  }
}

/** Reads page after page into `issuances`, until one is empty: true. False: there are more than we read. */
async function collect(
  url: string,
  issuances: Issuance[],
  { ca, signal, get = httpsGet }: CtQuestion,
): Promise<boolean> {
  const seen = new Set<string>()
  const next = new URL(url)
  for (let pages = 0; pages < CT_PAGES; pages++) {
    const { status, body } = await get(next.href, { bytes: CT_PAGE_BYTES, ms: CT_ANSWER_MS, ca, signal })
    if (status !== 200) {
      const why = status === 429 ? 'it was asked too often' : `status ${status}`
      throw new TunnelError('unreachable', {
        scope: 'process',
        remote: true,
        detail: `${printable(next.host)} (${why})`,
      })
    }
    const page = readIssuances(body)
    const last = page.at(-1)?.id
    if (last === undefined) return true
    issuances.push(...page)
    // It goes in circles.
    if (seen.has(last)) return false
    seen.add(last)
    next.searchParams.set('after', last)
  }
  return false
}
