import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { clientJson, clientTable } from '../../src/cli/clients.ts'
import { findingLines, remarkLines, unwell, withoutFile } from '../../src/cli/doctor.ts'
import { exitCodeOf, failureLine } from '../../src/cli/failure.ts'
import { firstInvite, startLines } from '../../src/cli/gateway.ts'
import { createLog, prettyLine } from '../../src/cli/log.ts'
import { outOfSupport } from '../../src/cli/node-lines.ts'
import { outcomeLines } from '../../src/cli/offer.ts'
import { askHidden, type HiddenInput, readAll } from '../../src/cli/prompt.ts'
import { revokedLines } from '../../src/cli/revoke.ts'
import { bySide, statusJson, statusLines } from '../../src/cli/status.ts'
import type { ClientStatus, Finding } from '../../src/client/index.ts'
import { TunnelError, userError } from '../../src/errors.ts'
import type { ClientRow, GatewayStatus } from '../../src/gateway/index.ts'

const pipe = { terminal: false, json: false }
const terminal = { terminal: true, json: false }
const json = { terminal: false, json: true }

describe('gateway', () => {
  const at = {
    visitors: { host: '0.0.0.0', port: 9000 },
    tls: undefined,
    clients: { host: '2001:db8::1', port: 9001 },
    admin: undefined,
    key: 'sha256:abc',
  }
  const withAdmin = { ...at, admin: { host: '127.0.0.1', port: 9002 } }

  it('prints one line per listener for programs', () => {
    expect(startLines(at, pipe)).toEqual(['visitors http://0.0.0.0:9000', 'clients [2001:db8::1]:9001'])
    expect(startLines(withAdmin, pipe).at(-1)).toBe('admin http://127.0.0.1:9002')
  })

  it('prints one object per listener as JSON', () => {
    expect(startLines(withAdmin, json).map((line) => JSON.parse(line) as unknown)).toEqual([
      { listener: 'visitors', url: 'http://0.0.0.0:9000' },
      { listener: 'clients', address: '[2001:db8::1]:9001', key: 'sha256:abc' },
      { listener: 'admin', url: 'http://127.0.0.1:9002' },
    ])
  })

  it('shows a person the key that clients pin', () => {
    expect(startLines({ ...at, clients: { host: '0.0.0.0', port: 9001 } }, terminal)).toEqual([
      expect.stringMatching(/^blindgate gateway \d/),
      '  visitors   http://0.0.0.0:9000',
      '  clients    0.0.0.0:9001      key sha256:abc',
    ])
  })

  it('has a line more where visitors connect by TLS', () => {
    const tls = { ...at, tls: { host: '::1', port: 443 }, clients: { host: '::1', port: 443 } }
    expect(startLines(tls, pipe)).toEqual([
      'visitors http://0.0.0.0:9000',
      'visitors https://[::1]:443',
      'clients [::1]:443',
    ])
    expect(startLines(tls, json).map((line) => JSON.parse(line) as unknown)).toEqual([
      { listener: 'visitors', url: 'http://0.0.0.0:9000' },
      { listener: 'visitors', url: 'https://[::1]:443' },
      { listener: 'clients', address: '[::1]:443', key: 'sha256:abc' },
    ])
    expect(startLines(tls, terminal).slice(1)).toEqual([
      '  visitors   http://0.0.0.0:9000',
      '  visitors   https://[::1]:443',
      '  clients    [::1]:443         key sha256:abc',
    ])
  })

  function output(isTerminal: boolean) {
    const lines: string[] = []
    return { terminal: isTerminal, lines, line: (text: string) => void lines.push(text) }
  }

  async function begun(
    outputs: ReturnType<typeof output>[],
    { nobodyEnrolled, invite }: { nobodyEnrolled: boolean; invite: string | undefined } = {
      nobodyEnrolled: true,
      invite: 'bg1_SECRET',
    },
  ) {
    const logged: string[] = []
    let made = 0
    await firstInvite(
      { nobodyEnrolled, firstInvite: async () => (made++, invite) },
      { info: (text: unknown) => void logged.push(String(text)) },
      outputs,
    )
    return { logged, made }
  }

  it('shows the first invite to a person, wherever that is', async () => {
    const [out, err] = [output(false), output(true)]
    const { logged } = await begun([out, err])
    expect(err.lines.join('\n')).toMatch(/npx blindgate join bg1_SECRET .*one use, 24 h/)
    expect([out.lines, logged]).toEqual([[], []])
  })

  it('makes no invite where only a journal would see it, and says how to get one', async () => {
    const [out, err] = [output(false), output(false)]
    const { logged, made } = await begun([out, err])
    expect([made, out.lines, err.lines]).toEqual([0, [], []])
    expect(logged).toEqual([expect.stringContaining('`blindgate invite`')])
  })

  it('asks a person for the address that it cannot know', async () => {
    const out = output(true)
    await begun([out], { nobodyEnrolled: true, invite: undefined })
    expect(out.lines.join('\n')).toContain('blindgate invite --address HOST:PORT')
  })

  it('says nothing of invites once somebody is enrolled', async () => {
    const out = output(true)
    const { logged, made } = await begun([out], { nobodyEnrolled: false, invite: 'bg1_SECRET' })
    expect([made, out.lines, logged]).toEqual([0, [], []])
  })
})

