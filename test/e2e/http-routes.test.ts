import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Running } from '../cli/binary.ts'
import { get, Talk } from './http.ts'
import { Target } from './visitors.ts'
import { expectFailure, type Gateway, heard, killed, logged, until, World } from './world.ts'

const run = promisify(execFile)
const CURL_MISSING = await run('curl', ['--version']).then(
  () => false,
  () => true,
)

const world = new World()
afterAll(() => world.close())
let gateway: Gateway

/** What a target saw of a request. */
interface Mirrored {
  target: string
  method: string
  url: string
  headers: Record<string, string>
  fields: string[]
  body: number
}

/** A web server that answers with what it was asked; with 503 under /sick. */
function mirror(name: string): Promise<Target> {
  return Target.serving((request, response) => {
    let body = 0
    request.on('data', (chunk: Buffer) => (body += chunk.length))
    request.on('end', () => {
      const { method = '', url = '', headers, rawHeaders } = request
      response.statusCode = url === '/sick' ? 503 : 200
      response.setHeader('Content-Type', 'application/json')
      const fields = rawHeaders.flatMap((text, at) =>
        at % 2 === 0 ? [`${text}: ${rawHeaders[at + 1]}`] : [],
      )
      const text = JSON.stringify({ target: name, method, url, headers, fields, body })
      response.setHeader('Content-Length', Buffer.byteLength(text)).end(text)
    })
  })
}

function toml(path: string, text: string): string {
  const file = world.path(path)
  writeFileSync(file, text, { mode: 0o600 })
  return file
}

const GRANTS = `
[grant.home]
types = ["http", "tcp"]
hosts = ["*", "*.example.com", "example.com", "*.wild.example.com", "*.example.org"]
[grant.office]
types = ["http"]
hosts = ["office.example.com"]
`

interface Service {
  name: string
  host?: string
  rest?: string
}

/** Each with a target of its own name. */
async function file(path: string, services: readonly Service[]): Promise<string> {
  const tables = await Promise.all(
    services.map(async ({ name, host, rest = '' }) => {
      const target = world.with(await mirror(name))
      const hosts = host === undefined ? '' : `host = ${host}\n`
      return `[[service]]\nname = "${name}"\ntype = "http"\n${hosts}target = "127.0.0.1:${target.port}"\n${rest}\n`
    }),
  )
  return toml(path, tables.join('\n'))
}

let program: Running
beforeAll(async () => {
  gateway = await world.gateway(['-c', toml('gateway.toml', GRANTS), '--domain', 'example.org'])
  await world.join('home', gateway, ['--name', 'home'])
  await world.join('second', gateway, ['--name', 'home'])
  await world.join('office', gateway, ['--name', 'office'])
  const services = await file('blindgate.toml', [
    { name: 'site', host: '["example.com", "www.example.com"]' },
    { name: 'api', host: '["example.com"]', rest: 'path = "/api"' },
    { name: 'admin', host: '["example.com"]', rest: 'path = "/api/admin"\nstrip_path = true' },
    { name: 'wild', host: '["*.wild.example.com"]' },
    { name: 'exact', host: '["exact.wild.example.com"]', rest: 'path = "/only"' },
    { name: 'named' },
    { name: 'rest', host: '["*"]' },
    { name: 'rest-api', host: '["*"]', rest: 'path = "/api"' },
    {
      name: 'changed',
      host: '["changed.example.com"]',
      rest: 'path = "/in"\nstrip_path = true\nhost_header = "intern.local:8080"\nadd_headers = { "X-From" = "blindgate", "X-Key" = "s3cret" }',
    },
    { name: 'sick', host: '["sick.example.com"]', rest: 'health = "/sick"' },
  ])
  program = world.start('home', ['up', '-c', services])
  await heard(program, 'out', /^(?:http:\S+ → \S+\n){11}/m)
})

/** What the target saw, or the status of who answered in its place. */
async function asked(host: string, path = '/', lines: readonly string[] = []): Promise<Mirrored | number> {
  const talk = await Talk.to(gateway.visitors)
  const { status, body } = await talk.ask(host, path, lines)
  talk.close()
  return status === 200 ? (JSON.parse(body) as Mirrored) : status
}

