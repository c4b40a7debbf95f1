import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { TunnelError } from '../../src/errors.ts'
import {
  checkName,
  decodeInvite,
  encodeInvite,
  hashSecret,
  type Invite,
  inviteId,
  isName,
  newSecret,
  type Pin,
  sameSecretHash,
} from '../../src/identity/index.ts'
import { INVITE_ADDRESS_BYTES, INVITE_ADDRESSES, INVITE_TEXT_CHARACTERS } from '../../src/limits.ts'

interface Vector {
  text: string
  invite: Omit<Invite, 'secret'> & { secret: string }
}
const vectors = JSON.parse(readFileSync(new URL('invites.vectors.json', import.meta.url), 'utf8')) as {
  invites: Vector[]
}
const PIN: Pin = `sha256:${Buffer.alloc(32, 7).toString('base64').slice(0, 43)}`
const INVITE: Invite = {
  addresses: ['203.0.113.7:9001'],
  pin: PIN,
  name: 'home',
  secret: new Uint8Array(16).fill(9),
}

function refusal(act: () => unknown): TunnelError {
  try {
    act()
  } catch (error) {
    if (error instanceof TunnelError) return error
    throw error
  }
  throw new Error('it was accepted')
}

/** An invite with any body and a sum that is right. */
function sealed(...parts: (string | Uint8Array)[]): string {
  const body = Buffer.concat(
    parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)),
  )
  const sum = createHash('sha256').update(body).digest().subarray(0, 4)
  return `bg1_${Buffer.concat([body, sum]).toString('base64url')}`
}

const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/)
const invites: fc.Arbitrary<Invite> = fc.record(
  {
    addresses: fc.array(fc.stringMatching(/^[!-~]{1,255}$/), { minLength: 1, maxLength: INVITE_ADDRESSES }),
    pin: fc
      .uint8Array({ minLength: 32, maxLength: 32 })
      .map((hash): Pin => `sha256:${Buffer.from(hash).toString('base64').slice(0, 43)}`),
    name: label,
    domain: fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => labels.join('.')),
    secret: fc.uint8Array({ minLength: 16, maxLength: 16 }),
  },
  { requiredKeys: ['addresses', 'pin', 'name', 'secret'] },
)

