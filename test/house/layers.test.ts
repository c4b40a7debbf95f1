/** The import layers of docs/ARCHITECTURE.md, and the purity of the cores. */
import { isBuiltin } from 'node:module'
import { describe, expect, it } from 'vitest'
import { code, files, type Import, importsOf, read, typescript } from './sources.ts'

const PURE = ['protocol', 'mux', 'http1']
const BELOW = [...PURE, 'config', 'identity', 'net', 'state', 'http', 'transport']

/** Which rooms a room may import. `errors.ts` and `limits.ts` are open to all. */
const ROOMS: Record<string, readonly string[]> = {
  protocol: PURE,
  mux: PURE,
  http1: PURE,
  config: PURE,
  identity: PURE,
  net: PURE,
  // One function there makes and keeps an identity, so that `identity` knows no file.
  state: [...PURE, 'identity', 'net'],
  http: [...PURE, 'net'],
  http2: [...PURE, 'net', 'http'],
  transport: [...PURE, 'net'],
  gateway: BELOW,
  // Where TLS ends, and nowhere else.
  client: [...BELOW, 'http2'],
  demo: [...BELOW, 'gateway', 'client'],
  index: [...BELOW, 'gateway', 'client'],
  cli: [...BELOW, 'gateway', 'client', 'demo', 'index'],
}

/** Who may use a package; `dynamic` ones cost memory, so they are loaded only when they are needed. */
const PACKAGES: Record<string, { rooms: readonly string[]; dynamic?: true }> = {
  '@peculiar/x509': { rooms: ['client'], dynamic: true },
  'reflect-metadata': { rooms: ['client'], dynamic: true },
  'prom-client': { rooms: ['gateway'], dynamic: true },
  jose: { rooms: ['client'], dynamic: true },
  'dns-packet': { rooms: ['client'] },
  'toml-eslint-parser': { rooms: ['config'] },
  commander: { rooms: ['cli'] },
  pino: { rooms: ['cli', 'demo', 'index', 'gateway', 'client'] },
  zod: { rooms: ['config', 'identity', 'state', 'gateway', 'client'] },
}
const ZOD_IN_PROTOCOL = 'src/protocol/control.ts'

/** Built-ins without input, output, time or chance of their own. */
const PURE_BUILTINS = ['assert', 'buffer', 'crypto', 'events', 'string_decoder', 'util', 'url'].map(
  (name) => `node:${name}`,
)
/** The parts of the gateway, and of the client's trust, that decide and do not act. */
const PURE_CORES = [
  ...[
    'access-line',
    'authority',
    'change',
    'dealer',
    'hosts',
    'limits-of',
    'offer',
    'rate',
    'routes',
    'series',
    'sum',
    'waiting',
  ].map((name) => `src/gateway/${name}.ts`),
  ...['caa', 'caa-value', 'ct', 'dns-message', 'probe', 'probe-proof'].map(
    (name) => `src/client/trust/${name}.ts`,
  ),
]

const sources = typescript('src')

function roomOf(path: string): string {
  return /^src\/(?:(\w+)\/|(\w+)\.ts$)/.exec(path)?.slice(1).find(Boolean) ?? path
}

function isPure(path: string): boolean {
  return PURE.includes(roomOf(path)) || PURE_CORES.includes(path)
}

/** `path imports what` for each import that breaks a rule. */
function breaking(paths: readonly string[], broken: (each: Import, path: string) => boolean): string[] {
  return paths.flatMap((path) =>
    importsOf(path)
      .filter((each) => broken(each, path))
      .map((each) => `${path} imports ${each.specifier}`),
  )
}

