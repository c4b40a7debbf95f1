import { z } from 'zod'
import { TunnelError } from '../errors.ts'
import { nearest } from './nearest.ts'
import type { KeyPath } from './toml.ts'
import { quoted } from './units.ts'

/** What people are told about a key: the sentence of the docs, and a value to copy, as TOML. */
export interface KeyText {
  description: string
  example: string
}

/** A documented key of a file. `key` is `http` within `table` `[listen]`; the table of the top is ''. */
export interface DocumentedKey extends KeyText {
  table: string
  key: string
}

/** A key of a table, optional unless `required`. */
export function key<T extends z.ZodType>(schema: T, description: string, example: string) {
  return schema.optional().meta({ description, example })
}

export function requiredKey<T extends z.ZodType>(schema: T, description: string, example: string) {
  return schema.meta({ description, example })
}

/** Text that `parse` turns into a value; its `config_invalid` becomes the complaint about this key. */
export function textAs<T>(parse: (text: string) => T) {
  return z.string().transform((text, context): T => attempt(context, [], () => parse(text)))
}

/**
 * What `parse` gives; its `config_invalid` becomes a complaint about what stands at `path` within the value. `name` is
 * what the complaint begins with, where that is not the key at `path`.
 */
export function attempt<T>(context: z.RefinementCtx, path: PropertyKey[], parse: () => T, name?: string): T {
  try {
    return parse()
  } catch (error) {
    if (!(error instanceof TunnelError)) throw error
    const { message } = error
    if (name === undefined) context.addIssue({ code: 'custom', message, path })
    else context.addIssue({ code: 'custom', message: `${name}: ${message}`, path, params: { whole: true } })
    return z.NEVER
  }
}

/** Without what a misspelt key is the cause of: a key that is missing where an unknown one stands. */
export function causes(document: unknown, issues: readonly z.core.$ZodIssue[]): z.core.$ZodIssue[] {
  const nameOfTable = (path: KeyPath): string => JSON.stringify(path)
  const misspelt = new Set(
    issues.filter(({ code }) => code === 'unrecognized_keys').map(({ path }) => nameOfTable(path)),
  )
  return issues.filter(
    ({ path }) => valueAt(document, path) !== undefined || !misspelt.has(nameOfTable(path.slice(0, -1))),
  )
}

/** Hands each mistake of an issue to `complain`, in words that name the key and what to write. */
export function explain(
  schema: z.ZodType,
  document: unknown,
  issue: z.core.$ZodIssue,
  complain: (path: KeyPath, detail: string) => void,
): void {
  const { path } = issue
  if (issue.code === 'unrecognized_keys') {
    const known = keysOf(schemaAt(schema, path))
    for (const unknown of issue.keys) complain([...path, unknown], unknownKey(unknown, path, known))
    return
  }
  const name = nameOf(path)
  const value = valueAt(document, path)
  const example = textAt(schema, path)?.example
  const write = `: write ${example === undefined ? tableOf(schema, path) : assignment(path, example)}`
  if (issue.code === 'custom') {
    complain(path, issue.params?.['whole'] === true ? issue.message : `${name}: ${issue.message}`)
  } else if (value === undefined) {
    const add = assignment(path, example ?? '…')
    complain(path, `${whereOf(path.slice(0, -1)) || 'the file'} has no "${name}": add ${add}`)
  } else if (issue.code === 'invalid_value') {
    const words = issue.values.map(String)
    const near = typeof value === 'string' ? nearest(value, words) : undefined
    const shown = typeof value === 'string' ? quoted(value) : kindOf(value)
    const advice = near === undefined ? `write one of ${list(words)}` : `did you mean "${near}"?`
    complain(path, `"${name}" cannot be ${shown}: ${advice}`)
  } else if (issue.code === 'invalid_union') {
    complain(path, `"${name}" cannot be ${kindOf(value)}${write}`)
  } else if (issue.code === 'invalid_type') {
    complain(
      path,
      `"${name}" must be ${EXPECTED[issue.expected] ?? issue.expected}, not ${kindOf(value)}${write}`,
    )
  } else {
    complain(path, `"${name}" is not valid (${issue.message.toLowerCase()})${write}`)
  }
}

/** The keys that a file may have, in their order, for the docs and the test that holds them. */
export function documentedKeys(schema: z.ZodType, table = '', path: KeyPath = []): DocumentedKey[] {
  const object = unwrap(schema)
  if (!(object instanceof z.ZodObject)) return []
  return Object.entries(object.shape as Record<string, z.ZodType>).flatMap(([key, child]) => {
    const text = metaOf(child)
    if (text !== undefined) return [{ table, key, ...text }]
    const inner = unwrap(child)
    const name = [...path, key].map(String).join('.')
    if (inner instanceof z.ZodArray)
      return documentedKeys(inner.element as z.ZodType, `[[${name}]]`, [...path, key])
    if (inner instanceof z.ZodRecord) {
      return documentedKeys(inner.valueType as z.ZodType, `[${name}.NAME]`, [...path, key])
    }
    return documentedKeys(inner, `[${name}]`, [...path, key])
  })
}