describe('an offered service', () => {
  const http = {
    gateway: 'g:9001',
    name: 'http-80',
    type: 'http' as const,
    target: '127.0.0.1:80',
    urls: ['http://g:9000'],
  }
  const refused = {
    gateway: 'g:9001',
    name: 'x',
    type: 'tcp' as const,
    target: 't',
    error: { code: 'c', message: 'm' },
  }

  it('is URL → TARGET for programs, and an object as JSON', () => {
    expect(outcomeLines(http, pipe)).toEqual(['http://g:9000 → 127.0.0.1:80'])
    expect(JSON.parse(outcomeLines(http, json)[0] ?? '')).toEqual({
      url: 'http://g:9000',
      target: '127.0.0.1:80',
      name: 'http-80',
      type: 'http',
      gateway: 'g:9001',
    })
  })

  it('tells a person that plain http can be read and https cannot, and says nothing of tcp', () => {
    expect(outcomeLines(http, terminal)[0]).toMatch(
      /^ {2}http:\/\/g:9000 {2}→ {2}127\.0\.0\.1:80 .*the gateway can read this/,
    )
    expect(outcomeLines({ ...http, type: 'https', urls: ['https://a.example'] }, terminal)).toEqual([
      '  https://a.example  →  127.0.0.1:80     (the gateway cannot read this)',
    ])
    expect(outcomeLines({ ...http, type: 'tcp', urls: ['tcp://g:22'] }, terminal)).toEqual([
      '  tcp://g:22  →  127.0.0.1:80',
    ])
  })

  it('that is refused is no answer', () => {
    expect(outcomeLines(refused, pipe)).toEqual([])
  })
})

const row: ClientRow = {
  name: 'home',
  key: 'sha256:k',
  instance: 'i',
  address: '203.0.113.7',
  enrolled: Date.UTC(2026, 0, 2, 3, 4, 5),
  connected: true,
}

describe('clients', () => {
  it('are rows with exactly the promised fields as JSON', () => {
    expect(clientJson(row)).toEqual({
      name: 'home',
      key: 'sha256:k',
      instance: 'i',
      address: '203.0.113.7',
      enrolled: '2026-01-02T03:04:05.000Z',
      connected: true,
    })
  })

  it('are a table for a person', () => {
    expect(clientTable([row, { ...row, name: 'o', connected: false, address: '' }])).toEqual([
      'NAME  KEY       CONNECTED  ADDRESS      ENROLLED',
      'home  sha256:k  yes        203.0.113.7  2026-01-02 03:04',
      'o     sha256:k  no         -            2026-01-02 03:04',
    ])
  })

  it('that are revoked are named with what became free', () => {
    const revoked = { keys: ['sha256:k'], names: ['home'], routes: ['tcp:2222'] }
    expect(revokedLines(revoked, false)).toEqual(['revoked "home"', 'revoked sha256:k', 'released tcp:2222'])
    expect(JSON.parse(revokedLines(revoked, true)[0] ?? '')).toEqual(revoked)
  })
})

describe('doctor', () => {
  it('says the level, what was looked at, what it came to and what to do', () => {
    expect(
      findingLines({ check: 'port', about: 'a.example:443', level: 'ok', text: 'takes connections' }),
    ).toEqual(['ok    port a.example:443: takes connections'])
    const details = ['a.example. IN CAA 0 issue ";"']
    expect(
      findingLines({
        check: 'ct',
        about: 'a.example',
        level: 'fail',
        alarm: true,
        text: 'foreign',
        advice: 'act',
        details,
      }),
    ).toEqual(['fail  ALARM ct a.example: foreign', '      → act', '        a.example. IN CAA 0 issue ";"'])
  })
})

