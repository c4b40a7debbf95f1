/** What the house tests read: the files of the project, their code without comments, and what they import. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')

/** Paths from the root, with `/`, of the files that git tracks or would track, and that exist. */
export const files: readonly string[] = execFileSync(
  'git',
  ['ls-files', '-z', '--cached', '--others', '--exclude-standard'],
  { cwd: root, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 },
)
  .split('\0')
  .filter((path) => path !== '' && existsSync(join(root, path)))
  .toSorted()

export function read(path: string): string {
  return readFileSync(join(root, path), 'utf8')
}

/** The TypeScript files under a folder of the project. */
export function typescript(...folders: string[]): string[] {
  return files.filter(
    (path) => path.endsWith('.ts') && folders.some((folder) => path.startsWith(`${folder}/`)),
  )
}

export interface Import {
  /** As written. */
  specifier: string
  /** `import type`, `export type`: nothing is loaded. */
  typeOnly: boolean
  /** `import('…')`. */
  dynamic: boolean
  /** For a relative one: the path from the root. */
  path?: string
}

/** The imports and re-exports of a file. */
export function importsOf(path: string): Import[] {
  return importsIn(code(read(path)), path)
}

export function importsIn(source: string, path: string): Import[] {
  const found: Import[] = []
  const add = (specifier: string, typeOnly: boolean, dynamic: boolean): void => {
    const relative = specifier.startsWith('.') ? posix.join(posix.dirname(path), specifier) : undefined
    found.push({ specifier, typeOnly, dynamic, ...(relative === undefined ? {} : { path: relative }) })
  }
  const declared =
    /(?:^|[;}\n])\s*(?:import|export)\s+(type\s+)?(?:[\w$*{][^;'"`()=]*?\sfrom\s*)?['"]([^'"]+)['"]/g
  for (const match of source.matchAll(declared)) add(match[2] ?? '', match[1] !== undefined, false)
  for (const match of source.matchAll(/\bimport\(\s*['"`]([^'"`]+)['"`]\s*\)(\.\w+)?/g)) {
    // `typeof import('x')` and `import('x').Type` in a type load nothing, and name a type by its capital.
    const before = source.slice(0, match.index)
    add(match[1] ?? '', /\btypeof\s+$/.test(before) || /^\.[A-Z]/.test(match[2] ?? ''), true)
  }
  return found
}

/** Source with comments blanked out, line for line; strings stay. */
export function code(source: string): string {
  let out = ''
  let at = 0
  // What a `/` means depends on what stands before it: after a value it divides, else it begins a pattern.
  const pattern = () =>
    /(?:^|[(,=:[!&|?{};+\-*%<>~^\n]|\b(?:return|typeof|case|of|in))\s*$/.test(out.slice(-40))
  const copy = (length: number): void => {
    out += source.slice(at, at + length)
    at += length
  }
  while (at < source.length) {
    const char = source[at] ?? ''
    const two = source.slice(at, at + 2)
    if (two === '//') {
      const end = source.indexOf('\n', at)
      at = end === -1 ? source.length : end
    } else if (two === '/*') {
      const end = source.indexOf('*/', at + 2)
      const stop = end === -1 ? source.length : end + 2
      out += source.slice(at, stop).replace(/[^\n]/g, '')
      at = stop
    } else if (char === "'" || char === '"' || char === '`') {
      copy(lengthTo(source, at, char))
    } else if (char === '/' && pattern()) {
      copy(lengthTo(source, at, '/'))
    } else {
      copy(1)
    }
  }
  return out
}

/** The length of a string, template or pattern that begins at `at` and ends with `quote`. */
function lengthTo(source: string, at: number, quote: string): number {
  let inClass = false
  for (let end = at + 1; end < source.length; end++) {
    const char = source[end]
    if (char === '\\') end++
    else if (quote === '/' && char === '[') inClass = true
    else if (quote === '/' && char === ']') inClass = false
    else if (char === quote && !inClass) return end + 1 - at
    else if (char === '\n' && quote !== '`') return end - at
  }
  return source.length - at
}
