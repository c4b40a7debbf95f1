import { afterEach, describe, expect, test } from 'vitest'
import { until } from '../net/joined.ts'
import { block, END_HEADERS, END_STREAM, fields, frame, RawVisitor, Type, uint32 } from './frames.ts'
import { ask, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

type Case = [
  what: string,
  changed: Record<string, string | undefined>,
  more: [string, string][],
  fate: string | RegExp,
]

/** Node's parser refuses most of them with a reset; what it lets through is refused by ours, with a page. */
const CASES: Case[] = [
  ['a path with a space', { ':path': '/a b' }, [], /^(400|reset 1)$/],
  ['a path with a second line', { ':path': '/ HTTP/1.1\r\nX: y\r\n\r\n' }, [], 'reset 1'],
  ['a path with a tab', { ':path': '/a\tb' }, [], /^(400|reset 1)$/],
  ['a path with a fragment', { ':path': '/a#b' }, [], '400'],
  ['a path with a NUL', { ':path': '/a\0' }, [], 'reset 1'],
  ['a path with a byte over 0x7f', { ':path': '/\xe9' }, [], /^(400|reset 1)$/],
  ['an empty path', { ':path': '' }, [], /^(400|reset 1)$/],
  ['no path', { ':path': undefined }, [], 'reset 1'],
  ['* without OPTIONS', { ':path': '*' }, [], /^(400|reset 1)$/],
  ['a URL for a path', { ':path': 'http://x/' }, [], /^(400|reset 1)$/],
  ['a path with a version behind it', { ':path': '/ HTTP/1.1' }, [], /^(400|reset 1)$/],
  ['no method', { ':method': undefined }, [], 'reset 1'],
  ['a method with a space', { ':method': 'GET /' }, [], /^(400|reset 1)$/],
  ['a method with a line break', { ':method': 'GET / HTTP/1.1\r\nHost: y\r\n\r\nGET' }, [], 'reset 1'],
  ['TRACE', { ':method': 'TRACE' }, [], '501'],
  ['CONNECT', { ':method': 'CONNECT', ':path': undefined, ':scheme': undefined }, [], '501'],
  ['CONNECT with a path', { ':method': 'CONNECT' }, [], /^(501|reset 1)$/],
  ['CONNECT to a protocol', { ':method': 'CONNECT' }, [[':protocol', 'websocket']], 'reset 1'],
  ['no scheme', { ':scheme': undefined }, [], 'reset 1'],
  ['the scheme http', { ':scheme': 'http' }, [], '421'],
  ['a scheme that is none', { ':scheme': 'ht tp' }, [], /^(421|reset 1)$/],
  ['another host', { ':authority': 'y' }, [], '421'],
  ['no authority and no host', { ':authority': undefined }, [], /^(400|reset 1)$/],
  ['an empty authority', { ':authority': '' }, [], /^(400|reset 1)$/],
  ['an authority with a user', { ':authority': 'u@x' }, [], /^(400|reset 1)$/],
  ['an authority with a path', { ':authority': 'x/y' }, [], /^(400|reset 1)$/],
  ['an authority with a line break', { ':authority': 'x\r\nX-Real-IP: 1.1.1.1' }, [], 'reset 1'],
  ['a Host that differs', {}, [['host', 'y']], '400'],
  [
    'two Hosts',
    {},
    [
      ['host', 'x'],
      ['host', 'x'],
    ],
    /^(400|reset 1)$/,
  ],
  ['two authorities', {}, [[':authority', 'x']], 'reset 1'],
  ['a pseudo field that is none', {}, [[':x', 'y']], 'reset 1'],
  [
    'a pseudo field behind others',
    { ':path': undefined },
    [
      ['a', 'b'],
      [':path', '/'],
    ],
    'reset 1',
  ],
  ['a status', {}, [[':status', '200']], 'reset 1'],
  ['an upper-case name', {}, [['X-One', '1']], 'reset 1'],
  ['connection', {}, [['connection', 'close']], 'reset 1'],
  ['connection that names a field', {}, [['connection', 'authorization']], 'reset 1'],
  ['keep-alive', {}, [['keep-alive', '1']], 'reset 1'],
  ['proxy-connection', {}, [['proxy-connection', 'close']], 'reset 1'],
  ['transfer-encoding', {}, [['transfer-encoding', 'chunked']], 'reset 1'],
  ['transfer_encoding', {}, [['transfer_encoding', 'chunked']], '400'],
  ['content_length', {}, [['content_length', '5']], '400'],
  ['upgrade', {}, [['upgrade', 'websocket']], 'reset 1'],
  ['te: gzip', {}, [['te', 'gzip']], 'reset 1'],
  ['a length without a body', {}, [['content-length', '5']], 'reset 1'],
  [
    'two lengths',
    {},
    [
      ['content-length', '0'],
      ['content-length', '0'],
    ],
    /^(400|reset 1)$/,
  ],
  ['a length that is none', {}, [['content-length', '+5']], 'reset 1'],
  ['an expectation that is none', {}, [['expect', 'wonders']], '417'],
]

/** Node's parser drops these. */
const DROPPED: [what: string, field: [string, string]][] = [
  ['an empty name', ['', '1']],
  ['a name with a colon', ['a:b', '1']],
  ['a name with a line break', ['a\r\nb', '1']],
  ['a name with a space', ['a b', '1']],
  ['a name with a NUL', ['a\0', '1']],
  ['a value with a line break', ['a', '1\r\nX-Real-IP: 1.1.1.1']],
  ['a value with a LF', ['a', '1\nb: 2']],
  ['a value with a NUL', ['a', '1\0']],
]

describe('a request with', () => {
  test.each(DROPPED)('%s reaches its target without that', async (_what, field) => {
    const visitor = new RawVisitor(await world.socket())
    visitor.ask(1, fields({}, [field, ['after', 'it']]))
    const far = await world.site.fars.at(0)
    await far.received('\r\n\r\n')
    const lines = far.text.split('\r\n').map((line) => line.replace(/^(X-Request-Id: ).*/, '$1'))
    expect(lines).toEqual([
      'GET / HTTP/1.1',
      'host: x',
      'after: it',
      'X-Forwarded-For: 192.0.2.7',
      'X-Real-IP: 192.0.2.7',
      'X-Forwarded-Proto: https',
      'X-Forwarded-Host: x',
      'X-Request-Id: ',
      '',
      '',
    ])
  })

  test.each(CASES)('%s reaches no target', async (_what, changed, more, fate) => {
    const visitor = new RawVisitor(await world.socket())
    visitor.ask(1, fields(changed, more))
    expect(await visitor.fate(1)).toMatch(fate)
    // The connection goes on.
    visitor.ask(3)
    const far = await world.site.fars.at(0)
    await far.received('\r\n\r\n')
    expect(far.text.split('\r\n')[0]).toBe('GET / HTTP/1.1')
    expect(far.text).not.toContain('1.1.1.1')
    far.write('HTTP/1.1 204 No Content\r\n\r\n')
    expect(await visitor.fate(3)).toBe('204')
    expect(world.site.fars.all).toHaveLength(1)
  })
})

describe('a body', () => {
  const POST = fields({ ':method': 'POST' }, [['content-length', '5']])

  test.each<[string, Buffer[]]>([
    ['longer than it said', [frame(Type.data, 0, 1, Buffer.from('hello you'))]],
    [
      'longer than it said, at its end',
      [frame(Type.data, 0, 1, Buffer.from('hello')), frame(Type.data, END_STREAM, 1, Buffer.from('!'))],
    ],
    ['shorter than it said', [frame(Type.data, END_STREAM, 1, Buffer.from('hell'))]],
  ])('that is %s resets its stream and its target', async (_what, frames) => {
    const visitor = new RawVisitor(await world.socket())
    visitor.ask(1, POST, 0)
    const far = await world.site.fars.at(0)
    await far.received('\r\n\r\n')
    visitor.write(...frames)
    // Newer versions of Node end the whole connection.
    expect(await visitor.fate(1)).toMatch(/^(reset 1|goaway 2)$/)
    expect(await far.over).toMatchObject({ code: 'reset' })
    expect(far.text).not.toMatch(/hello.*[ !]/)
  })

  test.each([0, 8])('that is taken back in its midst by code %i has no end at its target', async (code) => {
    const visitor = new RawVisitor(await world.socket())
    visitor.ask(1, fields({ ':method': 'POST' }), 0)
    visitor.write(frame(Type.data, 0, 1, Buffer.from('half')))
    const far = await world.site.fars.at(0)
    await far.received('half')
    visitor.write(frame(Type.rst, 0, 1, Buffer.from([0, 0, 0, code])))
    expect(await far.over).toMatchObject({ code: 'reset' })
    expect(far.text).not.toContain('0\r\n\r\n')
    expect(world.site.upstreams[0]?.usable).toBe(false)
    expect(await world.site.ended.at(0)).toMatchObject({ requestDone: false, cut: 'reset' })
  })

  test('that nobody takes, and that is taken back by code 0, is over at once', async () => {
    world.site.farsRead = false
    const visitor = new RawVisitor(await world.socket())
    await visitor.frames.find(({ type, flags }) => type === Type.settings && flags === 0)
    visitor.ask(1, fields({ ':method': 'POST' }), 0)
    const exchange = await world.site.begun.at(0)
    for (let at = 0; at < 16; at++) visitor.write(frame(Type.data, 0, 1, Buffer.alloc(16_000)))
    await until(() => exchange.held > 0)
    visitor.write(frame(Type.rst, 0, 1, uint32(0)))
    expect(await world.site.ended.at(0)).toMatchObject({ requestDone: false, cut: 'reset' })
  })

  test('that looks like a request is a body', async () => {
    world.http((request, response) => {
      request.resume().on('end', () => response.end(`${request.method} ${request.url}`))
    })
    const visitor = await world.visitor()
    const smuggled = '0\r\n\r\nGET /admin HTTP/1.1\r\nHost: x\r\n\r\n'
    expect(String((await ask(visitor, { ':method': 'POST', ':path': '/a' }, smuggled)).body)).toBe('POST /a')
  })

  test('with trailers has none of them at its target, and one with a pseudo field is no request', async () => {
    const visitor = new RawVisitor(await world.socket())
    visitor.ask(1, fields({ ':method': 'POST' }), 0)
    visitor.write(
      frame(Type.data, 0, 1, Buffer.from('all')),
      frame(
        Type.headers,
        END_STREAM | END_HEADERS,
        1,
        block([
          ['x-real-ip', '1.1.1.1'],
          ['a', 'b'],
        ]),
      ),
    )
    const far = await world.site.fars.at(0)
    await far.received('0\r\n\r\n')
    expect(far.text).toMatch(/\r\n\r\n3\r\nall\r\n0\r\n\r\n$/)
    visitor.ask(3, fields({ ':method': 'POST' }), 0)
    visitor.write(
      frame(Type.data, 0, 3, Buffer.from('all')),
      frame(Type.headers, END_STREAM | END_HEADERS, 3, block([[':path', '/b']])),
    )
    expect(await visitor.fate(3)).toBe('reset 1')
    expect(await (await world.site.fars.at(1)).over).toMatchObject({ code: 'reset' })
  })
})
