import { describe, expect, it } from 'vitest'
import { code, importsIn } from './sources.ts'

describe('reading sources', () => {
  it('finds every way to import, and tells types and dynamic ones apart', () => {
    const source = [
      "import { a, type B } from './a.ts'",
      "import type { C } from '../mux/index.ts'",
      "import * as net from 'node:net'",
      "import 'reflect-metadata'",
      'import {\n  long,\n  list,\n} from "zod"',
      "export { d } from './d.ts'",
      "export * from './e.ts'",
      "const f = await import('prom-client')",
      "type F = typeof import('pino')",
      "type G = import('commander').Command",
    ].join('\n')
    const imports = importsIn(code(source), 'src/gateway/x.ts')
    expect(imports.map((each) => each.path ?? each.specifier)).toEqual([
      'src/gateway/a.ts',
      'src/mux/index.ts',
      'node:net',
      'reflect-metadata',
      'zod',
      'src/gateway/d.ts',
      'src/gateway/e.ts',
      'prom-client',
      'pino',
      'commander',
    ])
    expect(imports.filter((each) => each.typeOnly).map((each) => each.specifier)).toEqual([
      '../mux/index.ts',
      'pino',
      'commander',
    ])
    expect(imports.filter((each) => each.dynamic).map((each) => each.specifier)).toEqual([
      'prom-client',
      'pino',
      'commander',
    ])
  })

  it('blanks comments and leaves strings, templates and patterns', () => {
    const source = "a // b 'c'\n/* d\n */ e = 'f // g' + `h /* i` + /['\"//]/.test(j) / 2 // k"
    expect(code(source)).toBe("a \n\n e = 'f // g' + `h /* i` + /['\"//]/.test(j) / 2 ")
  })
})