async function targetOf(host: string, path = '/'): Promise<string | number> {
  const answer = await asked(host, path)
  return typeof answer === 'number' ? answer : answer.target
}

describe('a request goes to', () => {
  it.each([
    ['example.com', '/', 'site'],
    ['EXAMPLE.com.', '/apix', 'site'],
    ['example.com:1234', '/API', 'site'],
    ['www.example.com', '/api', 'site'],
    ['example.com', '/api', 'api'],
    ['example.com', '/api/', 'api'],
    ['example.com', '/api?x=/api/admin', 'api'],
    ['example.com', '/%61pi/users', 'api'],
    ['example.com', '/api/admin', 'admin'],
    ['example.com', '/api/admin/x/y?z', 'admin'],
    ['example.com', '/api/administration', 'api'],
    ['a.wild.example.com', '/', 'wild'],
    // One label, and no more.
    ['a.b.wild.example.com', '/', 'rest'],
    ['exact.wild.example.com', '/only/this', 'exact'],
    // What an exact host has not is nobody's.
    ['exact.wild.example.com', '/other', 404],
    ['changed.example.com', '/', 404],
    ['named.example.org', '/', 'named'],
    ['other.example.org', '/', 'rest'],
    ['127.0.0.1', '/', 'rest'],
    ['[::1]:80', '/api/x', 'rest-api'],
    ['xn--bcher-kva.example.net', '/', 'rest'],
    // A path that servers read in different ways, where paths decide.
    ['example.com', '/api/../', 400],
    ['example.com', '/x/%2e%2e/api', 400],
    ['example.com', '/api%2fadmin', 400],
    ['example.com', '//api', 400],
    ['example.com', '/x\\api', 400],
    ['example.com', '/api/%00', 400],
    ['www.example.com', '/x/../%2f//', 'site'],
  ] as const)('%s%s: %s', async (host, path, wanted) => {
    expect(await targetOf(host, path)).toBe(wanted)
  })

  it('several targets from one connection, one after the other, in the order in which they were asked', async () => {
    const wanted = ['site', 'api', 'wild', 404, 'named', 'rest', 'site'] as const
    const talk = await Talk.to(gateway.visitors)
    talk.say(
      [
        get('example.com'),
        get('example.com', '/api'),
        get('a.wild.example.com'),
        get('exact.wild.example.com', '/'),
        get('named.example.org'),
        get('elsewhere.test'),
        get('www.example.com'),
      ].join(''),
    )
    for (const each of wanted) {
      const { status, body } = await talk.answer()
      expect(status === 200 ? (JSON.parse(body) as Mirrored).target : status).toBe(each)
    }
    talk.close()
  })
})

describe('what a target sees', () => {
  it('is the request as it was sent, and who asked', async () => {
    const lines = ['x-ODD: case  kept', 'Cookie: a=b', 'Cookie: c=d', 'Connection: keep-alive', 'Accept: */*']
    const { url, headers, fields } = (await asked('www.example.com', '/a%2Fb?c=%41', lines)) as Mirrored
    expect(url).toBe('/a%2Fb?c=%41')
    expect(fields.slice(0, 5)).toEqual([
      'Host: www.example.com',
      'x-ODD: case  kept',
      'Cookie: a=b',
      'Cookie: c=d',
      'Accept: */*',
    ])
    expect(headers).toMatchObject({
      'x-forwarded-for': '127.0.0.1',
      'x-real-ip': '127.0.0.1',
      'x-forwarded-proto': 'http',
      'x-forwarded-host': 'www.example.com',
    })
    expect(headers).not.toHaveProperty('connection')
  })

  it('has no path, host and headers but those of its service, where that says so', async () => {
    const lies = ['X-From: visitor', 'x_key: guess', 'X-KEY: guess']
    const seen = (await asked('changed.example.com', '/in//evil.example/x?y', lies)) as Mirrored
    // Routes with paths are not asked in ways that servers read differently.
    expect(seen).toBe(400)
    const { url, headers, fields } = (await asked('changed.example.com', '/in/x?y', lies)) as Mirrored
    expect(url).toBe('/x?y')
    expect(headers).toMatchObject({
      host: 'intern.local:8080',
      'x-forwarded-host': 'changed.example.com',
      'x-from': 'blindgate',
      'x-key': 's3cret',
    })
    expect(fields.filter((field) => /^x.(?:from|key):/i.test(field))).toHaveLength(2)
    expect(((await asked('changed.example.com', '/in')) as Mirrored).url).toBe('/')
    expect(((await asked('changed.example.com', '/in?y')) as Mirrored).url).toBe('/?y')
    expect(((await asked('example.com', '/api/admin/x')) as Mirrored).url).toBe('/x')
    expect(((await asked('example.com', '/api/x')) as Mirrored).url).toBe('/api/x')
  })
})

