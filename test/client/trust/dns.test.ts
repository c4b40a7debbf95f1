import { encode } from 'dns-packet'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Dns, type Zone } from '../../../src/client/trust/dns.ts'
import { ask } from '../../../src/client/trust/dns-ask.ts'
import { answerIn, questionMessage } from '../../../src/client/trust/dns-message.ts'
import { TunnelError } from '../../../src/errors.ts'
import { a, caa, cname, NameServer } from './name-server.ts'

let server: NameServer
beforeEach(async () => {
  server = await NameServer.start()
})
afterEach(() => server.close())

function dns(): Dns {
  return new Dns({ nameservers: [server.at] })
}

function addresses(count: number): string[] {
  return Array.from({ length: count }, (_, n) => `203.0.113.${n}`)
}

describe('a question to a name server', () => {
  it('is answered over UDP, and over TCP where the answer does not fit', async () => {
    server.zone('example.com', { 'app.example.com': a('app.example.com', '203.0.113.7') })
    expect(await dns().addressesOf('App.Example.com.')).toEqual(['203.0.113.7'])
    expect(server.asked.every((each) => each.startsWith('udp'))).toBe(true)
    server.truncates = true
    server.asked.length = 0
    expect(await dns().addressesOf('app.example.com')).toEqual(['203.0.113.7'])
    expect(server.asked).toContain('tcp app.example.com A')
  })

  it('comes with an id that nobody can know', async () => {
    server.zone('example.com')
    const ids = new Set<number>()
    server.instead = (query, usual) => {
      ids.add(query.id ?? 0)
      return encode(usual)
    }
    for (let asked = 0; asked < 16; asked++) {
      await ask(server.at, { name: 'example.com', type: 'NS' }, { recursive: false })
    }
    expect(ids.size).toBeGreaterThan(12)
  })

  it('takes nothing over UDP that is longer than it says it takes', async () => {
    server.zone('example.com', { 'example.com': a('example.com', ...addresses(100)) })
    const asked = { name: 'example.com', type: 'A' as const }
    await expect(ask(server.at, asked, { recursive: false })).rejects.toMatchObject({ code: 'timeout' })
    server.truncates = true
    expect((await ask(server.at, asked, { recursive: false })).records).toHaveLength(100)
  })

  it('takes no answer for one that is to another question, has another id, or cannot be read', () => {
    const asked = { name: 'example.com', type: 'CAA' as const }
    const answer = (change: object): Buffer =>
      encode({
        type: 'response',
        id: 7,
        flags: 0x400,
        questions: [asked],
        answers: caa('example.com', ['issue', ';']),
        ...change,
      })
    expect(answerIn(answer({}), 7, asked)?.records).toEqual([
      { name: 'example.com', type: 'CAA', data: { critical: false, tag: 'issue', value: ';' } },
    ])
    const wrong = [
      answer({ id: 8 }),
      answer({ type: 'query' }),
      answer({ questions: [] }),
      answer({ questions: [asked, asked] }),
      answer({ questions: [{ name: 'example.org', type: 'CAA' }] }),
      answer({ questions: [{ name: 'example.com', type: 'A' }] }),
      answer({ questions: [{ name: 'example.com', type: 'CAA', class: 'CH' }] }),
    ]
    expect(wrong.map((each) => answerIn(each, 7, asked))).toEqual(wrong.map(() => undefined))
    const whole = answer({})
    for (let length = 0; length < whole.length; length++) {
      expect(answerIn(whole.subarray(0, length), 7, asked)?.records ?? []).toEqual([])
    }
    // Counts that would make a list of 65535 entries.
    const many = Buffer.from(whole)
    many.writeUInt16BE(0xffff, 6)
    expect(answerIn(many, 7, asked)).toBeUndefined()
  })

  it('is answered by no bytes that were made up: nothing throws, nothing is taken for records', () => {
    const asked = { name: 'example.com', type: 'CAA' as const }
    const whole = encode({
      type: 'response',
      id: 7,
      flags: 0x400,
      questions: [asked],
      answers: caa('example.com', ['issue', ';']),
    })
    const mutated = fc.tuple(fc.nat(whole.length - 1), fc.nat(255)).map(([at, byte]) => {
      const copy = Buffer.from(whole)
      copy[at] = byte
      return copy
    })
    const bytes = fc.uint8Array({ maxLength: 600 }).map((each) => Buffer.from(each))
    fc.assert(
      fc.property(fc.oneof(mutated, bytes), (message) => {
        for (const { name, type } of answerIn(message, 7, asked)?.records ?? []) {
          expect([typeof name, typeof type]).toEqual(['string', 'string'])
        }
      }),
      { numRuns: 3_000 },
    )
  })

  it('goes to the next server when one refuses, and tells when none answers', async () => {
    const other = await NameServer.start()
    try {
      other.zone('example.com', { 'example.com': a('example.com', '203.0.113.9') })
      const both = new Dns({ nameservers: [server.at, other.at] })
      expect(await both.addressesOf('example.com')).toEqual(['203.0.113.9'])
    } finally {
      await other.close()
    }
    await expect(dns().addressesOf('example.com')).rejects.toMatchObject({
      code: 'unreachable',
      message: expect.stringContaining('does not answer for example.com (REFUSED)'),
    })
  })

  it('waits for a silent server twice, and not at every question', async () => {
    const dead = { host: '127.0.0.1', port: 9 }
    const asked: number[] = []
    server.zone('example.com', { 'example.com': a('example.com', '203.0.113.9') })
    const both = new Dns({
      nameservers: [dead, server.at],
      async ask(to, question, how) {
        asked.push(to.port)
        if (to.port === 9) throw new TunnelError('timeout', { scope: 'process', detail: 'silent' })
        return ask(to, question, how)
      },
    })
    for (let times = 0; times < 3; times++)
      expect(await both.addressesOf('example.com')).toEqual(['203.0.113.9'])
    expect(asked.filter((port) => port === 9)).toHaveLength(2)
    const alone = new Dns({
      nameservers: [dead],
      ask: () => Promise.reject(new TunnelError('timeout', { scope: 'process', detail: 'silent' })),
    })
    await expect(alone.addressesOf('example.com')).rejects.toMatchObject({ code: 'timeout' })
    await expect(alone.addressesOf('example.org')).rejects.toMatchObject({
      code: 'timeout',
      message: 'silent',
    })
  })

  it('takes no answer without authority from a server of the zone', async () => {
    server.zone('example.com', { 'example.com': a('example.com', '203.0.113.9') })
    server.instead = (_query, usual) => encode({ ...usual, flags: 0 })
    const resolving = new Dns({
      resolvers: [server.at],
      ask: (to, question, how) => ask(to.port === 53 ? server.at : to, question, how),
    })
    await expect(resolving.addressesOf('example.com')).rejects.toMatchObject({ code: 'unreachable' })
    // Whoever is named in the configuration is believed as it is.
    expect(await dns().addressesOf('example.com')).toEqual(['203.0.113.9'])
  })

  it('ends with its signal', async () => {
    server.instead = () => undefined
    const abort = new AbortController()
    const asked = ask(
      server.at,
      { name: 'example.com', type: 'A' },
      { recursive: false, signal: abort.signal },
    )
    abort.abort()
    await expect(asked).rejects.toMatchObject({ code: 'timeout' })
  })
})

