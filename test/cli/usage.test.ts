import { afterAll, describe, expect, it } from 'vitest'
import manifest from '../../package.json' with { type: 'json' }
import { exitCodeOf, failureLine } from '../../src/cli/failure.ts'
import { createProgram } from '../../src/cli/program.ts'
import { importsOf } from '../house/sources.ts'
import { lastLine, Workshop } from './binary.ts'

const workshop = new Workshop()
afterAll(() => workshop.close())

/** What a command line comes to that is refused before anything runs. */
async function typed(args: readonly string[]): Promise<{ code: number; line: string }> {
  const program = createProgram()
  const error: unknown = await program.parseAsync(args, { from: 'user' }).then(
    () => undefined,
    (error: unknown) => error,
  )
  return { code: exitCodeOf(error), line: await failureLine(error, program.args) }
}

const COMMANDS = [
  'gateway',
  'invite',
  'clients',
  'revoke',
  'release',
  'join',
  'http',
  'https',
  'tcp',
  'up',
  'revoke-certificate',
  'status',
  'doctor',
  'demo',
]

describe.concurrent('help', () => {
  it('lists the commands of this version and no other', async () => {
    const { code, out, err } = await workshop.run(['--help'])
    expect({ code, err }).toEqual({ code: 0, err: '' })
    const listed = [...out.matchAll(/^ {2}([a-z][a-z-]*) .*\S/gm)].map((match) => match[1])
    expect(listed).toEqual(COMMANDS)
  })

  it.each(COMMANDS)('of %s has an example and the options that every command has', async (command) => {
    let out = ''
    const program = createProgram().configureOutput({ writeOut: (text) => (out += text) })
    for (const each of program.commands) each.configureOutput({ writeOut: (text) => (out += text) })
    await expect(program.parseAsync([command, '--help'], { from: 'user' })).rejects.toMatchObject({
      exitCode: 0,
    })
    expect(out).toMatch(new RegExp(`\\nExamples?:\\n {2}\\$ blindgate ${command}`))
    for (const option of ['--state', '--json', '--log-level', '--version', '--help'])
      expect(out).toContain(option)
  })

  it('of a command goes to stdout and exits 0', async () => {
    const { code, out, err } = await workshop.run(['join', '--help'])
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(out).toMatch(/^Usage: blindgate join /)
  })

  it.each([
    [['-h'], ['--help']],
    [['help'], ['--help']],
    [
      ['tcp', '-h'],
      ['tcp', '--help'],
    ],
    [
      ['help', 'tcp'],
      ['tcp', '--help'],
    ],
    [['-v'], ['--version']],
  ])('is also got by %j', async (short, long) => {
    const { code, out, err } = await workshop.run(short)
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(out).toBe((await workshop.run(long)).out)
  })

  it('and --version answer alone', async () => {
    expect(await workshop.run(['--version'])).toEqual({ code: 0, out: `${manifest.version}\n`, err: '' })
  })

  it('is quick: no package but commander, and no room behind the commands, is loaded before one runs', () => {
    const seen = new Set(['src/cli/run.ts'])
    const outside = new Set<string>()
    for (const path of seen) {
      for (const each of importsOf(path)) {
        if (each.typeOnly || each.dynamic || each.specifier.startsWith('node:')) continue
        if (each.path?.startsWith('src/cli/') === true) seen.add(each.path)
        else outside.add(each.path ?? each.specifier)
      }
    }
    expect([...outside].toSorted()).toEqual(['commander', 'src/errors.ts', 'src/limits.ts'])
  })
})

