import { Field, fieldText, type RequestHead } from '../http1/index.ts'

/** What is known of whoever asks. */
export interface VisitorFacts {
  /** Of the connection; empty where that is not known. */
  readonly peer: string
  /** The visitor's own: another one if the peer is a trusted proxy. */
  readonly address: string
  readonly proto: 'http' | 'https'
  /** The peer is a proxy whose word about its visitors is believed. */
  readonly trusted: boolean
}

/** Said anew by us, with the proxy's own address behind it. */
const REPLACED: ReadonlySet<string> = new Set(['x-forwarded-for'])

/**
 * The lines that say who asks, as targets read them, and what of the request's own gives way to them. What a visitor said
 * of itself is dropped by the writer of heads; what a trusted proxy said is passed on.
 */
export function forwardingFields(
  head: RequestHead,
  requestId: string,
  visitor: VisitorFacts,
): {
  added: string
  requestId: string | undefined
  keepForwarding: boolean
  dropped: ReadonlySet<string> | undefined
} {
  const { peer, proto, trusted } = visitor
  const id = head.requestId === undefined ? requestId : undefined
  if (trusted)
    return { added: fromProxy(head, visitor), requestId: id, keepForwarding: true, dropped: REPLACED }
  const who = peer === '' ? '' : `X-Forwarded-For: ${peer}\r\nX-Real-IP: ${peer}\r\n`
  const added = `${who}X-Forwarded-Proto: ${proto}\r\nX-Forwarded-Host: ${head.hostText}\r\n`
  return { added, requestId: id, keepForwarding: false, dropped: undefined }
}

function fromProxy({ bytes, hostText }: RequestHead, { peer, address, proto }: VisitorFacts): string {
  const list = fieldText(bytes, Field.forwardedFor)
  const lines = [`X-Forwarded-For: ${list === undefined || list === '' ? peer : `${list}, ${peer}`}`]
  if (fieldText(bytes, Field.realIp) === undefined) lines.push(`X-Real-IP: ${address}`)
  if (fieldText(bytes, Field.forwardedProto) === undefined) lines.push(`X-Forwarded-Proto: ${proto}`)
  if (fieldText(bytes, Field.forwardedHost) === undefined) lines.push(`X-Forwarded-Host: ${hostText}`)
  return lines.map((line) => `${line}\r\n`).join('')
}
