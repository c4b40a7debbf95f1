import { printable } from '../../protocol/index.ts'
import { type IssueValue, readIssueValue, valuesOf } from './caa-value.ts'
import type { CaaRecord } from './dns-message.ts'
import type { Finding } from './finding.ts'

/** An account at a certificate authority that is ours. */
export interface CaaAccount {
  /** What `accounturi` must be, letter by letter (RFC 8657, 3). */
  uri: string
  /** The names by which its authority goes in CAA (`caaIdentities` of its directory); none: not known. */
  issuers: readonly string[]
}

/** Ways to prove a name to an authority, as `validationmethods` has them (RFC 8657, 4). */
export type ValidationMethod = 'tls-alpn-01' | 'http-01' | 'dns-01'

/** What was found out about a host, and what is ours. */
export interface CaaFacts {
  /** As configured, `*.` included. */
  host: string
  /** The records that count for it (RFC 8659, 3), and the name that has them; none: no name up to the root has any. */
  relevant: { owner: string; records: readonly CaaRecord[] } | undefined
  /** Where records for this host alone would stand: the host itself, or what it is an alias of. */
  place: string
  /** Zones that have a say for the host, or for its `_acme-challenge`, and whose name servers share an address with the gateway. */
  atGateway: readonly string[]
  /** None: no account is known here, as where certificates come from a file. */
  accounts: readonly CaaAccount[]
  /** Those that this client is configured to use. */
  methods: readonly ValidationMethod[]
  /** Whether a wildcard of the same name is configured, which `issuewild` is about. */
  wildcard: boolean
}

/** What stands whatever the records say. */
const LIMITS = [
  'without such records whoever is on the path to the host, and the gateway is, can pass http-01 and tls-alpn-01 and get a certificate of its own',
  'where the operator of the gateway also runs the zone, nothing can be promised: it can change the records',
  'a certificate that was issued before the records stood lives on until it expires: that is for certificate transparency to show',
] as const

/**
 * Tells whether the records of a host let nobody but our accounts have certificates for it, and whether they let us.
 * Pure: what was found out comes in.
 */
export function judgeCaa(facts: CaaFacts): Finding {
  for (const judge of JUDGES) {
    const finding = judge(facts)
    if (finding !== undefined) return { ...finding, check: 'caa', about: facts.host }
  }
  const { owner = facts.place } = facts.relevant ?? {}
  const named = facts.accounts.length > 0 ? [] : accountsIn(facts)
  return {
    check: 'caa',
    about: facts.host,
    level: 'ok',
    text:
      named.length > 0
        ? `the CAA records of ${owner} deny certificates to every account but ${named.join(', ')}`
        : `the CAA records of ${owner} deny certificates to every account${facts.accounts.length > 0 ? ' but ours' : ''}`,
    ...(named.length > 0 ? { advice: 'make sure that each of these accounts is yours' } : {}),
    remarks: [LIMITS[1], LIMITS[2]],
  }
}

/** The records to add, as a zone file has them: one per account, none for wildcards that nobody wants. */
export function recordsFor({ place, accounts, methods, wildcard }: CaaFacts): string[] {
  const owner = `${place}.`
  const issue = accounts.flatMap(({ uri, issuers }) =>
    issuers
      .slice(0, 1)
      .map(
        (issuer) =>
          `${owner} IN CAA 0 issue "${issuer}; accounturi=${uri}; validationmethods=${methods.join(',')}"`,
      ),
  )
  return issue.length === 0 || wildcard ? issue : [...issue, `${owner} IN CAA 0 issuewild ";"`]
}

type Judge = (facts: CaaFacts) => Omit<Finding, 'check' | 'about'> | undefined

/** First match wins: who runs the zone decides before what stands in it, and who else may before whether we may. */
const JUDGES: readonly Judge[] = [gatewaysZone, noRecords, strangers, ourselves]

function gatewaysZone({ atGateway }: CaaFacts): ReturnType<Judge> {
  if (atGateway.length === 0) return undefined
  return {
    level: 'warn',
    text: `the gateway answers for zone ${list(atGateway)}, on which certificates for this host depend: nothing can be promised`,
    advice:
      'let name servers that the operator of the gateway does not run answer for it, without aliases into its zones',
    remarks: [LIMITS[1]],
  }
}

function noRecords(facts: CaaFacts): ReturnType<Judge> {
  const { relevant, host } = facts
  if (relevant !== undefined && relevant.records.some(({ tag }) => tag === 'issue')) return undefined
  const none =
    relevant === undefined ? 'there is no CAA record' : `the CAA records of ${relevant.owner} have no "issue"`
  return {
    level: 'warn',
    text: `${none}: any authority may issue a certificate for ${host} to any account`,
    ...remedy(facts),
  }
}