describe('wrong usage', () => {
  it.each<[string[], RegExp]>([
    [['frob'], /unknown command 'frob'/],
    [['help', 'frob'], /^blindgate: unknown command 'frob': see "blindgate --help"$/],
    [['-x'], /^blindgate: unknown option '-x': see "blindgate --help"$/],
    [['tcp', '-x'], /^blindgate: unknown option '-x': see "blindgate tcp --help"$/],
    [['htp', '80'], /did you mean http\?/],
    [['http'], /missing required argument 'target': see "blindgate http --help"/],
    [['http', '80', '81'], /too many arguments/],
    [['http', '80', '--nmae', 'x'], /unknown option '--nmae': did you mean --name\?/],
    [['http', 'no target'], /TARGET: "no target" is not a target/],
    [['http', 'unix:relative'], /whole path/],
    [['http', '99999'], /TARGET: target "99999": there is no port 99999: give one from 1 to 65535/],
    [['http', '80', '--name', 'UPPER CASE'], /--name: /],
    [['http', '80', '--gateway', 'x'], /--gateway: /],
    [['http', '80', '--drain', 'soon'], /--drain: "soon" is not a duration/],
    [['http', '80', '--host', 'a b'], /--host: "a b" is not a host/],
    [['http', '80', '--host', 'a.example', '--host', '*x'], /--host: "\*x"/],
    [['http', '80', '--path', 'api'], /--path: "api" does not begin with a slash/],
    [['tcp', '80', '--host', 'a.example'], /unknown option '--host'/],
    [['https', '443', '--tls', 'passthrough'], /--host is missing/],
    [
      ['https', '443', '--host', 'a.example', '--tls', 'acme'],
      /--tls: "acme" is not known: write passthrough/,
    ],
    [
      ['https', '443', '--tls', 'passthrough', '--host', '*'],
      /https: "\*" is no host that visitors can ask for by TLS/,
    ],
    [
      ['https', '443', '--tls', 'passthrough', '--host', 'a.example', '--path', '/a'],
      /unknown option '--path'/,
    ],
    [['tcp', '80', '--port', '0'], /--port: "0" is not a whole number from 1 to 65535/],
    [['tcp', '80', '--port', '70000'], /--port/],
    [['gateway', '--http', '0.0.0.0:x'], /--http: /],
    [['gateway', '--tunnel', 'nonsense'], /--tunnel: /],
    [['gateway', '--tls', ':x'], /--tls: ":x" is not an address/],
    [['gateway', '--domain', '*.example.com'], /--domain: "\*\.example\.com" is a pattern/],
    [['gateway', '--access-log', 'xml'], /--access-log: "xml" is no form of the access log: write off/],
    [['invite', '--uses', '0'], /--uses/],
    [['invite', '--expires', '0s'], /--expires/],
    [['invite', '--expires', '1 day'], /--expires: "1 day" is not a duration/],
    [['invite', '--address', ':1'], /--address: /],
    [['demo', '--count', '1.5'], /--count/],
    [['status', '--log-level', 'loud'], /--log-level/],
    [['status', '--state', ''], /--state is empty/],
    [
      ['doctor', '--probe', 'https://127.0.0.1'],
      /has an address for a host, and a certificate is for a name: write/,
    ],
    [['doctor', '--expect', 'sha256:x'], /--expect is what --probe must find/],
    [['doctor', '--probe', 'https://a.example'], /--expect is missing/],
    [['doctor', '--probe', 'https://a.example', '--expect', 'x'], /--expect: "x" is not a key/],
    [
      ['doctor', '--probe', 'http://a.example', '--expect', 'x'],
      /--probe: "http:\/\/a\.example" is not a host of https/,
    ],
    [['doctor', '--probe', 'https://a.example/path', '--expect', 'x'], /--probe/],
    [['doctor', '--probe', 'https://203.0.113.7', '--expect', 'x'], /--probe/],
    [['join'], /no invite: give it, or "-"/],
  ])('%j is told in one line', async (args, says) => {
    const { code, line } = await typed(args)
    expect(code).toBe(2)
    expect(line).toMatch(/^blindgate: \S.*$/)
    expect(line).toMatch(says)
  })

  it('exits 2, with that line as the last and nothing on stdout', async () => {
    const { code, out, err } = await workshop.run(['http', '80', '--drain', 'soon'])
    expect({ code, out }).toEqual({ code: 2, out: '' })
    expect(err).toMatch(/^blindgate: --drain: "soon" is not a duration[^\n]*\n$/)
  })

  it('without a command shows the help on stderr, and then what to do', async () => {
    const { code, out, err } = await workshop.run([])
    expect({ code, out }).toEqual({ code: 2, out: '' })
    expect(err).toContain('Usage: blindgate')
    expect(lastLine(err)).toMatch(/^blindgate: no command: /)
  })

  it.each<[string[], RegExp]>([
    [['udp', '53', '--port', '53'], /udp services are not in this version yet/],
    [['http', '80', '--port', '80'], /leave --port out/],
  ])('%j says that it comes later', async (args, says) => {
    const { code, line } = await typed(args)
    expect(code).toBe(2)
    expect(line).toMatch(says)
  })

  it('says so also where options follow that nobody knows', async () => {
    const { code, out, err } = await workshop.run(['udp', '53', '--what', 'ever'])
    expect({ code, out }).toEqual({ code: 2, out: '' })
    expect(err).toMatch(/^blindgate: udp services are not in this version yet[^\n]*\n$/)
  })
})

describe.concurrent('failures', () => {
  it.each<[string[], RegExp]>([
    [['status'], /there is no state in .*: give the folder with --state/],
    [['clients'], /there is no state/],
    [['http', '80'], /there is no state/],
    [['doctor'], /there is no state/],
    [['doctor', '-c', 'missing.toml'], /missing\.toml/],
    [['up'], /blindgate\.toml/],
    [['gateway', '-c', 'missing.toml'], /missing\.toml/],
    [['join', 'bg1_AAAA'], /invite/],
  ])('%j exits 1 with one plain line', async (args, says) => {
    const { code, out, err } = await workshop.run(args)
    expect({ code, out }).toEqual({ code: 1, out: '' })
    expect(err.trimEnd().split('\n')).toHaveLength(1)
    expect(err).toMatch(/^blindgate: \S/)
    expect(err).toMatch(says)
  })

  it('of an environment that makes no sense names the variable', async () => {
    const { code, err } = await workshop.run(['gateway'], { env: { BLINDGATE_HTTP: 'here' } })
    expect(code).toBe(1)
    expect(lastLine(err)).toMatch(/^blindgate: BLINDGATE_HTTP: "here" is not an address/)
  })

  it('of a word with control characters does not move the cursor', async () => {
    const { err } = await workshop.run(['frob\u001b[2J\u202e'])
    expect(err).toContain('\\x1b[2J\\u202e')
    // oxlint-disable-next-line no-control-regex -- what must not be there
    expect(err).not.toMatch(/[\u001b\u202e]/)
  })
})
