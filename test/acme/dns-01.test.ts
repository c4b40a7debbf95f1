/** dns-01 against a real CA: by a hook, and by RFC 2136. Skipped where there is no Go to build the CA with. */
import { X509Certificate } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type AcmeDns, parseRemote } from '../../src/config/index.ts'
import type { State } from '../../src/state/index.ts'
import { newFolder } from '../state/folders.ts'
import { NameServer, type NameServerKey } from './name-server.ts'
import { GO_MISSING, type Pebble, startPebble } from './pebble.ts'
import { TestClock } from './test-clock.ts'
import { newState, type Running, run } from './world.ts'

const HOSTS = ['example.test', '*.example.test', 'app.other.example.test']

let state: State

beforeEach(async (ctx) => {
  if (GO_MISSING) ctx.skip('skipped: no go')
  state = await newState()
})

const namesOf = (chain: string) =>
  new X509Certificate(chain).subjectAltName?.replaceAll('DNS:', '').split(', ').toSorted()

describe('dns-01 by a hook', () => {
  let pebble: Pebble

  beforeAll(async () => {
    if (!GO_MISSING) pebble = await startPebble()
  }, 300_000)
  afterAll(() => pebble?.close())

  /** A hook that tells pebble-challtestsrv, and writes down what it was told. */
  async function hookOf(script: string): Promise<{ hook: string; notes: string }> {
    const folder = await newFolder()
    const [hook, notes] = [join(folder, 'hook'), join(folder, 'notes')]
    await writeFile(hook, `#!/bin/sh\n${script.replaceAll('$NOTES', notes)}\n`, { mode: 0o700 })
    return { hook, notes }
  }

  function order(hook: string, hosts = HOSTS): Running {
    return run({
      state,
      hosts,
      clock: new TestClock(20),
      settings: {
        directory: pebble.directory,
        ca: pebble.ca,
        challenge: 'dns-01',
        dns: { kind: 'hook', hook },
      },
      more: { nameservers: [parseRemote(pebble.dns)] },
    })
  }

  it('has a certificate for a wildcard and its parent, and leaves nothing in DNS', async () => {
    const tell = `exec ${process.execPath} -e '
      const { BLINDGATE_ACTION: action, BLINDGATE_NAME: name, BLINDGATE_VALUE: value } = process.env
      require("node:fs").appendFileSync("$NOTES", action + " " + name + "\\n")
      const body = JSON.stringify({ host: name + ".", value })
      fetch("${pebble.dnsManagement}/" + (action === "add" ? "set-txt" : "clear-txt"), { method: "POST", body })
    '`
    const { hook, notes } = await hookOf(tell)
    expect(namesOf(await order(hook).certificate())).toEqual(HOSTS.toSorted())
    const done = (await readFile(notes, 'utf8')).trimEnd().split('\n').toSorted()
    const names = ['_acme-challenge.app.other.example.test', '_acme-challenge.example.test']
    expect(done).toEqual(
      ['add', 'remove'].flatMap((action) =>
        [names[0], names[1], names[1]].map((name) => `${action} ${name}`),
      ),
    )
  })

  it('that fails is said with its last words, and asked to tidy up', async () => {
    const { hook, notes } = await hookOf(
      'echo "$BLINDGATE_ACTION" >> $NOTES; echo "no such zone" >&2; exit 3',
    )
    const one = order(hook, ['*.example.test'])
    expect(await one.trouble(/hook/)).toMatch(
      /^the hook .*\/hook add _acme-challenge\.example\.test failed \(3\): no such zone: tried again at /,
    )
    expect(await readFile(notes, 'utf8')).toBe('add\nremove\n')
    expect(one.lines.map(({ msg }) => msg).join('\n')).toContain('stays in DNS')
  })

  it('that says it wrote and did not is found out before the CA looks', async () => {
    const { hook } = await hookOf('exit 0')
    const one = order(hook, ['a.example.test'])
    expect(await one.trouble(/does not show/)).toContain(
      `${pebble.dns} does not show the TXT record of _acme-challenge.a.example.test after 10 minutes`,
    )
  })
})

describe('dns-01 by RFC 2136', () => {
  const key: NameServerKey = {
    name: 'blindgate.key',
    algorithm: 'hmac-sha256',
    secret: Buffer.alloc(32, 7),
  }
  let pebble: Pebble
  let server: NameServer

  beforeAll(async () => {
    if (GO_MISSING) return
    server = await NameServer.start('example.test', key)
    pebble = await startPebble({ dns: `127.0.0.1:${server.port}` })
  }, 300_000)
  afterAll(async () => {
    await pebble?.close()
    await server?.close()
  })
  afterEach(() => {
    if (server === undefined) return
    server.forgets = undefined
    server.wrongBy = 0
    server.changes.length = 0
  })

  function order(more: { key?: Partial<NameServerKey>; zone?: string; hosts?: string[] } = {}): Running {
    const { name, algorithm, secret } = { ...key, ...more.key }
    const at = { host: '127.0.0.1', port: server.port }
    const clock = new TestClock(20)
    server.now = () => clock.now()
    const dns: AcmeDns = {
      kind: 'update',
      server: at,
      zone: more.zone ?? 'example.test',
      key: { name, algorithm, secret: secret.toString('base64') },
    }
    return run({
      state,
      hosts: more.hosts ?? HOSTS,
      clock,
      settings: { directory: pebble.directory, ca: pebble.ca, challenge: 'dns-01', dns },
      more: { nameservers: [at] },
    })
  }

  it('adds its records alone and takes them back, once the servers show them', async () => {
    server.records.set('_acme-challenge.example.test', ['of somebody else'])
    server.hides = 3
    const one = order()
    expect(namesOf(await one.certificate())).toEqual(HOSTS.toSorted())
    expect(server.hides).toBe(0)
    expect(server.records.get('_acme-challenge.example.test')).toEqual(['of somebody else'])
    expect(server.records.get('_acme-challenge.app.other.example.test')).toEqual([])
    expect(server.changes.filter((change) => change.startsWith('add'))).toHaveLength(3)
    expect(server.changes.filter((change) => change.startsWith('remove'))).toHaveLength(3)
  })

  it.each<[string, () => Parameters<typeof order>[0], RegExp]>([
    [
      'a wrong secret',
      () => ({ key: { secret: Buffer.alloc(32, 8) } }),
      /refuses the change .*NOTAUTH.*key_file/,
    ],
    ['another algorithm', () => ({ key: { algorithm: 'hmac-sha512' } }), /refuses the change .*NOTAUTH/],
    ['a zone that it does not have', () => ({ zone: 'test' }), /refuses the change of test \(NOTAUTH\)/],
    [
      'a host outside of the zone',
      () => ({ hosts: ['a.example.net'] }),
      /_acme-challenge\.a\.example\.net is not in zone example\.test/,
    ],
    [
      'no right to it',
      () => {
        server.forgets = 'grants'
        return {}
      },
      /\(REFUSED\): let key_name change TXT records/,
    ],
    [
      'an answer that is not signed',
      () => {
        server.forgets = 'signature'
        return {}
      },
      /does not sign its answer with key blindgate\.key/,
    ],
    [
      'a clock that is off',
      () => {
        server.wrongBy = 1_000
        return {}
      },
      /has another time than this machine/,
    ],
  ])('is told of %s', async (_what, change, says) => {
    const one = order(change())
    await one.trouble(says)
    expect(one.source.current).toBeUndefined()
  })
})