describe('doctor', () => {
  const fine = { check: 'probe' as const, about: 'a.example', level: 'ok' as const, text: 'fine' }

  it('says what holds of many findings once', () => {
    const findings = [
      { ...fine, remarks: ['one connection', 'of two'] },
      { ...fine, about: 'b.example', remarks: ['one connection'] },
    ]
    expect(findings.flatMap(findingLines)).toEqual([
      'ok    probe a.example: fine',
      'ok    probe b.example: fine',
    ])
    expect(remarkLines(findings)).toEqual(['', 'To keep in mind:', '  - one connection', '  - of two'])
    expect(remarkLines([fine])).toEqual([])
  })

  it('names the first check that failed in its last line, an alarm before all others', () => {
    const failed = { ...fine, level: 'fail' as const, check: 'target' as const, about: 'web', text: 'gone' }
    const alarm = { ...failed, check: 'ct' as const, about: 'a.example', advice: 'act', alarm: true as const }
    expect(unwell([failed], 15).message).toBe('1 of 15 checks is not well: target web (gone)')
    expect(unwell([failed, failed], 15).message).toBe(
      '2 of 15 checks are not well, the first: target web (gone)',
    )
    expect(unwell([failed, alarm, alarm], 15).message).toBe(
      '3 of 15 checks are not well, 2 of them are alarms, the first: ct a.example (act)',
    )
    expect(unwell([failed, alarm], 15).message).toBe(
      '2 of 15 checks are not well, 1 of them is an alarm: ct a.example (act)',
    )
  })

  it('says what was looked at without a file', () => {
    expect(withoutFile(0)).toContain('no service was looked at (-c FILE)')
    expect(withoutFile(2)).toContain('these are the services of the clients that run')
  })
})

describe('status', () => {
  const client: ClientStatus = {
    side: 'client',
    gateways: [
      {
        address: 'g:9001',
        pin: 'sha256:p',
        name: 'home',
        connected: true,
        since: '2026-01-01T00:00:00.000Z',
        rttMs: 2,
      },
    ],
    routes: [
      { gateway: 'g:9001', name: 'http-80', type: 'http', urls: ['http://g:9000'], target: '127.0.0.1:80' },
    ],
    streams: 1,
    bytes: { in: 10, out: 2_500_000 },
    errors: { refused: 1 },
  }
  const gateway: GatewayStatus = {
    side: 'gateway',
    clients: [row],
    routes: [
      {
        route: 'default',
        owner: 'home',
        service: 'http-80',
        type: 'http',
        replicas: 2,
        down: 1,
        streams: 3,
        held: 4,
      },
    ],
    streams: 3,
    bytes: { in: 0, out: 0 },
    errors: {},
  }

  it('sums the processes of a client, and keeps a gateway in the same folder apart', () => {
    const sides = bySide([client, gateway, { ...client, streams: 2, errors: { refused: 1, timeout: 1 } }])
    expect(sides.map(({ side }) => side)).toEqual(['gateway', 'client'])
    expect(sides[1]).toMatchObject({
      streams: 3,
      bytes: { in: 20, out: 5_000_000 },
      errors: { refused: 2, timeout: 1 },
    })
    expect((sides[1] as ClientStatus).routes).toHaveLength(2)
  })

  it('has the promised fields as JSON', () => {
    expect(Object.keys(statusJson(client))).toEqual([
      'side',
      'gateways',
      'routes',
      'streams',
      'bytes',
      'errors',
    ])
    expect(Object.keys(statusJson(gateway))).toEqual([
      'side',
      'clients',
      'routes',
      'streams',
      'bytes',
      'errors',
    ])
  })

  it('is a block per side for a person', () => {
    expect(statusLines(client)).toEqual([
      'client: 1 stream, 10 B in, 2.5 MB out',
      '  GATEWAY  NAME  CONNECTED                       ROUND TRIP',
      '  g:9001   home  since 2026-01-01T00:00:00.000Z  2 ms',
      '  http://g:9000 → 127.0.0.1:80',
      '  errors: refused 1',
    ])
    expect(statusLines(gateway).join('\n')).toMatch(/ DOWN [^]*default +home +http-80 +2 +1 +3 +4/)
  })

  it('says an alarm in a line of its own, from whichever process', () => {
    const finding: Finding = {
      check: 'probe',
      about: 'a.example',
      level: 'fail',
      alarm: true,
      text: 'foreign leaf',
      advice: 'stop',
    }
    const warn: Finding = { check: 'caa', about: 'a.example', level: 'warn', text: 'none', advice: 'add' }
    const alarm = { finding, first: '2026-01-01T00:00:00.000Z', last: '2026-01-02T00:00:00.000Z' }
    const watching = { ...client, trust: { alarms: [alarm], findings: [finding, warn] } }
    const [sum] = bySide([client, watching, { ...client, trust: { alarms: [], findings: [warn] } }])
    if (sum?.side !== 'client') throw new Error('no client')
    expect(sum.trust).toEqual({ alarms: [alarm], findings: [finding, warn, warn] })
    expect(statusLines(sum).slice(-3)).toEqual([
      '  ALARM probe a.example: foreign leaf (last seen 2026-01-02T00:00:00.000Z)',
      '  2 trust warnings: see `blindgate doctor`',
      '  errors: refused 3',
    ])
  })

  it('says of a service with a health path whether its target works', () => {
    const [route] = client.routes
    if (route === undefined) throw new Error('no route')
    const routes = (['up', 'down'] as const).map((health) => ({ ...route, health }))
    expect(statusLines({ ...client, routes }).slice(3, 5)).toEqual([
      '  http://g:9000 → 127.0.0.1:80 (up)',
      '  http://g:9000 → 127.0.0.1:80 (down)',
    ])
  })

  it('says why a gateway or a service is away', () => {
    const away: ClientStatus = {
      ...client,
      gateways: [
        {
          address: 'g:9001',
          pin: 'sha256:p',
          connected: false,
          error: { code: 'dial_failed', message: 'no road' },
        },
      ],
      routes: [{ ...client.routes[0]!, urls: [], error: { code: 'route_taken', message: 'taken' } }],
    }
    const text = statusLines(away).join('\n')
    expect(text).toContain('no: no road')
    expect(text).toContain('http-80 (taken) → 127.0.0.1:80')
  })
})

