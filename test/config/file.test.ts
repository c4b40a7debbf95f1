import { execFileSync } from 'node:child_process'
import { chmod, chown, mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { loadClientFile } from '../../src/config/index.ts'
import { readToml } from '../../src/config/toml.ts'
import { CONFIG_BYTES, TOML_DEPTH } from '../../src/limits.ts'
import { complaint, fileOf } from './files.ts'

const GOOD = '[[service]]\ntype = "http"\ntarget = "8080"\n'

describe('a configuration file', () => {
  it.each([0o600, 0o644, 0o444])('may be read by others (%o)', async (mode) => {
    expect((await loadClientFile(await fileOf(GOOD, mode))).services).toHaveLength(1)
  })

  it.each([0o620, 0o602, 0o666])('that others can write (%o) is refused with what to type', async (mode) => {
    const path = await fileOf(GOOD)
    await chmod(path, mode)
    expect(await complaint(loadClientFile, path)).toBe(
      ` others can write it, and so choose what runs: chmod go-w ${path}`,
    )
  })

  it('belongs to root or to us', async () => {
    const path = await fileOf(GOOD)
    if (process.geteuid?.() === 0) {
      await chown(path, 65_534, 65_534)
      expect(await complaint(loadClientFile, path)).toBe(
        ` belongs to user 65534, who can change it: chown 0 ${path}`,
      )
    } else {
      // Root's own file is believed, and then read: it is no TOML.
      expect(await complaint(loadClientFile, '/etc/passwd')).toMatch(/^1: /)
    }
  })

  it('may be a symbolic link, since what it leads to is looked at', async () => {
    const path = await fileOf(GOOD)
    await symlink('x.toml', `${path}.link`)
    expect((await loadClientFile(`${path}.link`)).services).toHaveLength(1)
    await chmod(path, 0o666)
    expect(await complaint(loadClientFile, `${path}.link`)).toContain('others can write it')
  })

  it('that is not there says so', async () => {
    await expect(loadClientFile('/nowhere/blindgate.toml')).rejects.toMatchObject({
      code: 'not_found',
      message: '/nowhere/blindgate.toml: there is no such file: write it, or give another path with -c',
    })
  })

  it('that is a folder or a named pipe is refused at once', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'bg-config-'))
    execFileSync('mkfifo', ['-m', '600', join(folder, 'pipe')])
    for (const path of [folder, join(folder, 'pipe'), '/dev/zero']) {
      expect(await complaint(loadClientFile, path)).toBe(' is not a file: give the path of a TOML file')
    }
    await rm(folder, { recursive: true })
  })

  it('over a mebibyte is refused', async () => {
    const filler = `#${'x'.repeat(CONFIG_BYTES - GOOD.length - 2)}\n`
    expect((await loadClientFile(await fileOf(filler + GOOD))).services).toHaveLength(1)
    expect(await complaint(loadClientFile, await fileOf(`#${filler}${GOOD}`))).toBe(
      ' is over 1 MiB: this is not a configuration file',
    )
  })

  it('that is not UTF-8 is refused with the line', async () => {
    const path = await fileOf(
      Buffer.concat([Buffer.from('# ü\n# fine\n# '), Buffer.of(0xfc), Buffer.from(`\n${GOOD}`)]),
    )
    expect(await complaint(loadClientFile, path)).toBe('3: is not UTF-8 text: save the file as UTF-8')
    expect(await complaint(loadClientFile, await fileOf(Buffer.from(GOOD, 'utf16le')))).toMatch(/^1: /)
  })

  it('may be empty, begin with a byte order mark, and have the line ends of Windows', async () => {
    expect(await loadClientFile(await fileOf(''))).toMatchObject({ gateways: [], services: [] })
    const windows = `\ufeff${GOOD.replaceAll('\n', '\r\n')}`
    expect((await loadClientFile(await fileOf(windows))).services).toHaveLength(1)
    expect(await complaint(loadClientFile, await fileOf(`${windows}prot = 1\r\n`))).toMatch(
      /^4: unknown key "prot"/,
    )
  })

  it('is shown by the path that was given', async () => {
    const path = await fileOf('prot = 1')
    const before = process.cwd()
    process.chdir(dirname(path))
    try {
      await expect(loadClientFile('x.toml')).rejects.toThrow('x.toml:1: unknown key "prot"')
    } finally {
      process.chdir(before)
    }
  })
})