describe('zones', () => {
  it('are found upwards from a name, with the addresses of their servers', async () => {
    server.zone('example.com', {}, '192.0.2.53')
    const zone = await dns().zoneOf('a.b.example.com')
    expect(zone).toMatchObject({ apex: 'example.com', names: ['ns.example.com'], addresses: ['192.0.2.53'] })
  })

  it('are asked for at the resolver, and then themselves', async () => {
    const own = await NameServer.start()
    try {
      // What resolvers say is not believed beyond who is asked.
      server.zone('example.com', { 'example.com': a('example.com', '198.51.100.1') })
      own.zone('example.com', { 'example.com': a('example.com', '203.0.113.9') })
      const asked: string[] = []
      const resolving = new Dns({
        resolvers: [server.at],
        ask: async (to, question, how) => {
          asked.push(
            `${to.host}:${to.port === 53 ? 53 : 'resolver'} ${question.name} ${question.type} ${how.recursive}`,
          )
          return ask(to.port === 53 ? own.at : to, question, how)
        },
      })
      expect(await resolving.addressesOf('example.com')).toEqual(['203.0.113.9'])
      expect(asked).toEqual([
        '127.0.0.1:resolver example.com NS true',
        '127.0.0.1:resolver ns.example.com A true',
        '127.0.0.1:resolver ns.example.com AAAA true',
        '127.0.0.53:53 example.com A false',
        '127.0.0.53:53 example.com AAAA false',
      ])
    } finally {
      await own.close()
    }
  })

  it('do not become those of an alias', async () => {
    server.zone('example.com', { 'app.example.com': cname('app.example.com', 'example.net') })
    server.zone('example.net')
    expect((await dns().zoneOf('app.example.com')).apex).toBe('example.com')
  })

  it('that nobody has are told', async () => {
    server.zone('com')
    await expect(dns().zoneOf('example.org')).rejects.toMatchObject({ code: 'unreachable' })
    server.instead = (_query, usual) => encode({ ...usual, flags: 3 })
    await expect(dns().zoneOf('example.org')).rejects.toMatchObject({ code: 'not_found' })
  })

  it('are told from a resolver that knows no name at all', async () => {
    const through = (): Promise<Zone> => new Dns({ resolvers: [server.at] }).zoneOf('example.org')
    server.instead = (_query, usual) => encode({ ...usual, flags: 3 })
    await expect(through()).rejects.toMatchObject({
      code: 'unreachable',
      message: 'the resolver of this machine, 127.0.0.1, does not answer for the internet',
    })
    const root = [{ type: 'NS' as const, name: '.', data: 'a.root.example' }]
    server.instead = ({ questions = [] }, usual) =>
      encode(questions[0]?.name === '.' ? { ...usual, flags: 0, answers: root } : { ...usual, flags: 3 })
    await expect(through()).rejects.toMatchObject({
      code: 'not_found',
      message: 'no zone is found for example.org (is it registered?)',
    })
  })
})

