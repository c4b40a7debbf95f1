import { Field, type FieldId, fieldId } from './names.ts'
import { rescan } from './reader.ts'
import type { ResponseHead } from './response.ts'
import { contentLength, latin1 } from './values.ts'

/**
 * The fields of a head one by one, for a version of HTTP that has no lines (RFC 9113, 8.2): names, in lower case, and
 * values in turn, in their order, without those of the connection alone.
 */
export type FieldList = string[]

/** Said of the connection, or of trailer fields that are not passed on. */
const OF_CONNECTION: ReadonlySet<FieldId> = new Set([
  Field.connection,
  Field.hop,
  Field.transferEncoding,
  Field.upgrade,
  Field.trailer,
])

/** Of a request that was written for a target (`writeRequest`). Host is among them. */
export function requestFields(written: Uint8Array): FieldList {
  return fieldsOf(written, [], false)
}

/** Of an answer. Its trailer fields are not passed on, and so not announced. */
export function responseFields(head: ResponseHead): FieldList {
  const { status } = head
  // RFC 9110, 8.6: no length in a 1xx or a 204, where some reader may wait for a body.
  return fieldsOf(head.bytes, head.nominated, status < 200 || status === 204)
}

function fieldsOf(bytes: Uint8Array, nominated: readonly string[], unframed: boolean): FieldList {
  const scanner = rescan(bytes)
  // One text for all: a call into native code for each name and value took longer than all the rest.
  const text = latin1(bytes, 0, scanner.end)
  const fields: FieldList = []
  for (let field = 0; field < scanner.count; field++) {
    const id = scanner.id(field)
    if (OF_CONNECTION.has(id)) continue
    const value = text.slice(scanner.valueStart(field), scanner.valueEnd(field))
    if (id === Field.contentLength) {
      if (unframed) continue
      // As everybody writes it.
      const length = contentLength(bytes, scanner.valueStart(field), scanner.valueEnd(field))
      fields.push('content-length', String(length))
      continue
    }
    const name = text.slice(scanner.nameStart(field), scanner.nameEnd(field)).toLowerCase()
    if (nominated.length === 0 || !nominated.includes(name)) fields.push(name, value)
  }
  return fields
}

/**
 * Those of a list that may stand behind a message: whatever has a meaning on the way has none there (RFC 9110, 6.5.1), and
 * a target that counts them among its header fields would take a visitor's word for ours.
 */
export function trailerFields(fields: readonly string[]): FieldList {
  const kept: FieldList = []
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const name = fields[at] as string
    const bytes = Buffer.from(name, 'latin1')
    if (!name.startsWith(':') && bytes.length > 0 && fieldId(bytes, 0, bytes.length) === Field.other)
      kept.push(name, fields[at + 1] as string)
  }
  return kept
}