describe('TOML', () => {
  it.each([
    ['a = 1\na = 2', '2: this key or table stands here a second time: keep one of them'],
    ['[a]\n\n[a]', '3: this key or table stands here a second time: keep one of them'],
    ['a.b = 1\n[a]', '2: this key or table stands here a second time: keep one of them'],
    ['[[a]]\n[a]', '2: this key or table stands here a second time: keep one of them'],
    ['\na =', '2: a key without a value: write key = "value"'],
    ['a = "x\nb = 1', '1: a text without its closing quote: close it on the same line'],
    ['a = 01', '1: a number with a leading zero: leave the zero out'],
    ['a = "\x01"', '1: a control character in a text: write it as an escape, or remove it'],
    ['a', '1: '],
    ['a = {', '1: '],
    ['[a', '1: '],
    ['a = 1 b = 2', '1: '],
    ['a = :9000', '1: '],
  ])('with a mistake (%j) is refused with its line', async (text, message) => {
    expect((await complaint(loadClientFile, await fileOf(text))).slice(0, message.length || 3)).toBe(message)
  })

  it('nested deeper than any setting is refused', async () => {
    const deep = (levels: number) => `a = ${'['.repeat(levels)}${']'.repeat(levels)}`
    expect(readToml(deep(TOML_DEPTH - 1))).toHaveProperty('value')
    const refused = { line: 1, detail: `nested deeper than ${TOML_DEPTH} levels: no setting is` }
    expect(readToml(deep(TOML_DEPTH + 1))).toEqual(refused)
    expect(readToml(`${'a.'.repeat(TOML_DEPTH)}a = 1`)).toEqual(refused)
    expect(readToml(`[${'a.'.repeat(TOML_DEPTH)}a]`)).toEqual(refused)
    expect(readToml(`a = ${'{a = '.repeat(TOML_DEPTH)}1${'}'.repeat(TOML_DEPTH)}`)).toEqual(refused)
    expect(readToml(deep(100_000))).toHaveProperty('detail')
  })

  it('gives each value with its line', () => {
    const text = 'a = 1\n[b]\nc = [\n  1,\n  { d = 2 },\n]\n[[e]]\nf.g = 3\n[[e]]\n[e.h]\ni = 4\n'
    const document = readToml(text)
    if ('detail' in document) throw new Error(document.detail)
    expect(JSON.parse(JSON.stringify(document.value))).toEqual({
      a: 1,
      b: { c: [1, { d: 2 }] },
      e: [{ f: { g: 3 } }, { h: { i: 4 } }],
    })
    const lines: [(string | number)[], number][] = [
      [['a'], 1],
      [['b'], 2],
      [['b', 'c'], 3],
      [['b', 'c', 0], 4],
      [['b', 'c', 1, 'd'], 5],
      [['e', 0], 7],
      [['e', 0, 'f', 'g'], 8],
      [['e', 1], 9],
      [['e', 1, 'missing'], 9],
      [['e', 1, 'h', 'i'], 11],
      [['missing'], 1],
    ]
    for (const [path, line] of lines) expect([path, document.lineOf(path)]).toEqual([path, line])
  })

  it('has no key with powers of its own', async () => {
    expect(await complaint(loadClientFile, await fileOf('__proto__ = 1'))).toMatch(
      /^1: unknown key "__proto__"/,
    )
    expect(await complaint(loadClientFile, await fileOf('[__proto__]\ndrain = "1s"'))).toMatch(
      /^1: unknown key "__proto__"/,
    )
    const document = readToml('[[a]]\n[a.__proto__]\nb = 1\n[a.constructor]\nc = 1')
    expect(document).not.toHaveProperty('detail')
    expect(({} as { b?: unknown }).b).toBeUndefined()
  })

  it('of any kind is read or refused with a line of the file', async () => {
    const piece = fc.constantFrom(
      '[[service]]',
      '[listen]',
      'type',
      'target',
      '=',
      '"',
      "'",
      '\n',
      '[',
      ']',
      '{',
      '}',
      '.',
      ',',
      '1',
      '#',
      '\\u',
      'é',
      '1979-05-27',
      'true',
      '"""',
    )
    const anything = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(piece).map((pieces) => pieces.join('')),
    )
    fc.assert(
      fc.property(anything, (text) => {
        const document = readToml(text)
        if ('value' in document) return
        expect(document.line).toBeGreaterThanOrEqual(1)
        expect(document.line).toBeLessThanOrEqual(text.split(/\r\n|\n|\r/).length + 1)
        expect(document.detail).not.toMatch(/[\r\n]/)
      }),
      { numRuns: 400 },
    )
  })
})