describe('aliases', () => {
  it('lead through CNAME and DNAME from zone to zone', async () => {
    server.zone('example.com', {
      'app.example.com': cname('app.example.com', 'x.old.example.net'),
    })
    server.zone('example.net', {
      'old.example.net': [{ type: 'DNAME', name: 'old.example.net', data: 'new.example.org' }],
    })
    server.zone('example.org', { 'x.new.example.org': a('x.new.example.org', '203.0.113.9') })
    const { owner, zones, records } = await dns().resolve('app.example.com', 'A')
    expect(owner).toBe('x.new.example.org')
    expect(zones.map(({ apex }) => apex)).toEqual(['example.com', 'example.net', 'example.org'])
    expect(records).toEqual([{ name: 'x.new.example.org', type: 'A', data: '203.0.113.9' }])
  })

  it('that go in circles end', async () => {
    server.zone('example.com', {
      'a.example.com': cname('a.example.com', 'b.example.com'),
      'b.example.com': cname('b.example.com', 'a.example.com'),
    })
    await expect(dns().resolve('a.example.com', 'A')).rejects.toMatchObject({ code: 'not_found' })
  })

  it('that grow take a bounded number of questions', async () => {
    server.zone('example.com', {
      'example.com': [{ type: 'DNAME', name: 'example.com', data: 'a.example.com' }],
    })
    await expect(dns().resolve('x.example.com', 'A')).rejects.toMatchObject({ code: 'not_found' })
    expect(server.asked.length).toBeLessThan(300)
  })
})

it('a question carries its name, type and EDNS', () => {
  const message = questionMessage(1, { name: 'example.com', type: 'CAA' }, false)
  expect(message.subarray(0, 12).toString('hex')).toBe('000100000001000000000001')
  expect(message.readUInt16BE(12 + 13)).toBe(257)
})