describe('a quick command', () => {
  it('takes a host and a path, prints where visitors find it, and leaves the rest to others', async () => {
    const target = world.with(await mirror('quick'))
    const args = ['http', String(target.port), '--host', 'app.example.com', '--path', '/api']
    const offered = await world.offer('second', args)
    expect(offered.url).toBe(`http://app.example.com:${gateway.visitors}/api`)
    expect(offered.target).toBe(`127.0.0.1:${target.port}`)
    expect(await targetOf('app.example.com', '/api/users')).toBe('quick')
    expect(await targetOf('app.example.com', '/')).toBe(404)

    // Another name cannot have it, nor what is below it or beside it, whether its owner is there or not.
    const other = ['http', String(target.port), '--host', 'app.example.com']
    const refused = /outside the grant of "office".*\[grant\.office\] hosts.*\(not_granted\)$/
    expectFailure(await world.run('office', other), { says: refused })
    offered.program.signal('SIGTERM')
    expect((await offered.program.ended).code).toBe(0)
    expectFailure(await world.run('office', [...other, '--path', '/login']), { says: refused })
    expectFailure(await world.run('office', ['http', String(target.port)]), {
      says: /\((?:not_granted|route_taken)\)$/,
    })
    expect(await gateway.command(['release', 'app.example.com/api'])).toMatch(
      /^released app\.example\.com\/api,/,
    )
    expect(await targetOf('app.example.com', '/api/users')).toBe('rest-api')
  })

  it('of a host that another name has is refused until the operator releases it', async () => {
    const target = world.with(await mirror('whose'))
    const args = ['http', String(target.port), '--host', 'office.example.com']
    const { program: owner } = await world.offer('office', args)
    // A wildcard is granted to this name, but a host is one name's on every path.
    expectFailure(await world.run('second', [...args, '--path', '/login']), {
      says: /host office\.example\.com belongs to another name.*`blindgate release ROUTE`.*\(route_taken\)$/,
    })
    expect(await targetOf('office.example.com')).toBe('whose')
    // While it is served, a typing error takes it from nobody.
    expectFailure(await world.run(gateway.state, ['release', 'office.example.com']), {
      says: /office\.example\.com\/ is being served by 1 client/,
    })
    const since = gateway.program.err.length
    await killed(owner)
    await logged(gateway.program, /route has no client/, since)
    expect(await gateway.command(['release', 'office.example.com'])).toMatch(
      /^released office\.example\.com.*"office"$/,
    )
    const { program: heir } = await world.offer('second', args)
    expectFailure(await world.run('office', args), { says: /\(route_taken\)$/ })
    heir.signal('SIGTERM')
    await heir.ended
  })

  it.each([
    [['--host', 'not a host'], 2, /--host: /],
    [['--host', 'a.*.example.com'], 2, /--host: /],
    [['--host', 'ex_ample..com'], 2, /--host: /],
    [['--path', 'api'], 2, /--path: /],
    [['--path', '/../x'], 2, /--path: /],
    [['--host', '*.elsewhere.test'], 1, /outside the grant of "home".*\(not_granted\)$/],
  ] as const)('with %j says what is wrong with it', async (args, code, says) => {
    expectFailure(await world.run('second', ['http', '80', ...args]), { code, says })
  })
})

