import { describe, expect, test } from 'vitest'
import { Authority } from '../../src/gateway/authority.ts'
import { Enrolments } from '../../src/gateway/enrolments.ts'
import { INSTANCES_PER_KEY, REVOKED_KEYS } from '../../src/limits.ts'
import { enrolled, grants, HOUR, keyOf, NOW, refusal, reread, secretOf } from './people.ts'

const BOTH = grants(['home', [[1, 65_535]], ['*']], ['office', [[1, 65_535]], ['*']])

describe('revoking a name', () => {
  test('takes its keys, voids its invites and releases its routes, and leaves the others alone', () => {
    const authority = enrolled(['home', 'office', 'home'], BOTH)
    authority.createInvite({
      name: 'home',
      uses: 9,
      expiresAt: NOW + HOUR,
      secretHash: secretOf(9),
      now: NOW,
    })
    authority.claim('default', 'home')
    authority.keepPort('home', 'ssh', 2222)
    authority.claim('tcp:3333', 'office')
    expect(authority.revoke('home', NOW)).toEqual({
      keys: [keyOf(0), keyOf(2)],
      names: ['home'],
      routes: ['default', 'tcp:2222'],
    })
    for (const gateway of [authority, new Authority(reread(authority.record), BOTH)]) {
      expect([0, 1, 2].map((n) => gateway.identify(keyOf(n)))).toEqual([
        'revoked',
        { name: 'office' },
        'revoked',
      ])
      expect(gateway.owners).toEqual([{ route: 'tcp:3333', name: 'office' }])
      expect(gateway.portFor('home', 'ssh')).toBeUndefined()
      const late = refusal(() => gateway.redeem({ secretHash: secretOf(9), key: keyOf(3), now: NOW }))
      expect(late.code).toBe('invite_invalid')
    }
  })

  test('works on a name that has only an open invite, or only a route', () => {
    const authority = new Authority(undefined, undefined)
    authority.createInvite({
      name: 'home',
      uses: 1,
      expiresAt: NOW + HOUR,
      secretHash: secretOf(0),
      now: NOW,
    })
    expect(authority.revoke('home', NOW)).toEqual({ keys: [], names: ['home'], routes: [] })
    const other = enrolled(['home'], undefined)
    other.claim('default', 'home')
    other.revoke(keyOf(0), NOW)
    expect(other.revoke('home', NOW)).toEqual({ keys: [], names: ['home'], routes: ['default'] })
  })

  test('that does not exist says which do', () => {
    const { code, message } = refusal(() => enrolled(['home', 'office'], BOTH).revoke('hmoe', NOW))
    expect(code).toBe('not_found')
    expect(message).toBe('there is no name "hmoe": there is "home", "office"')
  })

  test('leaves nobody who can claim in its name, whatever was under way', () => {
    const authority = enrolled(['home'], undefined)
    authority.revoke('home', NOW)
    expect(refusal(() => authority.claim('default', 'home')).code).toBe('not_granted')
    expect(refusal(() => authority.keepPort('home', 'ssh', 2222)).code).toBe('not_granted')
    expect(authority.owners).toEqual([])
  })
})

describe('revoking a key', () => {
  test('voids the invite that enrolled it and releases nothing', () => {
    const authority = new Authority(undefined, undefined)
    for (const n of [0, 1]) {
      authority.createInvite({ uses: 2, expiresAt: NOW + HOUR, secretHash: secretOf(n), now: NOW })
      authority.redeem({ secretHash: secretOf(n), key: keyOf(n), now: NOW })
    }
    authority.claim('default', 'home')
    expect(authority.revoke(keyOf(0), NOW)).toEqual({ keys: [keyOf(0)], names: [], routes: [] })
    expect(authority.ownerOf('default')).toBe('home')
    expect(refusal(() => authority.redeem({ secretHash: secretOf(0), key: keyOf(5), now: NOW })).code).toBe(
      'invite_invalid',
    )
    expect(authority.redeem({ secretHash: secretOf(1), key: keyOf(5), now: NOW }).name).toBe('home')
    expect(authority.identify(keyOf(1))).toEqual({ name: 'home' })
  })

  test('twice cuts the same key again and changes nothing', () => {
    const authority = enrolled(['home'], undefined)
    authority.revoke(keyOf(0), NOW)
    const { revision } = authority
    expect(authority.revoke(keyOf(0), NOW + 1).keys).toEqual([keyOf(0)])
    expect(authority.revision).toBe(revision)
  })

  test('takes the beginning of a key, from 8 characters on', () => {
    const authority = enrolled(['home'], undefined)
    expect(refusal(() => authority.revoke(keyOf(0).slice(0, 14), NOW)).code).toBe('usage')
    expect(authority.revoke(keyOf(0).slice(0, 15), NOW).keys).toEqual([keyOf(0)])
  })

  test('refuses a beginning that two keys share', () => {
    const twins = [`sha256:AAAAAAAA${'B'.repeat(34)}A`, `sha256:AAAAAAAA${'C'.repeat(34)}A`] as const
    const authority = new Authority(undefined, undefined)
    authority.createInvite({ uses: 2, expiresAt: NOW + HOUR, secretHash: secretOf(0), now: NOW })
    for (const key of twins) authority.redeem({ secretHash: secretOf(0), key, now: NOW })
    expect(refusal(() => authority.revoke('sha256:AAAAAAAA', NOW)).message).toContain('2 keys')
    expect(authority.clients).toHaveLength(2)
    expect(authority.revoke('sha256:AAAAAAAAB', NOW).keys).toEqual([twins[0]])
    expect(authority.revoke('sha256:AAAAAAAA', NOW).keys).toEqual([twins[1]])
  })

  test('that nobody has says how to see the ones there are', () => {
    const { code, message } = refusal(() => enrolled(['home'], undefined).revoke(keyOf(1), NOW))
    expect(code).toBe('not_found')
    expect(message).toContain('blindgate clients')
  })

  test('is remembered for the last ones, and an older one becomes a stranger', () => {
    const invite = '00000000'
    const many = Array.from({ length: REVOKED_KEYS }, (_, n) => ({
      key: `sha256:${n}` as const,
      name: 'home',
      at: NOW,
    }))
    const enrolments = new Enrolments([], many)
    enrolments.add({ key: keyOf(0), name: 'home', invite, now: NOW })
    enrolments.revoke(keyOf(0), NOW)
    expect(enrolments.revoked(keyOf(0))).toBeDefined()
    expect(enrolments.revoked('sha256:0')).toBeUndefined()
    expect(enrolments.revoked('sha256:1')).toBeDefined()
  })
})

describe('a sighting', () => {
  test('notes when and from where, the latest first, and only of enrolled keys', () => {
    const authority = enrolled(['home'], undefined)
    const { revision, sightings } = authority
    for (let n = 0; n <= INSTANCES_PER_KEY; n++) authority.seen(keyOf(0), `instance ${n}`, NOW + n)
    authority.seen(keyOf(0), 'instance 1', NOW + 50)
    authority.seen(keyOf(1), 'stranger', NOW + 60)
    const [client] = authority.clients
    expect(client?.lastSeen).toBe(NOW + 50)
    expect(client?.instances[0]).toEqual({ instance: 'instance 1', at: NOW + 50 })
    expect(client?.instances).toHaveLength(INSTANCES_PER_KEY)
    expect(new Set(client?.instances.map(({ instance }) => instance)).size).toBe(INSTANCES_PER_KEY)
    expect(authority.revision).toBe(revision)
    expect(authority.sightings).toBe(sightings + INSTANCES_PER_KEY + 2)
  })
})