describe('the log', () => {
  function log(pretty: boolean, level: 'info' | 'debug' = 'info') {
    const lines: string[] = []
    return { lines, log: createLog({ level, pretty, color: false, write: (line) => void lines.push(line) }) }
  }

  it('is one JSON object per line where no person reads it', () => {
    const { lines, log: json } = log(false)
    json.info({ gateway: 'g' }, 'connected')
    json.debug('not this')
    expect(lines).toHaveLength(1)
    expect(lines[0]?.endsWith('}\n')).toBe(true)
    expect(JSON.parse(lines[0] ?? '')).toEqual({
      level: 'info',
      time: expect.stringMatching(/^\d{4}-.*Z$/),
      gateway: 'g',
      msg: 'connected',
    })
  })

  it('is a line of text for a person, without saying anything twice', () => {
    const { lines, log: pretty } = log(true)
    pretty.warn({ gateway: 'g:1', code: 'silent' }, 'lost gateway g:1')
    expect(lines).toEqual([expect.stringMatching(/^\d\d:\d\d:\d\d warn {2}lost gateway g:1 code=silent\n$/)])
  })

  it.each([true, false])('moves no cursor and turns no text around (pretty: %s)', (pretty) => {
    const { lines, log: one } = log(pretty)
    one.info({ 'a\u009b': 'x\u009b31m\u202e\u001b[2J' }, 'said \u001b[2J\u202e\u2028\n and more')
    // oxlint-disable-next-line no-control-regex -- what must not be there
    expect(lines.join('')).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e\u2028]/)
    expect(lines.join('').split('\n')).toHaveLength(2)
  })

  it('shows the code and sentence of an error, and its stack only to whoever asked for everything', () => {
    const error = new TunnelError('reset', { scope: 'stream', detail: 'it was reset' })
    const [normal, debug] = [log(false), log(false, 'debug')]
    normal.log.info({ err: error }, 'x')
    debug.log.info({ err: error }, 'x')
    expect((JSON.parse(normal.lines[0] ?? '') as { err: object }).err).toEqual({
      code: 'reset',
      message: 'it was reset',
    })
    expect(debug.lines[0]).toContain('"stack"')
  })

  it('colours only the word of the level, and only where wanted', () => {
    const entry = { level: 'error', time: '2026-01-01T00:00:00Z', msg: 'm' }
    expect(prettyLine(entry, true)).toContain('\u001b[31merror\u001b[0m m')
    expect(prettyLine(entry, false)).toContain(' error m')
  })
})