describe('SIGHUP', () => {
  it('puts limits in force for who is connected, and takes them back', async () => {
    const path = toml('limited.toml', GRANTS)
    const limited = await world.gateway(['-c', path], { state: 'limited' })
    await world.join('bounded', limited, ['--name', 'home'])
    const services = await file('bounded.toml', [
      { name: 'one', host: '["one.example.com"]' },
      { name: 'two', host: '["two.example.com"]' },
    ])
    const client = world.start('bounded', ['up', '-c', services])
    await heard(client, 'out', /^(?:http:\S+ → \S+\n){2}/m)
    const talk = await Talk.to(limited.visitors)
    for (let round = 0; round < 10; round++) expect((await talk.ask('one.example.com')).status).toBe(200)

    const reload = async (text: string): Promise<void> => {
      writeFileSync(path, text)
      const since = limited.program.err.length
      limited.program.signal('SIGHUP')
      await logged(limited.program, /limited\.toml is in force/, since)
    }
    await reload(`[limits]\nbody = "1KiB"\n${GRANTS}\n[route."one.example.com/"]\nrequests = 1\nburst = 3\n`)
    const statuses: number[] = []
    for (let round = 0; round < 5; round++) {
      const { status, headers } = await talk.ask('one.example.com')
      statuses.push(status)
      if (status === 429) expect(Number(headers.get('retry-after'))).toBeGreaterThan(0)
    }
    expect(statuses.slice(0, 3)).toEqual([200, 200, 200])
    expect(statuses).toContain(429)
    // Another route, the same connection.
    for (let round = 0; round < 5; round++) expect((await talk.ask('two.example.com')).status).toBe(200)
    const large = await Talk.to(limited.visitors)
    large.say(`POST / HTTP/1.1\r\nHost: two.example.com\r\nContent-Length: 2000\r\n\r\n${'x'.repeat(2_000)}`)
    expect((await large.answer()).status).toBe(413)
    large.close()

    const told = limited.program.err.length
    writeFileSync(path, '[limits]\nbodi = "1MiB"\n')
    limited.program.signal('SIGHUP')
    await logged(
      limited.program,
      /limited\.toml:2: unknown key .*did you mean.*body.*stay as they were/,
      told,
    )
    expect((await talk.ask('two.example.com')).status).toBe(200)

    await reload(GRANTS)
    const again = await Talk.to(limited.visitors)
    for (let round = 0; round < 10; round++) expect((await again.ask('one.example.com')).status).toBe(200)
    again.close()
    talk.close()
    const errors = await limited.gauge('blindgate_errors_total\\{code="too_many_requests"\\}')
    expect(errors).toBeGreaterThan(0)
  })
})

