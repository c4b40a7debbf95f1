import { describe, expect, it } from 'vitest'
import {
  CLIENT_KEYS,
  DEFAULT_ACME,
  DEFAULT_TRUST,
  drainSetting,
  loadClientFile,
  parseTarget,
  serviceSettings,
} from '../../src/config/index.ts'
import { DRAIN_MS, DRAIN_MS_MAX, HTTP_IDLE_MS } from '../../src/limits.ts'
import { clientFile, complaint, fileOf } from './files.ts'

const KEY = `sha256:${Buffer.alloc(32, 7).toString('base64').slice(0, 43)}`
const GATEWAY = `[[gateway]]\naddress = "vps.example.com:9001"\nkey = "${KEY}"\n`

/** A [[service]] of three lines and more. */
function service(more = '', type = 'http', target = '8080'): string {
  return `[[service]]\ntype = "${type}"\ntarget = "${target}"\n${more}\n`
}

describe('blindgate.toml', () => {
  it('is read whole', async () => {
    const file = await clientFile(`drain = "5s"
${GATEWAY}
[[gateway]]
address = "[2001:db8::1]:9001"
key = "${KEY}"
[[service]]
name = "web"
type = "http"
target = "127.0.0.1:8080"
gateway = ["vps.example.com:9001"]
idle_timeout = "off"
proxy_protocol = true
[[service]]
type = "tcp"
port = 2222
target = "22"
idle_timeout = "1h"
`)
    expect(file).toEqual({
      acme: DEFAULT_ACME,
      drainMs: 5_000,
      trust: DEFAULT_TRUST,
      gateways: [
        { address: 'vps.example.com:9001', key: KEY },
        { address: '[2001:db8::1]:9001', key: KEY },
      ],
      services: [
        {
          name: 'web',
          type: 'http',
          hosts: [],
          target: { kind: 'tcp', host: '127.0.0.1', port: 8080, text: '127.0.0.1:8080' },
          gateways: ['vps.example.com:9001'],
          idleMs: 0,
          proxyHeader: true,
        },
        {
          name: 'tcp-22',
          type: 'tcp',
          hosts: [],
          port: 2222,
          target: { kind: 'tcp', host: '127.0.0.1', port: 22, text: '127.0.0.1:22' },
          idleMs: 3_600_000,
          proxyHeader: false,
        },
      ],
    })
  })

  it('says how visitors reach an http service, and what its target gets', async () => {
    const { services } = await clientFile(`${service(`name = "web"
host = ["App.Example.com", "*.app.example.com", "app.example.com"]
path = "/api/"
strip_path = true
host_header = "intern.local:8080"
health = "/health/?deep=1"
retry = "idempotent"
`)}[service.add_headers]
X-From = "blindgate"
X_Empty = ""
${service('host = "*"\npath = "/"\nadd_headers = {}', 'http', '2')}${service('path = "/"\nstrip_path = true', 'http', '3')}`)
    expect(
      services.map(({ hosts, path, health, rewrite, retry }) => ({ hosts, path, health, rewrite, retry })),
    ).toEqual([
      {
        hosts: ['app.example.com', '*.app.example.com'],
        path: '/api',
        health: '/health/?deep=1',
        rewrite: {
          host: 'intern.local:8080',
          headers: [
            ['X-From', 'blindgate'],
            ['X_Empty', ''],
          ],
          stripPath: true,
        },
        retry: 'idempotent',
      },
      // "/" is what all paths begin with, and takes nothing off.
      { hosts: ['*'] },
      { hosts: [] },
    ])
  })

  it('says of an https service its hosts, and that its target speaks TLS', async () => {
    const lines = 'host = ["App.Example.com", "*.example.org"]\ntls = "passthrough"\nproxy_protocol = true'
    expect((await clientFile(service(lines, 'https', '8443'))).services).toEqual([
      {
        name: 'https-8443',
        type: 'https',
        hosts: ['app.example.com', '*.example.org'],
        tls: 'passthrough',
        target: parseTarget('8443'),
        idleMs: 0,
        proxyHeader: true,
      },
    ])
  })

  it('may leave the gateways out, and then names any', async () => {
    const { gateways, services } = await clientFile(service('gateway = ["a.example:1"]'))
    expect(gateways).toEqual([])
    expect(services[0]?.gateways).toEqual(['a.example:1'])
  })

  it('has its drain cut to the longest', async () => {
    expect((await clientFile('drain = "1d"')).drainMs).toBe(DRAIN_MS_MAX)
  })

  it.each<[string, string | RegExp]>([
    [service('prot = 1'), '4: unknown key "prot" in [[service]]: did you mean "port"?'],
    // Not that "type" is missing: it is there, and misspelt.
    ['[[service]]\ntipe = "tcp"\ntarget = "1"', '2: unknown key "tipe" in [[service]]: did you mean "type"?'],
    [
      service('idle-timeout = "1s"'),
      '4: unknown key "idle-timeout" in [[service]]: did you mean "idle_timeout"?',
    ],
    [service('hots = ["x"]'), '4: unknown key "hots" in [[service]]: did you mean "host"?'],
    [
      `${service()}[service.quota]\n`,
      '5: unknown key "quota" in [[service]]: known are "name", "type", "host", "tls", "cert", "key", "hsts", "path", "port", "target", "target_key", "strip_path", "host_header", "add_headers", "health", "retry", "gateway", "idle_timeout", "proxy_protocol"',
    ],
    ['[[services]]', '1: unknown key "services": did you mean "service"?'],
    ['[service]\ntype = "http"', '1: "service" must be a list, not a table: write [[service]]'],
    ['service = "http"', '1: "service" must be a list, not text: write [[service]]'],
    ['service = [8080]', '1: "service" must be a table, not a number: write [[service]]'],
    ['\n[[service]]\ntype = "http"', '2: [[service]] has no "target": add target = "127.0.0.1:8080"'],
    ['[[service]]\ntarget = "80"', '1: [[service]] has no "type": add type = "http"'],
    [`[[gateway]]\nkey = "${KEY}"`, '1: [[gateway]] has no "address": add address = "vps.example.com:9001"'],
    ['[[gateway]]\naddress = "a:1"', '1: [[gateway]] has no "key": add key = "sha256:…"'],
    [
      '[[gateway]]\naddress = "a:1"\nkey = "sha256:x"',
      '3: key: "sha256:x" is not a key: copy it whole, "sha256:" and 43 characters',
    ],
    [`[[gateway]]\naddress = "9001"\nkey = "${KEY}"`, '2: address: "9001" names no host: write host:9001'],
    [
      service('', 'http', 'http://localhost:3000'),
      '3: target: "http://localhost:3000" is a URL: write only host:port, "localhost:3000"',
    ],
    [service('port = "2222"', 'tcp'), '4: "port" must be a number, not text: write port = 2222'],
    [service('port = 22.5', 'tcp'), '4: "port" must be a whole number, not a fraction: write port = 2222'],
    [service('port = 0', 'tcp'), '4: port: there is no port 0: give one from 1 to 65535'],
    [service('port = 65536', 'tcp'), '4: port: there is no port 65536: give one from 1 to 65535'],
    [service('port = -1', 'tcp'), '4: port: there is no port -1: give one from 1 to 65535'],
    [
      service('port = 80'),
      "4: http has no port of its own, visitors use the gateway's: leave port out, or offer tcp",
    ],
    [
      service('name = "My Web"'),
      '4: name: "My Web" cannot be a name: use 1 to 63 of a-z, 0-9 and -, with no - at the ends',
    ],
    [
      service('proxy_protocol = "yes"'),
      '4: "proxy_protocol" must be true or false, not text: write proxy_protocol = true',
    ],
    [
      service('idle_timeout = 600'),
      '4: "idle_timeout" must be text, not a number: write idle_timeout = "10m"',
    ],
    [
      service('gateway = "a:1"'),
      '4: "gateway" must be a list, not text: write gateway = ["vps.example.com:9001"]',
    ],
    [service('', 'htpp'), '2: "type" cannot be "htpp": did you mean "http"?'],
    [service('', 'HTTP'), '2: "type" cannot be "HTTP": did you mean "http"?'],
    [service('', 'udp'), '2: not in this version yet: type "udp": offer "http", "https" or "tcp"'],
    [service('tls = true', 'https'), '4: "tls" cannot be true: write one of "passthrough", "self-signed"'],
    [
      service('host = "a.example"\ntls = "acme"', 'https'),
      '5: "tls" cannot be "acme": write one of "passthrough", "self-signed"',
    ],
    [
      service('host = "a.example"\ncert = "a.pem"', 'https'),
      '5: cert stands alone: give both, the certificate with its chain and its private key',
    ],
    [
      service('host = "a.example"\nkey = "a.key"', 'https'),
      '5: key stands alone: give both, the certificate with its chain and its private key',
    ],
    [
      service('host = "a.example"\ntls = "self-signed"\ncert = "a.pem"\nkey = "a.key"', 'https'),
      '5: tls = "self-signed" needs no files: leave cert and key out, or leave tls out',
    ],
    [
      service(`target_key = "${KEY}"`),
      '3: target_key is the key of a target that speaks TLS: write target = "https://…", or leave target_key out',
    ],
    [
      '[[service]]\ntype = "http"\ntarget = "h2c://127.0.0.1:1"\n',
      '3: h2c is for https whose TLS ends here: a target of http is host:port',
    ],
    [
      '[[service]]\ntype = "tcp"\ntarget = "https://127.0.0.1:1"\n',
      '3: tcp carries what visitors send, TLS too: write the target as host:port',
    ],
    [
      service('tls = "passthrough"', 'https'),
      '2: https is found by the host that visitors ask for: add host = ["app.example.com"]',
    ],
    ...['*', '203.0.113.7', '[2001:db8::1]'].map((host): [string, string] => [
      service(`tls = "passthrough"\nhost = ["a.example", "${host}"]`, 'https'),
      `5: "${host}" is no host that visitors can ask for by TLS: write DNS names, as in "app.example.com" or "*.example.com"`,
    ]),
    [
      service('tls = "passthrough"\nhost = "a.example"\nport = 443', 'https'),
      "6: https has no port of its own, visitors use the gateway's: leave port out, or offer tcp",
    ],
    [
      service('tls = "passthrough"'),
      '4: tls is for https: its visitors come without TLS: leave tls out, or offer https',
    ],
    ...['path = "/a"', 'strip_path = true'].map((line): [string, RegExp] => [
      service(`tls = "passthrough"\nhost = "a.example"\n${line}`, 'https'),
      new RegExp(
        `^6: ${line.split(' ')[0]} is for http: https is found by its host alone, and nobody .*, or offer http$`,
      ),
    ]),
    ...['health = "/a"', 'host_header = "a"', 'add_headers = {}', 'retry = "idempotent"', 'hsts = false'].map(
      (line): [string, string] => [
        service(`tls = "passthrough"\nhost = "a.example"\n${line}`, 'https'),
        '6: with tls = "passthrough" nobody on the way can read or change anything: leave it out',
      ],
    ),
    [service('host = []'), '4: host: an empty list names no host: write one, or leave host out'],
    [service('host = 1'), '4: "host" cannot be a number: write host = ["app.example.com"]'],
    [service('host = [\n"a.example",\n1]'), '6: host: only text can stand here: put it in quotes'],
    [
      service('host = [\n"a.example",\n"*.*.example"]'),
      '6: host: "*.*.example": a * stands for the whole first label: write "*.example.com" or "*"',
    ],
    [
      service(`host = [${Array.from({ length: 65 }, (_, at) => `"h${at}.example"`).join()}]`),
      '4: host: 65 hosts are too many for one service: split it, 64 each',
    ],
    [service('path = "api"'), '4: path: "api" does not begin with a slash: put one before it'],
    [service('health = "/a#b"'), /^4: health: "\/a#b" has a query or a fragment/],
    [
      service('strip_path = "yes"\npath = "/a"'),
      '4: "strip_path" must be true or false, not text: write strip_path = true',
    ],
    [
      service('strip_path = true'),
      '4: strip_path takes off the path that visitors ask for, and there is none: add path, or leave strip_path out',
    ],
    [
      service('host_header = "intern.local"'),
      '4: host_header hides from the target under which name it was reached, so the names must be yours: add host, without "*", or leave host_header out',
    ],
    [
      service('host = ["*", "a.example"]\nhost_header = "intern.local"'),
      /^5: host_header hides .*: add host, without "\*"/,
    ],
    [service('host_header = "a b"'), /^4: host_header: "a b" is not a host: write "intern.local"/],
    [service('retry = "always"'), '4: "retry" cannot be "always": write one of "idempotent"'],
    [
      service('add_headers = { "X-A" = "a", "Content-Length" = "1" }'),
      '4: add_headers: "Content-Length" is set by the gateway, or holds the request together: leave it out',
    ],
    [
      `${service()}[service.add_headers]\nX-A = "a"\n"X A" = "b"`,
      '7: add_headers: "X A" is not the name of a header: use letters, digits and -, as in "X-From"',
    ],
    [
      service('add_headers = { Host = "a" }'),
      '4: add_headers: "Host" has a key of its own: write host_header',
    ],
    [
      service('add_headers = { X-A = "a", x-a = "b" }'),
      '4: add_headers: "x-a" stands here twice, case does not count: keep one of them',
    ],
    [service('add_headers = { X-A = 1 }'), '4: add_headers: only text can stand here: put it in quotes'],
    [service('add_headers = { X-A = " a" }'), /^4: add_headers: " a" has a space at its end or beginning/],
    [
      service(`add_headers = { ${Array.from({ length: 33 }, (_, at) => `X-${at} = "a"`).join()} }`),
      '4: add_headers: 33 headers are too many: 32 at most',
    ],
    [
      service('add_headers = "X-A: a"'),
      '4: "add_headers" must be a table, not text: write add_headers = { "X-From" = "blindgate" }',
    ],
    ...[
      'host = "a.example"',
      'path = "/a"',
      'health = "/a"',
      'host_header = "a"',
      'add_headers = { X-A = "a" }',
      'strip_path = true',
      'retry = "idempotent"',
    ].map((line): [string, RegExp] => [
      service(line, 'tcp'),
      new RegExp(
        `^4: ${line.split(' ')[0]} is for http(?: and https)?: tcp is carried as it is, .*, or offer http$`,
      ),
    ]),
    [service('', 'tcp', 'unix:/run/ü'), '3: no name can be made of unix:/run/ü: give the service a name'],
  ])('with a mistake (%j) is refused with its line and what to do', async (toml, message) => {
    const said = await complaint(loadClientFile, await fileOf(toml))
    if (typeof message === 'string') expect(said).toBe(message)
    else expect(said).toMatch(message)
  })

  it('has services with names of their own, given or made', async () => {
    expect(await complaint(loadClientFile, await fileOf(service('name = "a"') + service('name = "a"')))).toBe(
      '8: service name "a" is taken by an earlier [[service]]: give each a name of its own',
    )
    expect(
      await complaint(loadClientFile, await fileOf(service() + service('', 'http', 'nas.lan:8080'))),
    ).toBe(
      '5: service name "http-8080" (made of type and target) is taken by an earlier [[service]]: give each a name of its own',
    )
    expect(
      await complaint(loadClientFile, await fileOf(service('name = "tcp-22"') + service('', 'tcp', '22'))),
    ).toMatch(/^5: service name "tcp-22" \(made/)
  })

  /** A file of two services with names of their own. */
  const two = (first: string, second: string, type = 'http', begin = ''): string =>
    `${begin}${service(`name = "a"\n${first}`, type, '1')}${service(`name = "b"\n${second}`, type, '2')}`

  it.each([
    [
      'tcp',
      'port = 22',
      'port = 22',
      '10: port 22 is taken by the service "a" above: give it another port, or leave port out and the gateway chooses one',
    ],
    [
      'http',
      'host = "a.example"',
      'host = ["b.example", "A.example"]',
      '10: host "a.example" is taken by the service "a" above: give it another host or path',
    ],
    [
      'http',
      'host = "*"\npath = "/"',
      'host = "*"',
      '11: host "*" is taken by the service "a" above: give it another host or path',
    ],
    [
      'http',
      'path = "/api"\nhost = "a.example"',
      'path = "/api/"\nhost = "a.example"',
      '12: host "a.example" with path "/api" is taken by the service "a" above: give it another host or path',
    ],
    [
      'https',
      'tls = "self-signed"\nhost = "a.example"',
      'tls = "passthrough"\nhost = "a.example"',
      '12: host "a.example" is taken by the service "a" above: give it another host',
    ],
  ])('gives no place of visitors to two %s services (%j, %j)', async (type, one, other, says) => {
    expect(await complaint(loadClientFile, await fileOf(two(one, other, type)))).toBe(says)
  })

  it('lets two services be where a gateway can serve both', async () => {
    const gateways = `${GATEWAY}${GATEWAY.replace('vps.', 'other.')}`
    const at = (name: string): string => `gateway = ["${name}.example.com:9001"]\nport = 22`
    for (const toml of [
      two(at('vps'), at('other'), 'tcp', gateways),
      two('gateway = []\nport = 22', 'port = 22', 'tcp'),
      // The gateway chooses: with a domain each has a host of its own.
      two('', ''),
      two('', '', 'tcp'),
      two('host = "a.example"', 'host = "a.example"\npath = "/api"'),
      two('host = "*.example"', 'host = "a.example"'),
      `${service('host = "a.example"\ntls = "self-signed"', 'https')}${service('host = "a.example"')}`,
    ]) {
      expect((await clientFile(toml)).services).toHaveLength(2)
    }
    const shared = two(at('vps'), 'port = 22', 'tcp', gateways)
    expect(await complaint(loadClientFile, await fileOf(shared))).toMatch(/^17: port 22 is taken/)
  })

  it('has gateways once, and services that name them', async () => {
    expect(await complaint(loadClientFile, await fileOf(GATEWAY + GATEWAY))).toBe(
      '5: gateway vps.example.com:9001 stands here twice: keep one of them',
    )
    expect(
      await complaint(
        loadClientFile,
        await fileOf(GATEWAY + service('gateway = [\n"vsp.example.com:9001"]')),
      ),
    ).toBe('8: no [[gateway]] has the address "vsp.example.com:9001": did you mean "vps.example.com:9001"?')
    expect(await complaint(loadClientFile, await fileOf(GATEWAY + service('gateway = ["other:1"]')))).toBe(
      '7: no [[gateway]] has the address "other:1": add it as [[gateway]]',
    )
  })

  it('has a sentence and an example for each key, and each example is right', async () => {
    const needed = {
      '[[gateway]]': { address: '"a:1"', key: `"${KEY}"` },
      '[[service]]': { type: '"tcp"', target: '"80"' },
      http: { type: '"http"', target: '"80"', host: '"a.example"', path: '"/a"' },
      https: { type: '"https"', target: '"443"', host: '"a.example"' },
      cert: { type: '"https"', target: '"443"', host: '"a.example"', key: '"a.key"' },
      key: { type: '"https"', target: '"443"', host: '"a.example"', cert: '"a.pem"' },
      target_key: { type: '"http"', target: '"https://a.example"' },
    }
    // Those of [acme] name files: acme.test.ts has them.
    const plain = CLIENT_KEYS.filter(({ table }) => !table.startsWith('[acme'))
    expect(plain).toHaveLength(27)
    for (const { table, key, description, example } of plain) {
      expect(description).toMatch(/^.{20,}\.$/)
      // No key to copy can be right: everybody's is another.
      const value = example.replace('sha256:…', KEY)
      const kind =
        key in needed && table === '[[service]]'
          ? key
          : (/^(https?)(?: and https)?: /.exec(description)?.[1] ?? table)
      const keys = { ...needed[kind as keyof typeof needed], [key]: value }
      await clientFile(
        `${table}\n${Object.entries(keys)
          .map(([name, text]) => `${name} = ${text}\n`)
          .join('')}`,
      )
    }
  })
})

describe('[trust]', () => {
  it('is filled in', async () => {
    expect((await clientFile('')).trust).toEqual(DEFAULT_TRUST)
    expect(new URL(DEFAULT_TRUST.ct).origin).toBe('https://api.certspotter.com')
    const { trust } = await clientFile(`[trust]
ct = "https://ct.example/{host}"
keys = ["${KEY}"]
probe_via = ["http://proxy.example:3128", "socks5://[::1]:1080/"]
replicas = ["${KEY}"]
nameservers = ["192.0.2.53", "127.0.0.1:5353", "2001:db8::53", "[2001:db8::53]:54"]
`)
    expect(trust).toEqual({
      ct: 'https://ct.example/{host}',
      keys: [KEY],
      probeVia: [
        { kind: 'http', host: 'proxy.example', port: 3128, text: 'http://proxy.example:3128' },
        { kind: 'socks5', host: '::1', port: 1080, text: 'socks5://[::1]:1080' },
      ],
      replicas: [KEY],
      nameservers: [
        { host: '192.0.2.53', port: 53 },
        { host: '127.0.0.1', port: 5353 },
        { host: '2001:db8::53', port: 53 },
        { host: '2001:db8::53', port: 54 },
      ],
    })
  })

  it.each<[string, string]>([
    [
      'ct = "http://ct.example/{host}"',
      '2: ct: "http://ct.example/{host}" is not a URL of https: write https://…{host}…',
    ],
    [
      'ct = "https://ct.example/"',
      '2: ct: "https://ct.example/" has no {host} in it: write it where the host belongs',
    ],
    ['ct = "{host}"', '2: ct: "{host}" is not a URL of https: write https://…{host}…'],
    ['keys = ["sha256:x"]', '2: keys: "sha256:x" is not a key: copy it whole, "sha256:" and 43 characters'],
    [
      'probe_via = ["proxy:1"]',
      '2: probe_via: "proxy:1" is not a proxy: write http://host:port or socks5://host:port',
    ],
    // A password is not repeated.
    [
      'probe_via = ["http://a:secret@proxy:1"]',
      '2: probe_via: this is not a proxy: write http://host:port or socks5://host:port, without a password',
    ],
    [
      'nameservers = ["ns.example:53"]',
      '2: nameservers: "ns.example:53": a name server is named by its IP address, as in "192.0.2.53"',
    ],
    ['replica = []', '2: unknown key "replica" in [trust]: did you mean "replicas"?'],
  ])('%j is refused with what to do', async (line, message) => {
    expect(await complaint(loadClientFile, await fileOf(`[trust]\n${line}\n`))).toBe(message)
  })
})

describe('the drain of a client', () => {
  it('is from flag, else environment, else file, else default, and at most the longest', () => {
    const env = { BLINDGATE_DRAIN: '2s' }
    expect(drainSetting({ flag: '1s', env, fileMs: 3_000 })).toBe(1_000)
    expect(drainSetting({ env, fileMs: 3_000 })).toBe(2_000)
    expect(drainSetting({ env: {}, fileMs: 3_000 })).toBe(3_000)
    expect(drainSetting({ env: {} })).toBe(DRAIN_MS)
    expect(drainSetting({ flag: '1d', env })).toBe(DRAIN_MS_MAX)
    expect(() => drainSetting({ flag: 'x', env })).toThrow('--drain: "x" is not a duration')
  })
})

describe('a service of a command line', () => {
  it('gets what was left out', () => {
    const target = parseTarget('8080')
    expect(serviceSettings({ type: 'http', target })).toEqual({
      name: 'http-8080',
      type: 'http',
      hosts: [],
      target,
      idleMs: HTTP_IDLE_MS,
      proxyHeader: false,
    })
    expect(serviceSettings({ type: 'tcp', target, port: 22, name: 'ssh' })).toMatchObject({
      name: 'ssh',
      port: 22,
      idleMs: 0,
    })
  })

  it('has no port when it is http', () => {
    expect(() => serviceSettings({ type: 'http', target: parseTarget('1'), port: 1 })).toThrow(
      'http has no port of its own',
    )
  })
})
