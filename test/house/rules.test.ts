/** House rules that are not about imports: bounds, dependencies, exports, promises, links. */
import { existsSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import { describe, expect, it } from 'vitest'
import { code, files, read, root, typescript } from './sources.ts'

interface Manifest {
  dependencies?: Record<string, string>
  devDependencies?: Record<string, string>
}

interface Lock {
  packages: Record<
    string,
    { version?: string; resolved?: string; optionalDependencies?: Record<string, string> }
  >
}

const manifests = ['package.json', 'test/lts/package.json']
const locks = ['package-lock.json', 'test/lts/package-lock.json']

function manifest(path: string): Manifest {
  return JSON.parse(read(path)) as Manifest
}

describe('bounds', () => {
  it('uses every bound of limits.ts', () => {
    const names = [...code(read('src/limits.ts')).matchAll(/^export const (\w+)/gm)].map(
      (match) => match[1] ?? '',
    )
    const used = typescript('src')
      .filter((path) => path !== 'src/limits.ts')
      .map((path) => code(read(path)))
      .join('\n')
    expect(names.length).toBeGreaterThan(0)
    expect(names.filter((name) => !new RegExp(`\\b${name}\\b`).test(used))).toEqual([])
  })

  it('gives each bound a reason above it, or above the group it stands in', () => {
    const lines = read('src/limits.ts').split('\n')
    const bare = lines.filter((line, index) => {
      const above = lines[index - 1] ?? ''
      return line.startsWith('export const') && (above === '' || above.startsWith('//'))
    })
    expect(bare).toEqual([])
  })
})

describe('dependencies', () => {
  it('names each runtime dependency in docs/ARCHITECTURE.md, with a reason', () => {
    const rows = [...read('docs/ARCHITECTURE.md').matchAll(/^\| `([^`]+)` \| ([^|]+) \|$/gm)]
    const reasons = new Map(rows.map((row) => [row[1] ?? '', (row[2] ?? '').trim()]))
    const names = Object.keys(manifest('package.json').dependencies ?? {})
    expect(names.filter((name) => (reasons.get(name) ?? '').length < 20)).toEqual([])
  })

  it('pins exact versions', () => {
    const loose = manifests.flatMap((path) => {
      const { dependencies = {}, devDependencies = {} } = manifest(path)
      return Object.entries({ ...dependencies, ...devDependencies })
        .filter(([, version]) => !/^\d+\.\d+\.\d+(?:-[\w.]+)?$/.test(version))
        .map(([name, version]) => `${path}: ${name} ${version}`)
    })
    expect(loose).toEqual([])
  })

  it('locks the versions that package.json names, and no registry', () => {
    for (const [index, path] of locks.entries()) {
      const { packages } = JSON.parse(read(path)) as Lock
      const { dependencies = {}, devDependencies = {} } = manifest(manifests[index] ?? '')
      const wanted = Object.entries({ ...dependencies, ...devDependencies })
      expect(
        wanted.filter(([name, version]) => packages[`node_modules/${name}`]?.version !== version),
      ).toEqual([])
      expect(Object.keys(packages).filter((name) => packages[name]?.resolved !== undefined)).toEqual([])
    }
  })
})

describe('the lock file', () => {
  it.each(locks)('%s has the packages of every platform, without which npm ci fails', (path) => {
    const { packages } = JSON.parse(read(path)) as Lock
    const lost = Object.entries(packages).flatMap(([from, { optionalDependencies = {} }]) =>
      Object.keys(optionalDependencies).filter(
        (name) => !(`node_modules/${name}` in packages) && !(`${from}/node_modules/${name}` in packages),
      ),
    )
    expect(lost).toEqual([])
  })
})

describe('sources', () => {
  it('exports nothing as default', () => {
    const all = typescript('src', 'test', 'bench')
    expect(
      all.filter((path) => /\bexport\s+default\b|\bas\s+default\b/.test(blank(code(read(path))))),
    ).toEqual([])
  })

  it('leaves no promise to do it later', () => {
    const promise = new RegExp(
      `\\b(?:${['TO', 'FIX', 'XX'].map((word, at) => word + ['DO', 'ME', 'X'][at]).join('|')})\\b`,
    )
    const text = files.filter((path) => /\.(ts|mjs|md|toml|yaml|service)$|Makefile$|Dockerfile$/.test(path))
    expect(text.filter((path) => promise.test(read(path)))).toEqual([])
  })

  it('skips no test by hand, and focuses on none', () => {
    const set = /\b(?:it|test|describe)\.(?:skip|only|todo)\(/
    expect(typescript('test').filter((path) => set.test(blank(code(read(path)))))).toEqual([])
  })

  it('calls no file after what it is not about', () => {
    const vague = /(?:^|\/)(?:utils?|helpers?|common|types|misc|shared)(?:\.ts|\/)/
    expect(typescript('src', 'test', 'bench').filter((path) => vague.test(path))).toEqual([])
  })
})

describe('documents', () => {
  const documents = files.filter((path) => path.endsWith('.md'))

  it('link to what exists', () => {
    const broken = documents.flatMap((path) =>
      [...withoutCode(read(path)).matchAll(/\]\((?!https?:|mailto:)([^)\s]+)\)/g)]
        .map((match) => match[1] ?? '')
        .filter((link) => !resolves(path, link))
        .map((link) => `${path}: ${link}`),
    )
    expect(broken).toEqual([])
  })

  it('cited in sources are in the repository', () => {
    const cited = files
      .filter((path) => /\.(ts|mjs|toml|yaml|service)$|^(Makefile|Dockerfile)$/.test(path))
      .flatMap((path) =>
        // This project's pages have names in capitals; a number is of a page that never was in it.
        [...read(path).matchAll(/(?<![\w./-])(?:docs\/)?(?:[A-Z]+|\d-[a-z]+)\.md\b/g)].map(([name]) => ({
          path,
          name,
        })),
      )
    expect(
      cited.filter(({ name }) => !existsSync(join(root, name))).map((each) => `${each.path}: ${each.name}`),
    ).toEqual([])
  })

  it('are in the package when the package links to them', () => {
    const shipped = (JSON.parse(read('package.json')) as { files: string[] }).files
    const inPackage = (path: string): boolean =>
      shipped.some((entry) => path === entry || path.startsWith(`${entry}/`))
    expect(documents.filter((path) => !path.startsWith('test/') && !inPackage(path))).toEqual([])
  })
})

/** Whether a relative link leads to a file, and its anchor to a heading there. */
function resolves(from: string, link: string): boolean {
  const [target = '', anchor] = link.split('#')
  const path = target === '' ? from : posix.join(dirname(from), target)
  if (!existsSync(join(root, path))) return false
  if (anchor === undefined || !path.endsWith('.md')) return true
  const headings = [...withoutCode(read(path)).matchAll(/^#+\s+(.+)$/gm)].map((match) => slug(match[1] ?? ''))
  return headings.includes(anchor)
}

function slug(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .trim()
    .replace(/\s/g, '-')
}

/** Markdown without its fenced blocks. */
function withoutCode(text: string): string {
  return text.replace(/^```[^\n]*\n[\s\S]*?^```/gm, '')
}

/** Code with the contents of one-line strings and patterns taken out. */
function blank(source: string): string {
  return source.replace(
    /'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|\/(?:\\.|[^/\\\n])+\//g,
    "''",
  )
}