describe('the failure line', () => {
  it.each<[string, unknown, number, RegExp]>([
    [
      'a mistake of the user',
      userError('not_found', 'no such thing: make one'),
      1,
      /^blindgate: no such thing: make one$/,
    ],
    ['wrong usage', userError('usage', '--x: is no y'), 2, /^blindgate: --x: is no y$/],
    [
      'the system',
      Object.assign(new Error('ENOSPC: no space left on device, write'), {
        code: 'ENOSPC',
        syscall: 'write',
      }),
      1,
      /^blindgate: the system refused: ENOSPC/,
    ],
    [
      'a mistake of ours',
      new TypeError('x is not\na function'),
      1,
      /^blindgate: a mistake in blindgate itself \(TypeError: x is not\\x0aa function\): please report it at https:\S+ .*--log-level debug$/,
    ],
    ['something thrown that is no error', 'a string', 1, /a mistake in blindgate itself \(a string\)/],
  ])('of %s is one line', async (_who, error, code, line) => {
    expect(exitCodeOf(error)).toBe(code)
    expect(await failureLine(error, [])).toMatch(line)
  })
})

describe('the hidden question', () => {
  class Terminal extends PassThrough implements HiddenInput {
    raw: boolean[] = []
    setRawMode(on: boolean): void {
      this.raw.push(on)
    }
  }

  function ask(typed: string[]) {
    const [input, output] = [new Terminal(), new PassThrough()]
    const answer = askHidden('invite: ', input, output)
    for (const keys of typed) input.write(keys)
    return { answer, input, shown: () => output.setEncoding('utf8').read(output.readableLength) as string }
  }

  it('shows nothing of what is typed, and puts the terminal back', async () => {
    const { answer, input, shown } = ask(['bg1_', 'SECRET\r'])
    expect(await answer).toBe('bg1_SECRET')
    expect(shown()).toBe('invite: \n')
    expect(input.raw).toEqual([true, false])
    expect(input.isPaused()).toBe(true)
  })

  it('hides before it asks: a paste at sight of the question is not shown', async () => {
    const [input, output] = [new Terminal(), new PassThrough()]
    const rawWhenAsked: boolean[][] = []
    const write = output.write.bind(output)
    output.write = (text: string) => {
      rawWhenAsked.push([...input.raw])
      return write(text)
    }
    const answer = askHidden('invite: ', input, output)
    expect(rawWhenAsked[0]).toEqual([true])
    input.write('bg1_A\r')
    await answer
  })

  it('understands Backspace, Ctrl-U and a paste that begins with a line break', async () => {
    expect(await ask(['wrong\u0015bg1_x\u007fA\r']).answer).toBe('bg1_A')
    expect(await ask(['\n bg1_A\n']).answer).toBe(' bg1_A')
  })

  it.each(['\u0003', '\u0004', 'half\u0003'])('ends with %j, as a failure without a stack', async (keys) => {
    const { answer, input } = ask([keys])
    await expect(answer).rejects.toMatchObject({ code: 'closed' })
    expect(input.raw).toEqual([true, false])
  })

  it('reads no more of stdin than an invite can be', async () => {
    const input = new PassThrough()
    const all = readAll(input, 8)
    input.end('123456789')
    await expect(all).rejects.toMatchObject({ code: 'invite_invalid' })
    const short = new PassThrough()
    short.end('12345678')
    expect(await readAll(short, 8)).toBe('12345678')
  })
})

describe('the Node line', () => {
  it('is named once its last fix is past', () => {
    expect(outOfSupport('20.20.2', new Date('2026-04-30T12:00:00Z'))).toBeUndefined()
    expect(outOfSupport('20.20.2', new Date('2026-05-01T00:00:00Z'))).toMatch(
      /^Node 20\.20\.2 .* since 2026-04-30/,
    )
    expect(outOfSupport('99.0.0', new Date('2126-01-01'))).toBeUndefined()
  })
})
