import { chmod, chown, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CLIENT_KEYS, DEFAULT_ACME, loadClientFile, unprovable } from '../../src/config/index.ts'
import { createIdentity } from '../../src/identity/index.ts'
import { isRoot, SOMEBODY } from '../state/folders.ts'
import { clientFile, complaint, fileOf } from './files.ts'

let folder: string
let root: string

/** A file of the test's, and its path for TOML. */
async function file(name: string, text: string, mode = 0o600): Promise<string> {
  const path = join(folder, name)
  await rm(path, { force: true })
  await writeFile(path, text, { mode })
  return path
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bg-acme-'))
  root = createIdentity().certificate
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const SECRET = Buffer.alloc(32, 250)

describe('[acme]', () => {
  it('is the usual CA by way of the gateway when nothing is said', async () => {
    expect((await clientFile('')).acme).toEqual(DEFAULT_ACME)
    expect((await clientFile('[acme]\n')).acme).toEqual(DEFAULT_ACME)
  })

  it('is read with the files that it names', async () => {
    const toml = `[acme]
email = "admin@example.com"
directory = "https://ca.example/dir"
ca_file = "${await file('ca.pem', root)}"
profile = "shortlived"
challenge = "dns-01"
require_caa = true
eab_kid = "kid-1"
eab_key_file = "${await file('eab', `${SECRET.toString('base64url')}\n`)}"
[acme.dns]
server = "[2001:db8::53]:53"
zone = "Example.com"
key_name = "Blindgate.Key."
key_algorithm = "hmac-sha512"
key_file = "${await file('tsig', `${SECRET.toString('base64')}\n`)}"
`
    expect((await clientFile(toml)).acme).toEqual({
      email: 'admin@example.com',
      directory: 'https://ca.example/dir',
      ca: root,
      profile: 'shortlived',
      challenge: 'dns-01',
      requireCaa: true,
      eab: { kid: 'kid-1', key: SECRET.toString('base64url') },
      dns: {
        kind: 'update',
        server: { host: '2001:db8::53', port: 53 },
        zone: 'example.com',
        key: {
          name: 'blindgate.key',
          algorithm: 'hmac-sha512',
          secret: SECRET.toString('base64').replace('=', ''),
        },
      },
    })
    const hook = await file('hook', '#!/bin/sh\n', 0o700)
    const { acme } = await clientFile(`[acme]\nchallenge = "dns-01"\n[acme.dns]\nhook = "${hook}"\n`)
    expect(acme).toEqual({ ...DEFAULT_ACME, challenge: 'dns-01', dns: { kind: 'hook', hook } })
  })

  it('has a sentence and an example for each key, and each example is right', async () => {
    const paths: Record<string, string> = {
      ca_file: await file('ca.pem', root),
      eab_key_file: await file('eab', SECRET.toString('base64url')),
      key_file: await file('tsig', SECRET.toString('base64')),
      hook: await file('hook', '#!/bin/sh\n', 0o700),
    }
    const keys = CLIENT_KEYS.filter(({ table }) => table.startsWith('[acme'))
    expect(keys.map(({ table, key }) => `${table} ${key}`)).toHaveLength(14)
    const lines = (wanted: string): string =>
      keys
        .filter(({ table, key }) => table === wanted && key !== 'hook')
        .map(({ key, example }) => `${key} = ${paths[key] === undefined ? example : `"${paths[key]}"`}\n`)
        .join('')
    for (const { description } of keys) expect(description).toMatch(/^.{20,}\.$/)
    await clientFile(`[acme]\n${lines('[acme]')}[acme.dns]\n${lines('[acme.dns]')}`)
    await clientFile(`[acme.dns]\nhook = "${paths['hook']}"`)
  })

  it.each<[string, string]>([
    ['[acme]\nemial = "a@b.c"', 'did you mean "email"'],
    ['[acme]\nemail = "a@b.c, d@e.f"', 'email: "a@b.c, d@e.f" is not one e-mail address'],
    ['[acme]\nemail = "a@b.c?subject=x"', 'is not one e-mail address'],
    [
      '[acme]\ndirectory = "http://ca.example/"',
      '"http://ca.example/" is not the URL of a CA: write one that begins with https://',
    ],
    ['[acme]\ndirectory = "https://user:secret@ca.example/"', 'is not the URL of a CA'],
    ['[acme]\nprofile = "a b"', 'is not the name of a profile'],
    [
      '[acme]\nchallenge = "dns"',
      '"challenge" cannot be "dns": write one of "tls-alpn-01", "http-01", "dns-01"',
    ],
    ['[acme]\nchallenge = "dns-01"', 'dns-01 needs to know how to write into DNS: add [acme.dns] with hook'],
    ['[acme]\neab_kid = "x"', 'eab_kid needs eab_key_file beside it'],
    ['[acme]\neab_key_file = "FOLDER/eab"', 'eab_key_file needs eab_kid beside it'],
    ['[acme]\neab_kid = "x y"\neab_key_file = "FOLDER/eab"', 'is not the id of a key'],
    [
      '[acme]\neab_kid = "x"\neab_key_file = "FOLDER/none"',
      'eab_key_file: FOLDER/none cannot be read (ENOENT)',
    ],
    ['[acme]\neab_kid = "x"\neab_key_file = "FOLDER/open"', 'chmod 600'],
    [
      '[acme]\neab_kid = "x"\neab_key_file = "FOLDER/tsig"',
      'holds no base64url: copy the key as it was given',
    ],
    ['[acme]\nca_file = "FOLDER/eab"', 'ca_file: FOLDER/eab holds no certificate'],
    ['[acme]\nca_file = "FOLDER/none"', 'ca_file: FOLDER/none cannot be read (ENOENT)'],
    ['[acme.dns]\nserver = "ns1.example.com"', 'server: '],
    [
      '[acme.dns]\nserver = "ns1.example.com:53"',
      '[acme.dns] has no "zone": it takes hook, or server, zone, key_name and key_file',
    ],
    ['[acme.dns]\nzone = "*.example.com"', 'is a pattern'],
    ['[acme.dns]\nkey_name = "a key"', 'is not the name of a TSIG key'],
    [
      '[acme.dns]\nhook = "FOLDER/hook"\nzone = "example.com"',
      'hook writes the records alone: leave zone out, or hook',
    ],
    ['[acme.dns]\nhook = "FOLDER/eab"', 'hook: FOLDER/eab is no program: chmod +x it'],
    ['[acme.dns]\nhook = "FOLDER"', 'is no program'],
    ['[acme.dns]\nhook = "FOLDER/shared"', 'others can write FOLDER/shared, and so choose what runs'],
    ['[acme.dns]\nhook = "FOLDER/none"', 'hook: FOLDER/none cannot be read (ENOENT)'],
  ])('%j is told', async (toml, says) => {
    await file('eab', SECRET.toString('base64url'))
    await file('tsig', Buffer.alloc(32, 255).toString('base64'))
    await file('hook', '#!/bin/sh\n', 0o700)
    await chmod(await file('open', SECRET.toString('base64url')), 0o644)
    await chmod(await file('shared', '#!/bin/sh\n'), 0o777)
    const told = await complaint(loadClientFile, await fileOf(toml.replaceAll('FOLDER', folder)))
    expect(told).toContain(says.replaceAll('FOLDER', folder))
    expect(told).not.toContain(SECRET.toString('base64url'))
  })

  it.runIf(isRoot)('refuses a hook of somebody else', async () => {
    const hook = await file('theirs', '#!/bin/sh\n', 0o700)
    await chown(hook, SOMEBODY, SOMEBODY)
    expect(await complaint(loadClientFile, await fileOf(`[acme.dns]\nhook = "${hook}"`))).toContain(
      `belongs to user ${SOMEBODY}, who can change it`,
    )
  })
})

it('a wildcard is proved by dns-01 alone, and that is said', () => {
  expect(unprovable(['a.example', '*.a.example'], 'http-01')).toBe(
    'a certificate for "*.a.example" can be had by dns-01 alone: set challenge = "dns-01" under [acme], or name the hosts one by one',
  )
  expect(unprovable(['*.a.example'], 'dns-01')).toBeUndefined()
  expect(unprovable(['a.example'], 'tls-alpn-01')).toBeUndefined()
})