describe('the access log', () => {
  /** A gateway that logs so, and what it wrote for one request. */
  async function lineOf(
    args: readonly string[],
    state: string,
    lines: readonly string[] = [],
  ): Promise<string> {
    const writing = await world.gateway(args, { state })
    await world.join(`${state}-home`, writing)
    const target = world.with(await mirror('logged'))
    await world.offer(`${state}-home`, ['http', String(target.port), '--host', 'log.example.com'])
    const before = writing.program.err.length
    const talk = await Talk.to(writing.visitors)
    expect((await talk.ask('log.example.com', '/x?secret=1', lines)).status).toBe(200)
    talk.close()
    const gone = await Talk.to(writing.visitors)
    expect((await gone.ask('nobody.example.com', '/y')).status).toBe(404)
    gone.close()
    // It writes what is left when it ends.
    writing.program.signal('SIGTERM')
    await writing.program.ended
    return writing.program.err.slice(before)
  }

  it('is off by default', async () => {
    expect(await targetOf('example.com', '/nowhere-in-the-log')).toBe('site')
    expect(await targetOf('changed.example.com', '/nowhere-in-the-log')).toBe(404)
    // A line of it would leave with what is written at the end of this command.
    expect(await gateway.command(['status'])).toContain('example.com/')
    expect(gateway.program.err).not.toMatch(/nowhere-in-the-log|"status":/)
  })

  it('is an object for each request, whatever the visitor writes', async () => {
    const evil = [
      'User-Agent: "}\u001b'.replace('\u001b', '\\n{"level":"warn"'),
      'Referer: http://a.test/?secret=2',
    ]
    const said = await lineOf(['--access-log', 'json', '--log-level', 'error'], 'json', evil)
    const [first, second, ...none] = said
      .split('\n')
      .filter((line) => line.includes('"status"'))
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    expect(none).toEqual([])
    expect(first).toMatchObject({
      address: '127.0.0.1',
      route: 'log.example.com/',
      replica: expect.stringMatching(/^sha256:/) as string,
      method: 'GET',
      host: 'log.example.com',
      target: '/x',
      status: 200,
      requestId: expect.stringMatching(/^[\w.-]+$/) as string,
      referer: 'http://a.test/',
      totalMs: expect.any(Number) as number,
      firstByteMs: expect.any(Number) as number,
    })
    expect(second).toMatchObject({ host: 'nobody.example.com', status: 404, error: 'no_route' })
    expect(said).not.toContain('secret')
  })

  it('is a line as Apache and nginx write it', async () => {
    const said = await lineOf(['--access-log', 'combined'], 'combined', ['User-Agent: a "b" \\'])
    expect(said).toMatch(
      /^127\.0\.0\.1 - - \[\d\d\/\w{3}\/\d{4}:\d\d:\d\d:\d\d \+0000\] "GET \/x HTTP\/1\.1" 200 \d+ "-" "a \\"b\\" \\\\" "log\.example\.com\/" "sha256:\S+" [\d.]+ [\d.]+ [\w.-]+$/m,
    )
    expect(said).toMatch(/ "GET \/y HTTP\/1\.1" 404 \d+ "-" "-" /)
    expect(said).not.toContain('secret')
  })

  it('in another form is wrong usage', async () => {
    expectFailure(await world.run('wrong', ['gateway', '--access-log', 'xml']), {
      code: 2,
      says: /--access-log: /,
    })
  })
})