describe('an invite', () => {
  it('is read as it was written', () => {
    fc.assert(
      fc.property(invites, (invite) => {
        const text = encodeInvite(invite)
        expect(decodeInvite(text)).toEqual(invite)
        expect(text).toMatch(/^bg1_[A-Za-z0-9_-]+$/)
        expect(text.length).toBeLessThanOrEqual(INVITE_TEXT_CHARACTERS / 2)
      }),
    )
  })

  it.each(vectors.invites)('of known bytes is $invite.name', ({ text, invite }) => {
    const known = { ...invite, secret: Uint8Array.from(Buffer.from(invite.secret, 'hex')) }
    expect(decodeInvite(text)).toEqual(known)
    expect(encodeInvite(known)).toBe(text)
  })

  it('is short enough to paste', () => {
    expect(encodeInvite(INVITE).length).toBeLessThan(120)
  })

  it('may have blanks and line breaks around it, and where a terminal wrapped it', () => {
    const text = encodeInvite(INVITE)
    expect(decodeInvite(`\r\n  ${text}\t\n`)).toEqual(INVITE)
    expect(decodeInvite(`${text.slice(0, 40)}\n    ${text.slice(40)}\n`)).toEqual(INVITE)
  })

  it('that is cut anywhere says that it is incomplete', () => {
    const text = encodeInvite({ ...INVITE, domain: 'example.com' })
    for (let at = 0; at < text.length; at += 1) {
      const error = refusal(() => decodeInvite(text.slice(0, at)))
      expect(error).toMatchObject({ code: 'invite_invalid', scope: 'process' })
      expect(error.message).toContain('incomplete: copy it whole')
    }
  })

  it('that lost its beginning, or gained an end, is refused', () => {
    const text = encodeInvite(INVITE)
    for (let at = 1; at < text.length; at += 1) {
      expect(refusal(() => decodeInvite(text.slice(at))).code).toBe('invite_invalid')
    }
    for (const more of ['A', '=', 'AA', 'AAA', 'AAAA', '.', text]) {
      expect(refusal(() => decodeInvite(text + more)).code).toBe('invite_invalid')
    }
  })

  it('with any one character changed is refused', () => {
    const text = encodeInvite(INVITE)
    for (let at = 0; at < text.length; at += 1) {
      for (const character of 'Aa0_-+/= é') {
        if (character === text[at]) continue
        const changed = `${text.slice(0, at)}${character}${text.slice(at + 1)}`
        expect(refusal(() => decodeInvite(changed)).code).toBe('invite_invalid')
      }
    }
  })

  it('with any two neighbours swapped is refused', () => {
    const text = encodeInvite({ ...INVITE, secret: newSecret() })
    for (let at = 0; at + 1 < text.length; at += 1) {
      if (text[at] === text[at + 1]) continue
      const swapped = `${text.slice(0, at)}${text[at + 1]}${text[at]}${text.slice(at + 2)}`
      expect(refusal(() => decodeInvite(swapped)).code).toBe('invite_invalid')
    }
  })

  it('of any text is refused, and the text is not repeated: it may hold a secret', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 8 }), (text) => {
        for (const tried of [text, `bg1_${text}`]) {
          const error = refusal(() => decodeInvite(tried))
          expect(error.code).toBe('invite_invalid')
          expect(error.message).not.toContain(text)
        }
      }),
    )
    expect(refusal(() => decodeInvite(`bg1_${'A'.repeat(1 << 20)}`)).message).toContain('too long')
  })

  it('of a later version says to upgrade', () => {
    expect(refusal(() => decodeInvite('bg2_AAAA')).message).toContain('upgrade')
    expect(refusal(() => decodeInvite(sealed('\x02'))).message).toContain('upgrade')
  })

  const pin = Buffer.alloc(32, 7)
  const secret = Buffer.alloc(16, 9)
  it.each([
    ['nothing', []],
    ['no address', ['\x01\0', pin, '\x04home\0', secret]],
    [
      'too many addresses',
      [
        `\x01${String.fromCharCode(INVITE_ADDRESSES + 1)}`,
        '\x03a:1'.repeat(INVITE_ADDRESSES + 1),
        pin,
        '\x04home\0',
        secret,
      ],
    ],
    ['an empty address', ['\x01\x01\0', pin, '\x04home\0', secret]],
    ['a line break in an address', ['\x01\x01\x04a\n:1', pin, '\x04home\0', secret]],
    ['an address longer than the invite', ['\x01\x01\xffa:1', pin, '\x04home\0', secret]],
    ['a name with a capital', ['\x01\x01\x03a:1', pin, '\x04Home\0', secret]],
    ['no name', ['\x01\x01\x03a:1', pin, '\0\0', secret]],
    ['a name of 64 characters', ['\x01\x01\x03a:1', pin, `\x40${'n'.repeat(64)}\0`, secret]],
    ['a domain with a slash', ['\x01\x01\x03a:1', pin, '\x04home\x03a/b', secret]],
    ['a short secret', ['\x01\x01\x03a:1', pin, '\x04home\0', secret.subarray(1)]],
    ['a long secret', ['\x01\x01\x03a:1', pin, '\x04home\0', secret, '\0']],
  ])('that somebody made with %s is refused', (_name, parts) => {
    const error = refusal(() => decodeInvite(sealed(...parts)))
    expect(error.code).toBe('invite_invalid')
    expect(error.message).not.toContain('incomplete')
  })

  it('is made by that very layout', () => {
    expect(sealed('\x01\x01\x10203.0.113.7:9001', pin, '\x04home\0', secret)).toBe(encodeInvite(INVITE))
  })

  it.each<[string, Partial<Invite>]>([
    ['no address', { addresses: [] }],
    ['too many addresses', { addresses: Array.from({ length: INVITE_ADDRESSES + 1 }, () => 'a:1') }],
    ['an address too long', { addresses: ['a'.repeat(INVITE_ADDRESS_BYTES + 1)] }],
    ['an address that is empty', { addresses: [''] }],
    ['an address that is not ASCII', { addresses: ['zürich:1'] }],
    ['a name too long', { name: 'n'.repeat(64) }],
    ['a name that is none', { name: 'my home' }],
    ['a domain too long', { domain: `${'d'.repeat(63)}.`.repeat(4).slice(0, -1) }],
    ['a domain that is empty', { domain: '' }],
  ])('is not made with %s', (_name, change) => {
    expect(refusal(() => encodeInvite({ ...INVITE, ...change })).code).toBe('config_invalid')
  })

  it('is not made with a secret of another length', () => {
    expect(() => encodeInvite({ ...INVITE, secret: new Uint8Array(15) })).toThrow(RangeError)
  })
})

describe('a secret', () => {
  it('has 16 bytes, and is another one each time', () => {
    const secrets = Array.from({ length: 50 }, newSecret)
    expect(secrets.every((secret) => secret.length === 16)).toBe(true)
    expect(new Set(secrets.map(hashSecret)).size).toBe(50)
  })

  it('is kept as SHA-256 in hex, and called by its first 8 characters', () => {
    // FIPS 180-4's own example is "abc".
    const hash = hashSecret(Buffer.from('abc'))
    expect(hash).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad')
    expect(inviteId(hash)).toBe('ba7816bf')
  })

  it('is the same by its hash, or not', () => {
    const hash = hashSecret(newSecret())
    expect(sameSecretHash(hash, hash.slice())).toBe(true)
    expect(sameSecretHash(hash, hashSecret(newSecret()))).toBe(false)
    expect(sameSecretHash(hash, hash.slice(1))).toBe(false)
    expect(sameSecretHash(hash, '')).toBe(false)
  })
})

describe('a name', () => {
  it.each(['a', '0', 'home', 'a-b', 'n'.repeat(63), 'xn--bcher-kva'])('may be %s', (name) => {
    expect(checkName(name)).toBe(name)
    expect(isName(name)).toBe(true)
  })

  it.each(['', '-', 'a-', '-a', 'A', 'a.b', 'a_b', 'a b', 'é', 'a\n', 'n'.repeat(64), '*'])(
    'may not be %j',
    (name) => {
      expect(isName(name)).toBe(false)
      expect(refusal(() => checkName(name))).toMatchObject({ code: 'config_invalid', scope: 'process' })
    },
  )
})
