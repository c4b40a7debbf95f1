import { type Answer, decode, encode } from 'dns-packet'
import { ACME_TXT_TTL_SECONDS, DNS_RECORDS } from '../../../limits.ts'

/** A TXT record with one text. */
export interface TxtRecord {
  /** Without a dot at its end. */
  name: string
  /** At most 255 ASCII characters. */
  value: string
}

/** Adds a record to a zone or takes it away, and no other of its name (RFC 2136, 2.5). */
export function updateMessage(
  action: 'add' | 'remove',
  { zone, record, id }: { zone: string; record: TxtRecord; id: number },
): Buffer {
  const { name, value } = record
  const message = encode({
    type: 'query',
    id,
    flags: OPCODE_UPDATE,
    questions: [{ type: 'SOA', name: zone }],
    authorities: [{ type: 'TXT', name, data: value, ttl: action === 'add' ? ACME_TXT_TTL_SECONDS : 0 }],
  })
  // The package knows no class NONE. The record ends the message: class, TTL, length, and the text with its own.
  if (action === 'remove') message.writeUInt16BE(CLASS_NONE, message.length - (1 + value.length) - 8)
  return message
}

const OPCODE_UPDATE = 5 << 11
const CLASS_NONE = 254

export function txtQuery(name: string, id: number): Buffer {
  return encode({ type: 'query', id, questions: [{ type: 'TXT', name }] })
}

/** An answer's code (`NOERROR`, `REFUSED`, …) and the TXT records in it; undefined for what answers something else. */
export function readAnswer(bytes: Buffer, id: number): { code: string; texts: string[] } | undefined {
  // Before the decoder looks: 64 KiB of names that point at names took it 0.3 s, for each server of a zone.
  if (bytes.length < 12 || [4, 6, 8, 10].some((at) => bytes.readUInt16BE(at) > DNS_RECORDS)) return undefined
  try {
    const { type, id: answered, answers = [], ...rest } = decode(bytes)
    if (type !== 'response' || answered !== id) return undefined
    const { rcode } = rest as { rcode?: string }
    return { code: rcode ?? '', texts: answers.flatMap(textOf) }
  } catch {
    return undefined
  }
}

function textOf(answer: Answer): string[] {
  if (answer.type !== 'TXT') return []
  const parts = Array.isArray(answer.data) ? answer.data : [answer.data]
  return [parts.map((part) => (typeof part === 'string' ? part : part.toString('latin1'))).join('')]
}
