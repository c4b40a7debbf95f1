/** The README, followed word for word; only ports, addresses, folders and keys are this test's own. */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type { Running } from '../cli/binary.ts'
import { ask, freePort, Target } from './visitors.ts'
import { heard, main, World } from './world.ts'

const root = join(import.meta.dirname, '..', '..')
const readme = readFileSync(join(root, 'README.md'), 'utf8')
const blocks = [...readme.matchAll(/^```(\w*)\n([^]*?)^```$/gm)].map(([, language = '', text = '']) => ({
  language,
  text,
}))
const commands = blocks
  .filter(({ language }) => language === 'sh')
  .flatMap(({ text }) => text.split('\n'))
  .map((line) => line.replace(/\s+#.*$/, ''))
  .filter((line) => line !== '')

/** Commands that change the machine, or begin what runs this: what holds them instead. */
const ELSEWHERE = [
  // .ci/run begins with it on a fresh clone; this test is in it.
  'make test',
  // Ports that belong to root: test/config and test/cli hold what these two say, test/client what the second one does.
  'npx blindgate gateway --http :80 --tls :443',
  'npx blindgate https 8443 --host app.example.com --tls passthrough',
  // It asks an authority of the internet: test/e2e has one of its own.
  'npx blindgate https 8080 --host app.example.com',
  // test/packaging holds the units, `blindgate-as`, and that the package has what these lines copy.
  'npm ci && npm install --global "$(npm pack --silent)"',
  'sudo systemctl enable --now blindgate-gateway',
  'sudo blindgate-as gateway invite',
  'sudo blindgate-as client join',
  'sudo systemctl enable --now blindgate-client',
  'cd "$(npm root --global)/blindgate/packaging/systemd" && sudo cp *.service /etc/systemd/system/ && sudo cp blindgate-as /usr/local/bin/',
]
const MAKE = 'make'
const WALK = [
  'npx blindgate gateway',
  'npx blindgate join',
  'npx blindgate http 8080',
  'npx blindgate tcp 22 --port 2222',
  'npx blindgate tcp 192.168.1.20:443 --port 8443',
  'npx blindgate tcp unix:/run/app.sock --port 7000',
  'npx blindgate http 8080 --host app.example.com --path /api',
  'npx blindgate up',
  'npx blindgate status',
  'npx blindgate invite --uses 2',
  'npx blindgate clients',
  'npx blindgate revoke sha256:3q2+…',
  'npx blindgate release tcp:2222',
] as const

const world = new World()
afterAll(() => world.close())

it('has no command that is neither run here nor held elsewhere', () => {
  expect(commands.toSorted()).toEqual([MAKE, ...WALK, ...ELSEWHERE].toSorted())
})

/** What the README shows as output, for any address, key and invite in place of its own. */
function shown(begin: string): RegExp {
  const block = blocks.find(({ language, text }) => language === '' && text.startsWith(begin))
  if (block === undefined) throw new Error(`the README shows no output that begins with ${begin}`)
  const pattern = block.text
    .trimEnd()
    .replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
    .replace(/sha256:\S+/, 'sha256:[A-Za-z0-9+/]{43}')
    .replace(/bg1_\S+/, '(bg1_[\\w-]+)')
    .replace(/\d+(?:\\\.\d+){3}:\d+/g, '\\d+(?:\\.\\d+){3}:\\d+')
    .replace(/ {2,}/g, ' {2,}')
  return new RegExp(pattern, 'm')
}

/** Runs a command of the README on a terminal, where `script` gives one. */
function onTerminal(args: readonly string[]): Running {
  // Without the shell in between, which Ctrl-C would end too.
  const line = `exec ${[process.execPath, main(), ...args].map((word) => `'${word}'`).join(' ')}`
  const env = { PATH: process.env['PATH'], HOME: world.folder, TERM: 'dumb' }
  const terminal = world.spawned(spawn('script', ['-qefc', line, '/dev/null'], { cwd: world.folder, env }))
  // A terminal ends its lines in its own way.
  terminal.child.stdout.removeAllListeners('data')
  terminal.child.stdout.on('data', (text: string) => {
    terminal.out += text.replaceAll('\r\n', '\n')
  })
  return terminal
}

const hasTerminals = spawnSync('script', ['--version']).status === 0

describe('the walk-through, on a rented machine and at home', () => {
  const vps = ['--state', world.path('vps')]
  const home = ['--state', world.path('home')]
  /** Ends what runs, as Ctrl-C does. */
  const ctrlC = async (program: Running): Promise<void> => {
    program.signal('SIGINT')
    expect((await program.ended).code).toBe(0)
  }

  it.skipIf(!hasTerminals)(
    'works on terminals as it is shown (skipped where there is no `script`)',
    async () => {
      const gateway = onTerminal(['gateway', '--http', '127.0.0.1:0', '--tunnel', '127.0.0.1:0', ...vps])
      const [, invite = ''] = await heard(gateway, 'out', shown('blindgate gateway'))
      const join = onTerminal(['join', ...home])
      await heard(join, 'out', /invite \(not shown\): $/)
      join.child.stdin.write(`${invite}\n`)
      await heard(join, 'out', /joined 127\.0\.0\.1:\d+ as "home"/)
      expect((await join.ended).code).toBe(0)
      // Pasted, and shown nowhere.
      expect(join.out).not.toContain(invite.slice(-20))
      const web = world.with(await Target.web('from home'))
      const http = onTerminal(['http', String(web.port), ...home])
      await heard(
        http,
        'out',
        new RegExp(shown('  http://').source.replace('127\\.0\\.0\\.1:8080', `127\\.0\\.0\\.1:${web.port}`)),
      )
      const visitors = /visitors +http:\/\/127\.0\.0\.1:(\d+)/.exec(gateway.out)?.[1]
      expect(await ask(Number(visitors), '/')).toEqual({ status: 200, body: 'from home' })
      for (const program of [http, gateway]) {
        program.child.stdin.write('\u0003')
        expect((await program.ended).code).toBe(0)
      }
    },
  )

  it('works command by command', async () => {
    // On other folders than the terminals had.
    const there = ['--state', world.path('gateway')]
    const here = ['--state', world.path('client')]
    const done = async (args: readonly string[], input?: string): Promise<string> => {
      const { code, out, err } = await world.workshop.run(args, input === undefined ? {} : { input })
      expect({ args, code, err: code === 0 ? '' : err }).toEqual({ args, code: 0, err: '' })
      return out.trimEnd()
    }
    const gateway = world.workshop.start([
      'gateway',
      '--http',
      '127.0.0.1:0',
      '--tunnel',
      '127.0.0.1:0',
      ...there,
    ])
    const [, http] = await heard(gateway, 'out', /^visitors http:\/\/127\.0\.0\.1:(\d+)\nclients /m)
    const [web, app, api, ports] = await Promise.all([
      Target.web('from home'),
      Target.web('from the app', world.path('app.sock')),
      Target.web('from the api'),
      Promise.all([freePort(), freePort(), freePort()]),
    ])
    for (const target of [web, app, api]) world.with(target)
    const [ssh, tls, unix] = ports.map(String) as [string, string, string]
    await done(['join', '-', ...here], await done(['invite', ...there]))

    /** `npx blindgate http 8080` and its like: each serves, and ends with Ctrl-C. */
    const quick: [
      command: string,
      args: string[],
      port: number,
      body: string,
      path?: string,
      host?: string,
    ][] = [
      ['npx blindgate http 8080', ['http', String(web.port)], Number(http), 'from home'],
      [
        'npx blindgate tcp 22 --port 2222',
        ['tcp', String(web.port), '--port', ssh],
        Number(ssh),
        'from home',
      ],
      [
        'npx blindgate tcp 192.168.1.20:443 --port 8443',
        ['tcp', `127.0.0.1:${web.port}`, '--port', tls],
        Number(tls),
        'from home',
      ],
      [
        'npx blindgate tcp unix:/run/app.sock --port 7000',
        ['tcp', `unix:${world.path('app.sock')}`, '--port', unix],
        Number(unix),
        'from the app',
      ],
      [
        'npx blindgate http 8080 --host app.example.com --path /api',
        ['http', String(api.port), '--host', 'app.example.com', '--path', '/api'],
        Number(http),
        'from the api',
        '/api',
        'app.example.com',
      ],
    ]
    expect(quick.map(([command]) => command)).toEqual(WALK.slice(2, 7))
    await Promise.all(
      quick.map(async ([, args, port, body, path, host]) => {
        const program = world.workshop.start([...args, ...here])
        await heard(program, 'out', / → /)
        expect(await ask(port, path, host)).toEqual({ status: 200, body })
        await ctrlC(program)
      }),
    )

    const toml = blocks.find(({ language }) => language === 'toml')?.text ?? ''
    writeFileSync(
      world.path('blindgate.toml'),
      toml.replace(':8080', `:${web.port}`).replace(':22"', `:${web.port}"`).replace('2222', ssh),
      { mode: 0o600 },
    )
    // In the folder of the file: `up` needs no other word.
    const up = world.workshop.start(['up', ...here])
    await heard(up, 'out', /tcp:.* → [^]*http:.* → |http:.* → [^]*tcp:.* → /)
    expect(await ask(Number(http))).toEqual({ status: 200, body: 'from home' })
    expect(await ask(Number(ssh))).toEqual({ status: 200, body: 'from home' })
    expect(await done(['status', ...here])).toMatch(/^client: \d+ streams?,/)

    const invite = await done(['invite', '--uses', '2', ...there])
    await done(['join', '-', '--state', world.path('second')], invite)
    const rows = (await done(['clients', ...there])).split('\n')
    expect(rows).toHaveLength(3)
    const [key = ''] = /sha256:\S+/.exec(rows.find((row) => / yes /.test(row)) ?? '') ?? []
    expect(await done(['revoke', key, ...there])).toBe(`revoked ${key}`)
    expect((await up.ended).code).toBe(1)
    expect(await done(['release', `tcp:${ssh}`, ...there])).toBe(`released tcp:${ssh}, which was of "home"`)
    await ctrlC(gateway)
  })
})

it('`make` shows the demo in a copy of the project, with what it needs installed', async () => {
  const copy = world.path('clone')
  const files = execFileSync(
    'git',
    ['ls-files', '-z', 'src', 'Makefile', 'package*.json', 'tsconfig*.json'],
    { cwd: root },
  )
  for (const file of files
    .toString()
    .split('\0')
    .filter((name) => name !== '')) {
    mkdirSync(dirname(join(copy, file)), { recursive: true })
    cpSync(join(root, file), join(copy, file))
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'))
  // Older than what is installed; and should make not think so, nothing may be installed over what this test runs on.
  utimesSync(join(copy, 'package-lock.json'), 0, 0)
  const npm = world.path('npm')
  writeFileSync(npm, '#!/bin/sh\n[ "$1" = ci ] && exit 1\nexec npm "$@"\n')
  chmodSync(npm, 0o755)
  const [http, tunnel] = await Promise.all([freePort(), freePort()])
  const env = { PATH: `${dirname(process.execPath)}:${process.env['PATH']}`, HOME: world.folder }
  const make = [`HTTP=127.0.0.1:${http}`, `TUNNEL=127.0.0.1:${tunnel}`, 'COUNT=2', `NPM=${npm}`]
  const demo = world.spawned(spawn('make', ['--silent', ...make], { cwd: copy, env }))
  const { code, out } = await demo.ended
  expect({ code, out: out.split('\n').slice(-3) }).toEqual({ code: 0, out: ['pong', 'pong', ''] })
})