describe('import layers', () => {
  it('knows every room', () => {
    const rooms = new Set(sources.map(roomOf))
    expect([...rooms].filter((room) => !(room in ROOMS) && room !== 'errors' && room !== 'limits')).toEqual(
      [],
    )
  })

  it('lets a room import only the rooms below it', () => {
    const broken = breaking(sources, ({ path: target }, path) => {
      if (target === undefined) return false
      const [from, to] = [roomOf(path), roomOf(target)]
      return from !== to && to !== 'errors' && to !== 'limits' && !(ROOMS[from]?.includes(to) ?? false)
    })
    expect(broken).toEqual([])
  })

  it('lets a room be entered only by its door', () => {
    const broken = breaking(sources, ({ path: target }, path) => {
      if (target === undefined || roomOf(target) === roomOf(path)) return false
      return !['src/errors.ts', 'src/limits.ts', 'src/index.ts', `src/${roomOf(target)}/index.ts`].includes(
        target,
      )
    })
    expect(broken).toEqual([])
  })

  it('has every imported file', () => {
    const all = typescript('src', 'test', 'bench')
    const broken = breaking(
      all,
      ({ path: target }) => target?.endsWith('.ts') === true && !files.includes(target),
    )
    expect(broken).toEqual([])
  })

  it('lets errors and limits import nothing', () => {
    expect(breaking(['src/errors.ts', 'src/limits.ts'], () => true)).toEqual([])
  })

  it('names built-ins with node:', () => {
    const broken = breaking(
      sources,
      ({ specifier }) => isBuiltin(specifier) && !specifier.startsWith('node:'),
    )
    expect(broken).toEqual([])
  })

  it('uses a package only in the rooms it is for, and a costly one only when it is needed', () => {
    const broken = breaking(sources, ({ specifier, path: target, typeOnly, dynamic }, path) => {
      if (target !== undefined || specifier.startsWith('node:')) return false
      const known = Object.entries(PACKAGES).find(
        ([name]) => specifier === name || specifier.startsWith(`${name}/`),
      )
      if (known === undefined) return true
      const [name, rule] = known
      if (name === 'zod' && path === ZOD_IN_PROTOCOL) return false
      return !rule.rooms.includes(roomOf(path)) || (rule.dynamic === true && !dynamic && !typeOnly)
    })
    expect(broken).toEqual([])
  })

  it('loads prom-client only where the admin port is', () => {
    const loading = sources.filter((path) =>
      importsOf(path).some(({ specifier, typeOnly }) => specifier === 'prom-client' && !typeOnly),
    )
    expect(loading.filter((path) => !/^src\/gateway\/(admin|metrics)/.test(path))).toEqual([])
  })
})

describe('blindness', () => {
  it('lets the gateway reach no TLS: it has no key, and nothing to decrypt with', () => {
    // Tunnels end in `transport`, which knows nothing of visitors.
    const broken = breaking(
      sources.filter((path) => ['gateway', 'http', 'http1', 'net'].includes(roomOf(path))),
      ({ specifier, typeOnly }) => /^node:(?:tls|https|http2)$/.test(specifier) && !typeOnly,
    )
    expect(broken).toEqual([])
  })
})

describe('purity', () => {
  const pure = sources.filter(isPure)

  it('has its cores', () => {
    // Once the gateway has its door it has its cores; a renamed one must be named here anew.
    if (!files.includes('src/gateway/index.ts')) return
    expect(PURE_CORES.filter((path) => !files.includes(path))).toEqual([])
  })

  it('imports no input, output or time', () => {
    const broken = breaking(pure, ({ specifier, path: target, typeOnly }, path) => {
      if (target === undefined) return specifier.startsWith('node:') && !PURE_BUILTINS.includes(specifier)
      if (roomOf(target) !== roomOf(path) || !PURE_CORES.includes(path)) return false
      // A core may use its neighbours only if they are as pure; their types it may name.
      return !typeOnly && reachesImpure(target, new Set())
    })
    expect(broken).toEqual([])
  })

  it('reads no clock, sets no timer, draws no lot', () => {
    const words =
      /\b(?:Date\.now|new Date\(\)|performance\.|set(?:Timeout|Interval|Immediate)\b|queueMicrotask|process\.|Math\.random|random(?:Bytes|UUID|Int|FillSync)|fetch\()/
    const broken = pure.flatMap((path) =>
      code(read(path))
        .split('\n')
        .flatMap((text, index) => (words.test(text) ? [`${path}:${index + 1}: ${text.trim()}`] : [])),
    )
    expect(broken).toEqual([])
  })
})

/** Whether a file of the gateway, or what it loads there, uses a built-in that is not pure. */
function reachesImpure(path: string, seen: Set<string>): boolean {
  if (seen.has(path) || !files.includes(path)) return false
  seen.add(path)
  return importsOf(path).some(({ specifier, path: target, typeOnly }) => {
    if (typeOnly) return false
    if (target === undefined) return specifier.startsWith('node:') && !PURE_BUILTINS.includes(specifier)
    return roomOf(target) === roomOf(path) && reachesImpure(target, seen)
  })
}
