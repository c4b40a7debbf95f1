import { type AST, ParseError, parseTOML } from 'toml-eslint-parser'
import { TOML_DEPTH } from '../limits.ts'

/** A path in a document: keys of tables and indexes of arrays. */
export type KeyPath = readonly PropertyKey[]

/** A mistake at a line of a file. */
export interface Problem {
  line: number
  /** `what: what to do`, one line. */
  detail: string
}

/** A document as plain values (tables without a prototype), and where each of them stands. */
export interface TomlDocument {
  value: Record<string, unknown>
  /** The line of the value at `path`, or of the nearest thing around it that was written. */
  lineOf(path: KeyPath): number
}

/** What the parser calls it → what to do about it; anything else is shown as the parser says it. */
const ADVICE: readonly [RegExp, string][] = [
  [/multiple times/, 'this key or table stands here a second time: keep one of them'],
  [/Unspecified values/, 'a key without a value: write key = "value"'],
  [/Unterminated string/, 'a text without its closing quote: close it on the same line'],
  [/Leading zeros/, 'a number with a leading zero: leave the zero out'],
  [/Control characters/, 'a control character in a text: write it as an escape, or remove it'],
]

/** Reads TOML 1.0. Throws nothing for bad input: the problem is returned, with its line. */
export function readToml(text: string): TomlDocument | Problem {
  let program: AST.TOMLProgram
  try {
    program = parseTOML(text, { tomlVersion: '1.0' })
  } catch (error) {
    if (error instanceof ParseError) return { line: error.lineNumber, detail: syntaxDetail(error) }
    // The parser calls itself for each level of nesting, and has no bound of its own.
    if (error instanceof RangeError)
      return { line: 1, detail: `nested too deep: ${TOML_DEPTH} levels are enough` }
    throw error
  }
  return new Reader().read(program.body[0])
}

function syntaxDetail(error: ParseError): string {
  const advice = ADVICE.find(([pattern]) => pattern.test(error.message))?.[1]
  return advice ?? `cannot be read as TOML at column ${error.column + 1} (${error.message}): correct it`
}

class Reader {
  readonly #lines = new Map<string, number>()

  read(root: AST.TOMLTopLevelTable): TomlDocument | Problem {
    const value = table()
    for (const node of root.body) {
      const problem = node.type === 'TOMLTable' ? this.#table(value, node) : this.#keyValue(value, [], node)
      if (problem !== undefined) return problem
    }
    const lines = this.#lines
    return {
      value,
      lineOf(path) {
        for (let length = path.length; length > 0; length--) {
          const line = lines.get(keyOf(path.slice(0, length)))
          if (line !== undefined) return line
        }
        return 1
      },
    }
  }

  #table(root: Record<string, unknown>, node: AST.TOMLTable): Problem | undefined {
    const { line } = node.loc.start
    const into = this.#descend(root, node.resolvedKey, [], line)
    if (into === undefined) return tooDeep(line)
    for (const pair of node.body) {
      const problem = this.#keyValue(into, node.resolvedKey, pair)
      if (problem !== undefined) return problem
    }
    return undefined
  }

  #keyValue(into: Record<string, unknown>, at: KeyPath, node: AST.TOMLKeyValue): Problem | undefined {
    const keys = node.key.keys.map((key) => (key.type === 'TOMLBare' ? key.name : key.value))
    const { line } = node.loc.start
    const holder = this.#descend(into, keys.slice(0, -1), at, line)
    const path = [...at, ...keys]
    const value = this.#value(node.value, path)
    if (holder === undefined || value === TOO_DEEP) return tooDeep(line)
    holder[keys.at(-1) ?? ''] = value
    this.#note(path, line)
    return undefined
  }

  #value(node: AST.TOMLContentNode, path: KeyPath): unknown {
    if (path.length > TOML_DEPTH) return TOO_DEEP
    this.#note(path, node.loc.start.line)
    if (node.type === 'TOMLArray') {
      const values = node.elements.map((element, index) => this.#value(element, [...path, index]))
      return values.includes(TOO_DEEP) ? TOO_DEEP : values
    }
    if (node.type === 'TOMLInlineTable') {
      const inline = table()
      for (const pair of node.body) if (this.#keyValue(inline, path, pair) !== undefined) return TOO_DEEP
      return inline
    }
    return node.value
  }

  /** Walks down `keys` from `from`, which stands at `base`, making what is not there yet. The parser has refused clashes. */
  #descend(
    from: Record<string, unknown>,
    keys: KeyPath,
    base: KeyPath,
    line: number,
  ): Record<string, unknown> | undefined {
    if (base.length + keys.length > TOML_DEPTH) return undefined
    let current: Record<PropertyKey, unknown> = from
    for (const [index, key] of keys.entries()) {
      current[key] ??= typeof keys[index + 1] === 'number' ? [] : table()
      current = current[key] as Record<PropertyKey, unknown>
      this.#note([...base, ...keys.slice(0, index + 1)], line)
    }
    return current
  }

  /** The first place counts: where the table was opened, or its first key was written. */
  #note(path: KeyPath, line: number): void {
    const key = keyOf(path)
    if (!this.#lines.has(key)) this.#lines.set(key, line)
  }
}

const TOO_DEEP = Symbol('too deep')

function tooDeep(line: number): Problem {
  return { line, detail: `nested deeper than ${TOML_DEPTH} levels: no setting is` }
}

/** Without a prototype, so that a key named `__proto__` is a key like another. */
function table(): Record<string, unknown> {
  return Object.create(null) as Record<string, unknown>
}

function keyOf(path: KeyPath): string {
  return JSON.stringify(path.map((part) => (typeof part === 'symbol' ? String(part) : part)))
}
