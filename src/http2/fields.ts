import { constants, type Http2Stream, type OutgoingHttpHeaders } from 'node:http2'
import type { FieldList } from '../http1/index.ts'

/**
 * Names and values in turn as Node wants them: one entry for a name, a list where it comes more than once. `pseudo` come
 * first. The object has no prototype: `__proto__` is a name like others.
 */
export function headersOf(
  pseudo: Readonly<Record<string, string | number>>,
  fields: FieldList,
): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = Object.assign(Object.create(null) as OutgoingHttpHeaders, pseudo)
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const name = fields[at] as string
    const value = fields[at + 1] as string
    const before = headers[name]
    if (before === undefined) headers[name] = value
    else if (Array.isArray(before)) before.push(value)
    else headers[name] = [before as string, value]
  }
  return headers
}

/**
 * The same with one value for each name but Set-Cookie's, which means the same (RFC 9110, 5.3). Node throws for
 * two of a field that should stand once, and targets send those.
 */
export function joined(headers: OutgoingHttpHeaders): OutgoingHttpHeaders {
  for (const [name, value] of Object.entries(headers))
    if (Array.isArray(value) && name !== 'set-cookie') headers[name] = value.join(', ')
  return headers
}

/**
 * Ends a message with its trailer fields. Of one that Node does not take its stream is reset: thrown where Node asks for
 * them, it would end the process, and anybody may send two of what Node wants once.
 */
export function sendTrailers(stream: Http2Stream, fields: FieldList): void {
  if (stream.destroyed) return
  try {
    stream.sendTrailers(joined(headersOf({}, fields)))
  } catch {
    stream.close(constants.NGHTTP2_INTERNAL_ERROR)
  }
}

/** What may be passed on of a list that came by HTTP/2: all but what begins with a colon. Which of them there are, Node has checked. */
export function withoutPseudo(raw: readonly string[]): FieldList {
  const fields: FieldList = []
  for (let at = 0; at + 1 < raw.length; at += 2)
    if (!(raw[at] as string).startsWith(':')) fields.push(raw[at] as string, raw[at + 1] as string)
  return fields
}

/** Fields as HTTP/1.1 spells them. */
export function lowered(fields: readonly (readonly [name: string, value: string])[]): FieldList {
  return fields.flatMap(([name, value]) => [name.toLowerCase(), value])
}