describe('a page in place of an answer', () => {
  it.each([
    ['text/html,application/xhtml+xml,*/*;q=0.8', 'text/html; charset=utf-8', /<h1>404 Not Found<\/h1>/],
    ['application/json', 'application/json', /^\{"error":\{"status":404,"code":"no_route"/],
    ['*/*', 'text/html; charset=utf-8', /<h1>404/],
  ])('for Accept: %s is %s', async (accept, type, body) => {
    const talk = await Talk.to(gateway.visitors)
    const id = randomBytes(8).toString('hex')
    const lines = [`Accept: ${accept}`, `X-Request-Id: ${id}`]
    const answer = await talk.ask('exact.wild.example.com', '/', lines)
    expect(answer.status).toBe(404)
    expect(answer.headers.get('content-type')).toBe(type)
    expect(answer.headers.get('x-request-id')).toBe(id)
    expect(answer.body).toMatch(body)
    expect(answer.body).toContain(id)
    expect((await talk.ask('example.com')).status).toBe(200)
    talk.close()
  })
})

describe.skipIf(CURL_MISSING)('curl', () => {
  const at = (host: string): string => `http://${host}:${gateway.visitors}`
  async function curl(...args: string[]): Promise<string> {
    const resolve = ['example.com', 'changed.example.com', 'a.wild.example.com'].flatMap((host) => [
      '--resolve',
      `${host}:${gateway.visitors}:127.0.0.1`,
    ])
    const { stdout } = await run('curl', [
      '--silent',
      '--show-error',
      '--max-time',
      '20',
      ...resolve,
      ...args,
    ])
    return stdout
  }

  it('gets several hosts over one connection', async () => {
    const write = ['--write-out', ' %{http_code} %{num_connects}\n']
    const said = await curl(...write, `${at('example.com')}/`, `${at('example.com')}/api`)
    expect(said).toMatch(/"target":"site".* 200 1\n.*"target":"api".* 200 0\n$/)
    expect(await curl(`${at('a.wild.example.com')}/`)).toContain('"target":"wild"')
  })

  it('sends a form, a file in chunks, one that waits for 100 Continue, HEAD, OPTIONS, and HTTP/1.0', async () => {
    const big = toml('big', 'x'.repeat(3_000_000))
    const url = `${at('example.com')}/up`
    const read = async (...args: string[]): Promise<Mirrored> =>
      JSON.parse(await curl(...args, url)) as Mirrored
    expect(await read('--form', `file=@${big}`)).toMatchObject({ method: 'POST', target: 'site' })
    expect(await read('--upload-file', big, '-H', 'Transfer-Encoding: chunked')).toMatchObject({
      method: 'PUT',
      body: 3_000_000,
    })
    expect(await read('--data-binary', `@${big}`, '-H', 'Expect: 100-continue')).toMatchObject({
      body: 3_000_000,
      headers: { expect: '100-continue' },
    })
    expect(await read('--http1.0')).toMatchObject({ method: 'GET' })
    expect(await read('--request', 'OPTIONS')).toMatchObject({ method: 'OPTIONS' })
    const head = await curl('--head', url)
    expect(head).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
    expect(head).toMatch(/^content-length: [1-9]/im)
  })

  it('asks for h2c and gets HTTP/1.1', async () => {
    expect(await curl('--http2', `${at('example.com')}/`)).toContain('"target":"site"')
  })
})

// Last, for it takes a target three probes to be called down.
describe('status', () => {
  it('shows routes, replicas, health and who is held, on the gateway', async () => {
    const { program: gone } = await world.offer('second', ['http', '1', '--host', 'gone.example.com'])
    const since = gateway.program.err.length
    await killed(gone)
    await logged(gateway.program, /route has no client/, since)
    const held = await Talk.to(gateway.visitors, get('gone.example.com'))
    await gateway.reaches('blindgate_held_visitors', 1)
    // Three times without an answer, five seconds apart.
    await logged(program, /service \\"sick\\": its target does not answer GET \/sick/)
    await until('the gateway knows it', async () => {
      const table = await gateway.command(['status'])
      return /^ +sick\.example\.com\/ +home +sick +0 +1 +0 +0$/m.test(table) ? true : table
    })
    const table = await gateway.command(['status'])
    expect(table).toMatch(/^ +ROUTE +OWNER +SERVICE +REPLICAS +DOWN +STREAMS +HELD$/m)
    expect(table).toMatch(/^ +example\.com\/api\/admin +home +admin +1 +0 +0 +0$/m)
    expect(table).toMatch(/^ +\*\.wild\.example\.com\/ +home +wild +1 +0 +0 +0$/m)
    expect(table).toMatch(/^ +gone\.example\.com\/ +home +- +0 +0 +0 +1$/m)
    expect(table).toMatch(/^ +default +home +rest +1 +0 +0 +0$/m)
    expect(table).toMatch(/^ +default\/api +home +rest-api +1 +0 +0 +0$/m)
    held.close()

    const here = await world.done('home', ['status'])
    expect(here).toMatch(/^ +http:\/\/sick\.example\.com:\d+ → 127\.0\.0\.1:\d+ \(down\)$/m)
    expect(here).toMatch(/^ +http:\/\/example\.com:\d+ http:\/\/www\.example\.com:\d+ → 127\.0\.0\.1:\d+$/m)
    expect(here).toMatch(/^ +http:\/\/named\.example\.org:\d+ → /m)
  })

  it('and a replica whose target is well gets the visitors of one whose target is not', async () => {
    const well = await file('well.toml', [{ name: 'sick', host: '["sick.example.com"]' }])
    const { program: second } = await world.offer('second', ['up', '-c', well])
    const answers = await Promise.all(Array.from({ length: 20 }, () => asked('sick.example.com')))
    expect(answers).toEqual(answers.map(() => expect.objectContaining({ target: 'sick', method: 'GET' })))
    const { routes } = JSON.parse(await gateway.command(['status', '--json'])) as { routes: object[] }
    expect(routes).toContainEqual(
      expect.objectContaining({ route: 'sick.example.com/', replicas: 1, down: 1 }),
    )
    second.signal('SIGTERM')
    expect((await second.ended).code).toBe(0)
  })
})
