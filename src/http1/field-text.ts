import type { FieldId } from './names.ts'
import { rescan } from './reader.ts'
import { latin1 } from './values.ts'

/** The value of a field of a head; several of one name joined by commas, as they mean the same (RFC 9110, 5.3). */
export function fieldText(head: Uint8Array, id: FieldId): string | undefined {
  const scanner = rescan(head)
  let text: string | undefined
  for (let field = 0; field < scanner.count; field++) {
    if (scanner.id(field) !== id) continue
    const value = latin1(head, scanner.valueStart(field), scanner.valueEnd(field))
    text = text === undefined ? value : `${text}, ${value}`
  }
  return text
}