const EXPECTED: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a table',
  record: 'a table',
}

function unknownKey(unknown: string, path: KeyPath, known: readonly string[]): string {
  const where = whereOf(path)
  const near = nearest(unknown, known)
  const advice = near === undefined ? `known are ${list(known)}` : `did you mean "${near}"?`
  return `unknown key ${quoted(unknown)}${where === '' ? '' : ` in ${where}`}: ${advice}`
}

/** `[[service]]`, `[grant.home]`, or '' for the top of the file. */
function whereOf(path: KeyPath): string {
  const names = path.filter((part) => typeof part !== 'number').map(String)
  if (names.length === 0) return ''
  const text = names.map((name) => (/^[\w-]+$/.test(name) ? name : quoted(name))).join('.')
  return typeof path.at(-1) === 'number' ? `[[${text}]]` : `[${text}]`
}

/** The key that a person wrote: `ports`, for an element of it too. */
function nameOf(path: KeyPath): string {
  return String(path.findLast((part) => typeof part !== 'number') ?? 'file')
}

/** How a table is opened: `[[service]]` for those that come in any number. */
function tableOf(schema: z.ZodType, path: KeyPath): string {
  const inner = unwrap(schemaAt(schema, path) ?? schema)
  const names = path.filter((part) => typeof part !== 'number')
  if (inner instanceof z.ZodRecord) return `[${names.map(String).join('.')}.NAME]`
  return whereOf(inner instanceof z.ZodArray || typeof path.at(-1) === 'number' ? [...names, 0] : names)
}

function assignment(path: KeyPath, example: string): string {
  return `${nameOf(path)} = ${example}`
}

function kindOf(value: unknown): string {
  if (typeof value === 'string') return 'text'
  if (typeof value === 'number') return Number.isInteger(value) ? 'a number' : 'a fraction'
  if (typeof value === 'boolean') return String(value)
  if (value instanceof Date) return 'a date'
  return Array.isArray(value) ? 'a list' : 'a table'
}

function list(words: readonly string[]): string {
  return words.map((word) => `"${word}"`).join(', ')
}

function valueAt(document: unknown, path: KeyPath): unknown {
  let value = document
  for (const part of path) value = (value as Record<PropertyKey, unknown> | undefined)?.[part]
  return value
}

function unwrap(schema: z.ZodType): z.ZodType {
  let inner = schema
  while (inner instanceof z.ZodOptional || inner instanceof z.ZodPipe) {
    inner = (inner instanceof z.ZodOptional ? inner.unwrap() : inner.in) as z.ZodType
  }
  return inner
}

/** The schema of one step into another. */
function childOf(schema: z.ZodType, part: PropertyKey): z.ZodType | undefined {
  const inner = unwrap(schema)
  if (inner instanceof z.ZodObject) return (inner.shape as Record<PropertyKey, z.ZodType>)[part]
  if (inner instanceof z.ZodArray) return inner.element as z.ZodType
  if (inner instanceof z.ZodRecord) return inner.valueType as z.ZodType
  return undefined
}

function schemaAt(schema: z.ZodType, path: KeyPath): z.ZodType | undefined {
  let current: z.ZodType | undefined = schema
  for (const part of path) current = current === undefined ? undefined : childOf(current, part)
  return current
}

/** The text of a key, for an element of its list too. */
function textAt(schema: z.ZodType, path: KeyPath): KeyText | undefined {
  for (let length = path.length; length > 0; length--) {
    const text = metaOf(schemaAt(schema, path.slice(0, length)))
    if (text !== undefined) return text
    if (typeof path[length - 1] !== 'number') return undefined
  }
  return undefined
}

function metaOf(schema: z.ZodType | undefined): KeyText | undefined {
  const meta = schema?.meta()
  if (meta?.description === undefined || typeof meta['example'] !== 'string') return undefined
  return { description: meta.description, example: meta['example'] }
}

/** Keys that may be written; those that are only known to be refused are not among them. */
function keysOf(schema: z.ZodType | undefined): string[] {
  const inner = schema === undefined ? undefined : unwrap(schema)
  if (!(inner instanceof z.ZodObject)) return []
  return Object.entries(inner.shape as Record<string, z.ZodType>)
    .filter(([, child]) => !(unwrap(child) instanceof z.ZodUnknown))
    .map(([key]) => key)
}
