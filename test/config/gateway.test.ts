import { chmod, writeFile } from 'node:fs/promises'
import { availableParallelism, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { defaultMemory } from '../../src/config/gateway-settings.ts'
import {
  DEFAULT_HTTP_LIMITS,
  GATEWAY_ENVIRONMENT,
  GATEWAY_KEYS,
  type GatewayFlags,
  type GatewaySettings,
  gatewaySettings,
  loadGatewayFile,
} from '../../src/config/index.ts'
import {
  DRAIN_MS,
  DRAIN_MS_MAX,
  HOLD_MS,
  HOLD_RECENT_MS,
  KEEPALIVE_SECONDS,
  TIMER_MS_MAX,
  TUNNELS_PER_GATEWAY,
} from '../../src/limits.ts'
import { complaint, fileOf, gatewayFile } from './files.ts'

const WHOLE = `
domain = "Bücher.example"
trusted_proxies = ["10.0.0.0/8", "2001:DB8::1"]
address = "vps.example.com:9001"
memory = "256MiB"
drain = "5s"
hold = "3s"
[listen]
http = ":80"
tls = ":443"
tunnel = "[::1]:9001"
admin = "127.0.0.1:9002"
ports = "203.0.113.7"
[limits]
connections = 64
requests = 20
total_connections = 1000
total_requests = 500
total_burst = 600
head = "16KiB"
body = "10MiB"
head_timeout = "5s"
idle_timeout = "100ms"
response_timeout = "300d"
stall_timeout = "30s"
body_rate = "off"
[route."App.Example.com"]
requests = 5
body = "off"
total_requests = 7
[route.default]
connections = "off"
burst = 3
[route."default/api"]
[log]
access = "combined"
address = "truncated"
query = true
[grant.home]
types = ["http", "tcp", "udp", "http"]
hosts = ["*.Example.com", "example.com", "*"]
ports = ["2222", "8000-8100", 22]
[grant.shop]
`

describe('gateway.toml', () => {
  it('is read whole', async () => {
    expect(await gatewayFile(WHOLE)).toEqual({
      domain: 'xn--bcher-kva.example',
      trustedProxies: ['10.0.0.0/8', '2001:db8::1'],
      limits: {
        connections: 64,
        requests: 20,
        requestBurst: 40,
        routeConnections: 1_000,
        routeRequests: 500,
        routeRequestBurst: 600,
        headBytes: 16_384,
        bodyBytes: 10_485_760,
        headMs: 5_000,
        idleMs: 100,
        responseMs: TIMER_MS_MAX,
        stallMs: 30_000,
        bodyRate: 0,
      },
      routeLimits: new Map([
        ['app.example.com/', { requests: 5, requestBurst: 10, bodyBytes: 0, routeRequests: 7 }],
        ['default', { connections: 0, requestBurst: 3 }],
        ['default/api', {}],
      ]),
      log: { access: 'combined', address: 'truncated', query: true },
      address: 'vps.example.com:9001',
      memory: 268_435_456,
      drainMs: 5_000,
      holdMs: 3_000,
      listen: {
        http: { port: 80 },
        tls: { port: 443 },
        tunnel: { host: '::1', port: 9001 },
        admin: { host: '127.0.0.1', port: 9002 },
        ports: '203.0.113.7',
      },
      grants: new Map([
        [
          'home',
          {
            types: ['http', 'tcp', 'udp'],
            hosts: ['*.example.com', 'example.com', '*'],
            ports: [
              { from: 2222, to: 2222 },
              { from: 8000, to: 8100 },
              { from: 22, to: 22 },
            ],
          },
        ],
        ['shop', { types: ['http', 'https', 'tcp', 'udp'], hosts: [], ports: [] }],
      ]),
    })
  })

  it('gives a number of requests a burst of twice its size, unless one was said for it', async () => {
    const limits = async (toml: string) => {
      const { limits, routeLimits } = await gatewayFile(toml)
      return [limits.requestBurst, routeLimits.get('default')?.requestBurst]
    }
    expect(await limits('[limits]\nrequests = 10\n[route.default]\nrequests = 3')).toEqual([20, 6])
    expect(await limits('[limits]\nrequests = 10\n[route.default]\nbody = "1KiB"')).toEqual([20, undefined])
    expect(await limits('[limits]\nrequests = 10\nburst = 11\n[route.default]\nrequests = 3')).toEqual([
      11,
      undefined,
    ])
    expect(await limits('[limits]\nrequests = "off"')).toEqual([0, undefined])
  })

  it('without grants has none, rather than an empty list of them', async () => {
    expect((await gatewayFile('')).grants).toBeUndefined()
    expect((await gatewayFile('[grant]')).grants).toBeUndefined()
  })

  it('has its drain and hold cut to what the gateway keeps to', async () => {
    const { drainMs, holdMs } = await gatewayFile('drain = "2h"\nhold = "2h"')
    expect([drainMs, holdMs]).toEqual([DRAIN_MS_MAX, HOLD_RECENT_MS])
  })

  it.each([
    ['\nadress = "a:1"', '2: unknown key "adress": did you mean "address"?'],
    [
      'colour = 1',
      '1: unknown key "colour": known are "domain", "address", "workers", "memory", "drain", "hold", "trusted_proxies", "listen", "limits", "route", "log", "grant"',
    ],
    ['[listen]\nhtpp = ":80"', '2: unknown key "htpp" in [listen]: did you mean "http"?'],
    ['[listen]\nhttps = ":80"', '2: unknown key "https" in [listen]: did you mean "http"?'],
    ['[listn]\nhttp = ":80"', '1: unknown key "listn": did you mean "listen"?'],
    ['[grant.home]\nport = ["1"]', '2: unknown key "port" in [grant.home]: did you mean "ports"?'],
    [
      '[grant.home]\nports = ["1"]\n[grant."a b".x]',
      '3: unknown key "x" in [grant."a b"]: known are "types", "hosts", "ports"',
    ],
    ['[listen]\nhttp = 80', '2: "http" must be text, not a number: write http = ":9000"'],
    ['listen = ":80"', '1: "listen" must be a table, not text: write [listen]'],
    ['[[listen]]\nhttp = ":80"', '1: "listen" must be a table, not a list: write [listen]'],
    ['grant = ["home"]', '1: "grant" must be a table, not a list: write [grant.NAME]'],
    ['[grant]\nhome = true', '2: "home" must be a table, not true: write [grant.home]'],
    [
      '[grant.home]\nports = "2222"',
      '2: "ports" must be a list, not text: write ports = ["2222", "8000-8100"]',
    ],
    [
      '[grant.home]\nports = [\n  1.5,\n]',
      '3: "ports" must be text, not a fraction: write ports = ["2222", "8000-8100"]',
    ],
    ['drain = 2020-01-01', '1: "drain" must be text, not a date: write drain = "30s"'],
    [
      '[grant.home]\nhosts = [\n"a.example",\n"a b"]',
      '4: hosts: "a b" is not a host: write a DNS name, "*." and a DNS name, an IP address, or "*"',
    ],
    [
      '[grant.home]\nports = ["70000"]',
      '2: ports: "70000" is not a port or a range of 1 to 65535: write "2222" or "8000-8100"',
    ],
    [
      '[grant.home]\ntypes = ["http", "ssh"]',
      '2: "types" cannot be "ssh": write one of "http", "https", "tcp", "udp"',
    ],
    ['[grant.home]\ntypes = ["htp"]', '2: "types" cannot be "htp": did you mean "http"?'],
    [
      '[grant.home]\ntypes = [1]',
      '2: "types" cannot be a number: write one of "http", "https", "tcp", "udp"',
    ],
    ['\n[grant.Home]', '2: "Home" cannot be a name: use 1 to 63 of a-z, 0-9 and -, with no - at the ends'],
    [
      'drain = "30"',
      '1: drain: "30" is not a duration: write a whole number and ms, s, m, h or d, as in "30s"',
    ],
    ...(
      [
        ['3.5', '3.5'],
        ['true', 'true'],
        ['100', '100'],
        ['0', '0'],
        ['"100"', '"100"'],
        ['"many"', '"many"'],
        ['[2]', 'that'],
        ['2020-01-01', 'that'],
      ] as const
    ).map(([said, shown]): [string, string] => [
      `workers = ${said}`,
      `1: workers: ${shown} is no number of workers: write a whole number from 1 to 64, or "auto" for one a core`,
    ]),
    ['memory = "1MiB"', '1: memory: "1MiB" is too little memory for visitors: give 16MiB or more'],
    ['address = ":9001"', '1: address: ":9001" names no host: write host:9001'],
    ['domain = "a b"', '1: domain: "a b" is not a domain: write a DNS name, as in "example.com"'],
    [
      'domain = "*.example.com"',
      '1: domain: "*.example.com" is a pattern: write the domain alone, "example.com"',
    ],
    [
      'trusted_proxies = [\n"10.0.0.1",\n"10.0.0.0/33"]',
      '3: trusted_proxies: "10.0.0.0/33": an IPv4 address has 32 bits: write fewer',
    ],
    [
      'trusted_proxies = ["proxy.lan"]',
      '1: trusted_proxies: "proxy.lan" is not an IP address or a block of them: write "10.0.0.1" or "10.0.0.0/8"',
    ],
    ['[limits]\nrequest = 1', '2: unknown key "request" in [limits]: did you mean "requests"?'],
    ['[limits]\nrequests = 1.5', '2: "requests" must be a whole number, not a fraction: write requests = 20'],
    ['[limits]\nrequests = "few"', '2: "requests" must be a number, not text: write requests = 20'],
    [
      '[limits]\nconnections = -1',
      '2: connections: -1 is too few: write a whole number from 1, or "off" for any number',
    ],
    [
      '[limits]\nrequests = 0',
      '2: requests: 0 is too few: write a whole number from 1, or "off" for any number',
    ],
    ['[limits]\nburst = 0', '2: burst: 0 is too few: write a whole number from 1'],
    ['[limits]\nhead = "512B"', '2: head: "512B": give a head from 1KiB to 256KiB'],
    ['[limits]\nhead = "1MiB"', '2: head: "1MiB": give a head from 1KiB to 256KiB'],
    [
      '[limits]\nhead_timeout = "99ms"',
      '2: head_timeout: "99ms" is too short for any visitor: give 100ms or more',
    ],
    [
      '[limits]\nbody = "big"',
      '2: body: "big" is not a size: write a whole number and B, KiB, MiB or GiB, as in "256MiB"',
    ],
    [
      '[limits]\n[route."a.example/x"]\n\nbodi = 1',
      '4: unknown key "bodi" in [route."a.example/x"]: did you mean "body"?',
    ],
    [
      '\n[route."a.example/x/"]\nbody = "1KiB"',
      '2: "a.example/x/" is not a route: write it as status does, "app.example.com/api" or "default"',
    ],
    [
      '[route."a.example"]\n[route."A.example/"]',
      '2: route "A.example/" stands here as "a.example" already: keep one of them',
    ],
    ['[log]\naccess = "combine"', '2: "access" cannot be "combine": did you mean "combined"?'],
    ['[log]\naddress = true', '2: "address" cannot be true: write one of "full", "truncated", "none"'],
    ['[log]\nquery = "no"', '2: "query" must be true or false, not text: write query = false'],
    ['[listen]\ntls = false', '2: "tls" must be text, not false: write tls = ":443"'],
    [
      'a = 1\n[listen]\nhttp = 1',
      '1: unknown key "a": known are "domain", "address", "workers", "memory", "drain", "hold", "trusted_proxies", "listen", "limits", "route", "log", "grant"',
    ],
    ['[listen]\nhttp = 1\n[grant.home]\nb = 1', '2: "http" must be text, not a number: write http = ":9000"'],
  ])('with a mistake (%j) is refused with its line and what to do', async (toml, message) => {
    expect(await complaint(loadGatewayFile, await fileOf(toml))).toBe(message)
  })

  it('has each pattern in one grant: with two nobody could say who owns the host', async () => {
    for (const pattern of ['*.example.com', 'example.com', '*']) {
      const toml = `[grant.home]\nhosts = ["${pattern}"]\n[grant.shop]\nhosts = [\n"shop.example",\n"${pattern.toUpperCase()}"]`
      expect(await complaint(loadGatewayFile, await fileOf(toml))).toBe(
        `6: host "${pattern}" is granted to "home" already: keep it in one of the two grants`,
      )
    }
  })

  it('may grant a host below a wildcard of another grant, which is the more specific', async () => {
    const toml =
      '[grant.home]\nhosts = ["*.example.com", "*.example.com"]\n[grant.shop]\nhosts = ["shop.example.com", "*.shop.example.com"]'
    expect((await gatewayFile(toml)).grants?.size).toBe(2)
  })

  it('has a sentence and an example for each key, and each example is right', async () => {
    const limits = [
      'connections',
      'requests',
      'burst',
      'total_connections',
      'total_requests',
      'total_burst',
      'head',
      'body',
      'head_timeout',
      'idle_timeout',
      'response_timeout',
      'stall_timeout',
      'body_rate',
    ]
    expect(GATEWAY_KEYS.map(({ table, key }) => `${table}${key}`)).toEqual([
      'domain',
      'address',
      'workers',
      'memory',
      'drain',
      'hold',
      'trusted_proxies',
      '[listen]http',
      '[listen]tls',
      '[listen]tunnel',
      '[listen]admin',
      '[listen]admin_token_file',
      '[listen]ports',
      ...limits.map((key) => `[limits]${key}`),
      ...limits.filter((key) => key !== 'head_timeout').map((key) => `[route.NAME]${key}`),
      '[log]access',
      '[log]address',
      '[log]query',
      '[grant.NAME]types',
      '[grant.NAME]hosts',
      '[grant.NAME]ports',
    ])
    for (const { table, key, description, example } of GATEWAY_KEYS) {
      expect(description).toMatch(/^.{20,}\.$/)
      // Its file is not there, which is all that is wrong with it.
      if (key === 'admin_token_file') continue
      await gatewayFile(`${table.replace('NAME', 'home')}\n${key} = ${example}\n`)
    }
  })
})

describe('settings of a gateway', () => {
  it('are the defaults when nobody says anything', () => {
    expect(gatewaySettings({ flags: {}, env: {} })).toEqual({
      listen: { http: { port: 9000 }, tunnel: { port: 9001 } },
      grants: undefined,
      workers: 1,
      memoryBytes: defaultMemory(),
      drainMs: DRAIN_MS,
      holdMs: HOLD_MS,
      keepaliveSeconds: KEEPALIVE_SECONDS,
      trustedProxies: [],
      limits: DEFAULT_HTTP_LIMITS,
      routeLimits: new Map(),
      log: { access: 'off', address: 'full', query: false },
    })
  })

  /** Setting; where it shows; what flag, environment and file say; what each of them comes out as, and the default. */
  const LEVELS: [
    setting: keyof typeof GATEWAY_ENVIRONMENT,
    shown: (settings: GatewaySettings) => unknown,
    flag: string | undefined,
    env: string,
    file: string,
    values: unknown[],
  ][] = [
    [
      'http',
      ({ listen }) => listen.http,
      ':1',
      ':2',
      '[listen]\nhttp = ":3"',
      [{ port: 1 }, { port: 2 }, { port: 3 }, { port: 9000 }],
    ],
    [
      'tls',
      ({ listen }) => listen.tls,
      ':1',
      ':2',
      '[listen]\ntls = "[::1]:3"',
      [{ port: 1 }, { port: 2 }, { host: '::1', port: 3 }, undefined],
    ],
    [
      'tunnel',
      ({ listen }) => listen.tunnel,
      ':1',
      ':2',
      '[listen]\ntunnel = ":3"',
      [{ port: 1 }, { port: 2 }, { port: 3 }, { port: 9001 }],
    ],
    [
      'admin',
      ({ listen }) => listen.admin,
      'localhost:1',
      '[::1]:2',
      '[listen]\nadmin = "127.0.0.1:3"',
      [{ host: 'localhost', port: 1 }, { host: '::1', port: 2 }, { host: '127.0.0.1', port: 3 }, undefined],
    ],
    [
      'ports',
      ({ listen }) => listen.portsHost,
      undefined,
      '10.0.0.2',
      '[listen]\nports = "10.0.0.3"',
      [undefined, '10.0.0.2', '10.0.0.3', undefined],
    ],
    [
      'domain',
      ({ domain }) => domain,
      'a.Example',
      'b.example',
      'domain = "c.example"',
      ['a.example', 'b.example', 'c.example', undefined],
    ],
    [
      'accessLog',
      ({ log }) => log.access,
      'json',
      'combined',
      '[log]\naccess = "json"',
      ['json', 'combined', 'json', 'off'],
    ],
    ['address', ({ address }) => address, 'a:1', 'a:2', 'address = "a:3"', ['a:1', 'a:2', 'a:3', undefined]],
    ['workers', ({ workers }) => workers, '2', '64', 'workers = 3', [2, 64, 3, 1]],
    [
      'memory',
      ({ memoryBytes }) => memoryBytes,
      undefined,
      '32MiB',
      'memory = "48MiB"',
      [undefined, 33_554_432, 50_331_648, defaultMemory()],
    ],
    ['drain', ({ drainMs }) => drainMs, '1s', '2s', 'drain = "3s"', [1_000, 2_000, 3_000, DRAIN_MS]],
    ['hold', ({ holdMs }) => holdMs, undefined, '2s', 'hold = "3s"', [undefined, 2_000, 3_000, HOLD_MS]],
  ]

  it('are each from flag, else environment, else file, else default', async () => {
    expect(LEVELS.map(([setting]) => setting).sort()).toEqual(Object.keys(GATEWAY_ENVIRONMENT).sort())
    for (const [
      setting,
      shown,
      flagText,
      envText,
      toml,
      [flagValue, envValue, fileValue, defaultValue],
    ] of LEVELS) {
      const flags: GatewayFlags = flagText === undefined ? {} : { [setting]: flagText }
      const env = { [GATEWAY_ENVIRONMENT[setting]]: envText }
      const file = await gatewayFile(toml)
      if (flagText !== undefined) {
        expect([setting, shown(gatewaySettings({ flags, env, file }))]).toEqual([setting, flagValue])
      }
      expect([setting, shown(gatewaySettings({ flags: {}, env, file }))]).toEqual([setting, envValue])
      expect([setting, shown(gatewaySettings({ flags: {}, env: {}, file }))]).toEqual([setting, fileValue])
      expect([setting, shown(gatewaySettings({ flags: {}, env: {} }))]).toEqual([setting, defaultValue])
    }
  })

  it('have as many workers as there are cores for "auto", on the command line and in the file', async () => {
    const cores = Math.min(availableParallelism(), TUNNELS_PER_GATEWAY)
    expect(gatewaySettings({ flags: { workers: 'auto' }, env: {} }).workers).toBe(cores)
    const file = await gatewayFile('workers = "auto"')
    expect(gatewaySettings({ flags: {}, env: {}, file }).workers).toBe(cores)
  })

  it('take an empty variable as none, and no other variable', () => {
    expect(
      gatewaySettings({ flags: {}, env: { BLINDGATE_HTTP: '', BLINDGATE_TYPO: 'x' } }).listen.http,
    ).toEqual({ port: 9000 })
  })

  it.each([
    [{ http: 'x' }, {}, 'usage', '--http: "x" is not an address: write host:port, [IPv6]:port or a port'],
    [
      { drain: '5' },
      {},
      'usage',
      '--drain: "5" is not a duration: write a whole number and ms, s, m, h or d, as in "30s"',
    ],
    [
      { workers: '65' },
      {},
      'usage',
      '--workers: "65" is no number of workers: write a whole number from 1 to 64, or "auto" for one a core',
    ],
    [
      { workers: '0' },
      {},
      'usage',
      '--workers: "0" is no number of workers: write a whole number from 1 to 64, or "auto" for one a core',
    ],
    [
      { accessLog: 'xml' },
      {},
      'usage',
      '--access-log: "xml" is no form of the access log: write off, json or combined',
    ],
    [
      { domain: 'a/b' },
      {},
      'usage',
      '--domain: "a/b" is not a domain: write a DNS name, as in "example.com"',
    ],
    [{ address: '9001' }, {}, 'usage', '--address: "9001" names no host: write host:9001'],
    [
      {},
      { BLINDGATE_MEMORY: 'much' },
      'config_invalid',
      'BLINDGATE_MEMORY: "much" is not a size: write a whole number and B, KiB, MiB or GiB, as in "256MiB"',
    ],
    [
      {},
      { BLINDGATE_TUNNEL: ':x' },
      'config_invalid',
      'BLINDGATE_TUNNEL: ":x" is not an address: write host:port, [IPv6]:port or a port',
    ],
  ])('name the flag or variable that is wrong (%j %j)', (flags, env, code, message) => {
    expect(() => gatewaySettings({ flags, env })).toThrow(expect.objectContaining({ code, message }) as Error)
  })

  it('keep to the longest drain and hold', () => {
    const { drainMs, holdMs } = gatewaySettings({ flags: { drain: '1d' }, env: { BLINDGATE_HOLD: '1d' } })
    expect([drainMs, holdMs]).toEqual([DRAIN_MS_MAX, HOLD_RECENT_MS])
  })

  it('open tcp ports on the host of http unless told otherwise', () => {
    expect(gatewaySettings({ flags: { http: '10.0.0.1:80' }, env: {} }).listen.portsHost).toBe('10.0.0.1')
    const env = { BLINDGATE_PORTS: '10.0.0.2' }
    expect(gatewaySettings({ flags: { http: '10.0.0.1:80' }, env }).listen.portsHost).toBe('10.0.0.2')
  })

  it.each(['9002', ':9002', '0.0.0.0:9002', '10.0.0.1:9002', '[::]:9002', 'vps.example.com:9002'])(
    'keep the admin port on this machine (%s)',
    (admin) => {
      expect(() => gatewaySettings({ flags: { admin }, env: {} })).toThrow(
        /^admin on .*9002 could be read by others: write 127\.0\.0\.1:9002, or give it a token with admin_token_file under \[listen\]$/,
      )
    },
  )

  it('let the admin port be anywhere once it has a token, from a file beside gateway.toml or elsewhere', async () => {
    const path = await fileOf('[listen]\nadmin = ":9002"\nadmin_token_file = "admin.token"')
    await writeFile(join(dirname(path), 'admin.token'), '  0123456789abcdef \nmore\n', { mode: 0o600 })
    const settings = gatewaySettings({ flags: {}, env: {}, file: await loadGatewayFile(path) })
    expect([settings.listen.admin, settings.adminToken]).toEqual([{ port: 9002 }, '0123456789abcdef'])
    const other = await gatewayFile(`[listen]\nadmin_token_file = "${join(dirname(path), 'admin.token')}"`)
    expect(other.listen.adminToken).toBe('0123456789abcdef')
  })

  it.each([
    ['0123456789abcdef', 0o640, / admin_token_file: others may use .*, and so know the token: chmod 600 /],
    ['0123456789abcdef', 0o604, /chmod 600/],
    ['0123456789abcde', 0o600, /admin\.token holds no token: write 16 or more ASCII characters/],
    ['', 0o600, /holds no token/],
    ['0123456789 abcdef', 0o600, /holds no token/],
    ['0123456789äabcdef', 0o600, /holds no token/],
    ['\n0123456789abcdef', 0o600, /holds no token/],
    [undefined, 0o600, /admin\.token cannot be read \(ENOENT\): write it$/],
  ])('take no token that is weak or that others know (%j, %d)', async (text, mode, says) => {
    const path = await fileOf('[listen]\n\nadmin_token_file = "admin.token"')
    if (text !== undefined) {
      await writeFile(join(dirname(path), 'admin.token'), text)
      await chmod(join(dirname(path), 'admin.token'), mode)
    }
    const message = await complaint(loadGatewayFile, path)
    expect(message).toMatch(/^3: admin_token_file: /)
    expect(message).toMatch(says)
    expect(message).not.toContain('0123456789')
  })

  it('take no folder or pipe for the file of a token', async () => {
    const path = await fileOf('[listen]\nadmin_token_file = "."')
    expect(await complaint(loadGatewayFile, path)).toMatch(/ is not a file: give the path/)
  })

  it('give each listener a port of its own, save where hosts differ or the port is any', () => {
    const both = (http: string, tunnel: string) => () => gatewaySettings({ flags: { http, tunnel }, env: {} })
    expect(both(':9000', ':9000')).toThrow(
      'visitors and clients are both on port 9000: give each a port of its own',
    )
    expect(both('10.0.0.1:9000', ':9000')).toThrow('both on port 9000')
    expect(both('10.0.0.1:9000', '10.0.0.1:9000')).toThrow('both on port 9000')
    expect(both('10.0.0.1:9000', '10.0.0.2:9000')).not.toThrow()
    expect(both('0', '0')).not.toThrow()
    const tls = (flags: GatewayFlags) => () => gatewaySettings({ flags: { tls: ':443', ...flags }, env: {} })
    expect(tls({ http: ':443' })).toThrow('visitors and visitors by TLS are both on port 443')
    expect(tls({ tunnel: ':443' })).toThrow(
      'visitors by TLS and clients are both on port 443: leave tunnel out, clients connect where tls is too',
    )
    expect(tls({ admin: '127.0.0.1:443' })).toThrow('visitors by TLS and admin are both on port 443')
  })

  it('give clients a port of their own only where somebody asks for it, once there is one for TLS', async () => {
    const env = { BLINDGATE_TLS: ':443' }
    expect(gatewaySettings({ flags: {}, env }).listen.tunnel).toBeUndefined()
    expect(gatewaySettings({ flags: { tunnel: ':1' }, env }).listen.tunnel).toEqual({ port: 1 })
    expect(gatewaySettings({ flags: {}, env: { ...env, BLINDGATE_TUNNEL: ':2' } }).listen.tunnel).toEqual({
      port: 2,
    })
    const file = await gatewayFile('[listen]\ntls = ":443"\ntunnel = ":3"')
    expect(gatewaySettings({ flags: {}, env: {}, file }).listen.tunnel).toEqual({ port: 3 })
  })

  it('take a quarter of the memory there is, in a container of what it may use', () => {
    const GiB = 2 ** 30
    expect(defaultMemory(8 * GiB, 0)).toBe(2 * GiB)
    expect(defaultMemory(8 * GiB, 2 ** 64)).toBe(2 * GiB)
    expect(defaultMemory(8 * GiB, 1 * GiB)).toBe(GiB / 4)
    expect(defaultMemory()).toBeLessThanOrEqual(totalmem() / 4)
  })
})