function strangers(facts: CaaFacts): ReturnType<Judge> {
  const { relevant } = facts
  const open = issueRecords(facts).filter(({ value }) => mayBeAnothers(value, facts))
  if (open.length === 0 || relevant === undefined) return undefined
  return {
    level: 'warn',
    text: `CAA of ${relevant.owner} lets others than our accounts have certificates: ${open.map(recordText).join(', ')}`,
    ...remedy(facts),
  }
}

/** Records that stop everybody stop our renewal as well. */
function ourselves(facts: CaaFacts): ReturnType<Judge> {
  const { relevant, accounts, methods } = facts
  if (relevant === undefined || accounts.length === 0) return undefined
  const missing = accounts.filter(
    (account) =>
      !methods.every((method) =>
        permits(relevant.records, { account, method, wildcard: facts.host.startsWith('*.') }),
      ),
  )
  if (missing.length === 0) return undefined
  return {
    level: 'fail',
    text: `CAA of ${relevant.owner} stops our own next certificate: it does not let ${missing.map(({ uri }) => uri).join(', ')} use ${methods.join(', ')}`,
    ...remedy(facts),
  }
}

/** What an authority that follows RFC 8659 and RFC 8657 would answer one of our accounts. */
export function permits(
  records: readonly CaaRecord[],
  ask: { account: CaaAccount; method: ValidationMethod; wildcard: boolean },
): boolean {
  if (records.some(({ critical, tag }) => critical && !KNOWN_TAGS.has(tag))) return false
  const wild = records.filter(({ tag }) => tag === 'issuewild')
  const counting = ask.wildcard && wild.length > 0 ? wild : records.filter(({ tag }) => tag === 'issue')
  if (counting.length === 0) return true
  return counting.some(({ value }) => {
    const read = readIssueValue(value)
    if (read?.issuer === undefined || !isIssuer(read.issuer, ask.account)) return false
    const uris = valuesOf(read, 'accounturi')
    if (uris.length > 1 || (uris.length === 1 && uris[0] !== ask.account.uri)) return false
    const methods = valuesOf(read, 'validationmethods')
    return methods.length === 0 || (methods.length === 1 && methods[0]?.split(',').includes(ask.method))
  })
}

const KNOWN_TAGS = new Set([
  'issue',
  'issuewild',
  'iodef',
  'contactemail',
  'contactphone',
  'issuemail',
  'issuevmc',
])

function issueRecords({ relevant }: CaaFacts): readonly CaaRecord[] {
  return relevant?.records.filter(({ tag }) => tag === 'issue' || tag === 'issuewild') ?? []
}

/**
 * Whether a record may let somebody have a certificate who is not us. One that cannot be read may: authorities should take
 * it for nobody, and each reads by itself. Without a known account, one that names any account counts as its owner's.
 */
function mayBeAnothers(value: string, { accounts }: CaaFacts): boolean {
  const read = readIssueValue(value)
  if (read === undefined) return true
  if (read.issuer === undefined) return false
  const uri = accountOf(read)
  if (uri === undefined) return true
  if (accounts.length === 0) return false
  return !accounts.some((account) => account.uri === uri && isIssuer(read.issuer ?? '', account))
}

/** Two of them are satisfied by nobody, says the RFC; that is not relied on. */
function accountOf(read: IssueValue): string | undefined {
  const uris = valuesOf(read, 'accounturi')
  return uris.length === 1 ? uris[0] : undefined
}

function isIssuer(issuer: string, { issuers }: CaaAccount): boolean {
  return issuers.length === 0 || issuers.includes(issuer)
}

function accountsIn(facts: CaaFacts): string[] {
  const uris = issueRecords(facts).flatMap(({ value }) => {
    const read = readIssueValue(value)
    return (read === undefined ? undefined : accountOf(read)) ?? []
  })
  return [...new Set(uris)].map((uri) => printable(uri))
}

function remedy(facts: CaaFacts): Pick<Finding, 'advice' | 'details' | 'remarks'> {
  const records = recordsFor(facts)
  if (records.length === 0) {
    const why =
      facts.accounts.length === 0
        ? 'no ACME account is known here'
        : 'the name of the authority is not known, since its directory cannot be asked now'
    return {
      advice: `${why}: have CAA records name the account that gets the certificates (accounturi, RFC 8657)`,
      remarks: [...LIMITS],
    }
  }
  const stronger = facts.methods.includes('dns-01')
    ? []
    : [
        'stronger: dns-01 alone, which the gateway cannot pass for you: set acme.challenge = "dns-01" and [acme.dns] first, then validationmethods=dns-01',
      ]
  return {
    advice: `have exactly these CAA records at ${facts.place}, and no other "issue" or "issuewild" there`,
    details: [...records, ...stronger],
    remarks: [...LIMITS],
  }
}

function recordText({ tag, value }: CaaRecord): string {
  return `${tag} "${printable(value)}"`
}

function list(names: readonly string[]): string {
  return names.map((name) => printable(name)).join(', ')
}
