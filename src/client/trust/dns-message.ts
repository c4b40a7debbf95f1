import { decode, encode, type RecordType } from 'dns-packet'
import { DNS_RECORDS, DNS_UDP_BYTES } from '../../limits.ts'

/** The types that are asked for. */
export type QuestionType = 'A' | 'AAAA' | 'CAA' | 'NS' | 'DS' | 'DNSKEY'

export interface Question {
  /** Lower case, without the dot at the end. */
  name: string
  type: QuestionType
}

/** A CAA record (RFC 8659, 4.1). */
export interface CaaRecord {
  critical: boolean
  /** Lower case. */
  tag: string
  value: string
}

/** Records by what they say; names are in lower case, without the dot at the end. */
export type DnsRecord =
  | { name: string; type: 'A' | 'AAAA' | 'CNAME' | 'DNAME' | 'NS'; data: string }
  | { name: string; type: 'CAA'; data: CaaRecord }
  | { name: string; type: 'DS' | 'DNSKEY' }

/** What a server says to a question. `truncated`: it has more to say over TCP, and `records` are not to be used. */
export interface DnsAnswer {
  rcode: string
  authoritative: boolean
  truncated: boolean
  /** The answer section, as far as we know the types. */
  records: DnsRecord[]
}

/** With EDNS, so that a set of CAA records needs no TCP. `recursive`: for a resolver, which finds out by itself. */
export function questionMessage(id: number, { name, type }: Question, recursive: boolean): Buffer {
  return encode({
    type: 'query',
    id,
    flags: recursive ? 0x0100 : 0,
    questions: [{ type, name, class: 'IN' }],
    additionals: [
      {
        type: 'OPT',
        name: '.',
        udpPayloadSize: DNS_UDP_BYTES,
        extendedRcode: 0,
        ednsVersion: 0,
        flags: 0,
        flag_do: false,
        options: [],
      },
    ],
  })
}

/** The answer in a message; undefined for one that does not answer this very question, or that cannot be read. */
export function answerIn(message: Buffer, id: number, asked: Question): DnsAnswer | undefined {
  // Before the decoder makes lists of the counts that a stranger wrote, and follows the pointers in its names.
  if (
    message.length < 12 ||
    message.readUInt16BE(0) !== id ||
    [4, 6, 8, 10].some((at) => message.readUInt16BE(at) > DNS_RECORDS)
  )
    return undefined
  try {
    const packet = decode(message)
    // The decoder reads past the end of a record that was cut, and finds nothing there.
    if (decode.bytes > message.length) return undefined
    const { questions = [], answers = [] } = packet
    const [question] = questions
    if (packet.id !== id || !packet.flag_qr || questions.length !== 1 || question === undefined)
      return undefined
    if (plainName(question.name) !== asked.name || question.type !== asked.type) return undefined
    if (question.class !== 'IN') return undefined
    const { rcode = '' } = packet as { rcode?: string }
    return {
      rcode,
      authoritative: packet.flag_aa,
      truncated: packet.flag_tc,
      records: answers.flatMap((answer) => recordOf(answer as Loose)),
    }
  } catch {
    return undefined
  }
}

/** What the decoder gives, of which only the type is sure. */
interface Loose {
  name: string
  type: RecordType
  class?: string
  data?: unknown
}

function recordOf({ name, type, class: kind, data }: Loose): DnsRecord[] {
  if (kind !== 'IN') return []
  const owner = plainName(name)
  if (type === 'A' || type === 'AAAA') return [{ name: owner, type, data: String(data) }]
  if (type === 'CNAME' || type === 'DNAME' || type === 'NS') {
    return [{ name: owner, type, data: plainName(String(data)) }]
  }
  if (type === 'DS' || type === 'DNSKEY') return [{ name: owner, type }]
  if (type !== 'CAA') return []
  const { flags = 0, tag, value } = data as { flags?: number; tag: string; value: string }
  if (!/^[a-z0-9]+$/i.test(tag)) throw new Error('a CAA record without a tag')
  return [{ name: owner, type, data: { critical: (flags & 0x80) !== 0, tag: tag.toLowerCase(), value } }]
}

/** A name as names are compared here: DNS knows no case, and `example.com.` is `example.com`. */
export function plainName(name: string): string {
  return name.toLowerCase().replace(/\.$/, '')
}
