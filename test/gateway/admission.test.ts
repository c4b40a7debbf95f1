import { describe, expect, test } from 'vitest'
import { Authority } from '../../src/gateway/authority.ts'
import { INVITE_REMEMBERED_MS, INVITE_USES_MAX, INVITES } from '../../src/limits.ts'
import { enrolled, grants, HOUR, keyOf, NOW, refusal, reread, secretOf } from './people.ts'

const open = { uses: 1, expiresAt: NOW + HOUR, now: NOW }

describe('an invite', () => {
  test('is for home when no name is said and no other name is enrolled', () => {
    const authority = new Authority(undefined, undefined)
    const made = authority.createInvite({ ...open, secretHash: secretOf(0) })
    expect(made).toEqual({ name: 'home', id: secretOf(0).slice(0, 8), sharesWith: [] })
    authority.redeem({ secretHash: secretOf(0), key: keyOf(0), now: NOW })
    expect(authority.createInvite({ ...open, secretHash: secretOf(1) }).name).toBe('home')
  })

  test('needs a name once another than home is enrolled', () => {
    const authority = enrolled(['office'], grants(['home', []], ['office', []]))
    const { code, message } = refusal(() => authority.createInvite({ ...open, secretHash: secretOf(9) }))
    expect(code).toBe('usage')
    expect(message).toContain('--name NAME')
    expect(message).toContain('"office"')
  })

  test('needs a name where home has no grant', () => {
    const authority = new Authority(undefined, grants(['office', []]))
    const { message } = refusal(() => authority.createInvite({ ...open, secretHash: secretOf(0) }))
    expect(message).toContain('there is "office"')
  })

  test('for a name without a grant is refused with the table to add', () => {
    const authority = new Authority(undefined, grants(['home', []]))
    const { code, message } = refusal(() =>
      authority.createInvite({ ...open, name: 'office', secretHash: secretOf(0) }),
    )
    expect(code).toBe('not_granted')
    expect(message).toContain('[grant.office]')
  })

  test('for a second name without any grants is refused with the lines to add', () => {
    const authority = enrolled(['home'], undefined)
    const { code, message } = refusal(() =>
      authority.createInvite({ ...open, name: 'office', secretHash: secretOf(9) }),
    )
    expect(code).toBe('usage')
    expect(message).toContain('[grant.home]')
    expect(message).toContain('[grant.office]')
    expect(message).not.toContain('\n')
  })

  test('for a second name is refused while an invite for the first is open, and after a revoke is not', () => {
    const authority = new Authority(undefined, undefined)
    authority.createInvite({ ...open, name: 'hmoe', secretHash: secretOf(0) })
    const home = { ...open, name: 'home', secretHash: secretOf(1) }
    expect(refusal(() => authority.createInvite(home)).message).toContain('"hmoe"')
    authority.revoke('hmoe', NOW)
    expect(authority.createInvite(home).name).toBe('home')
  })

  test('for a second name is refused while the first owns a route, though its keys are gone', () => {
    const authority = enrolled(['home'], undefined)
    authority.claim('default', 'home')
    authority.revoke(keyOf(0), NOW)
    const office = { ...open, name: 'office', secretHash: secretOf(9) }
    expect(refusal(() => authority.createInvite(office)).code).toBe('usage')
    authority.revoke('home', NOW)
    expect(authority.createInvite(office).name).toBe('office')
  })

  test('into an enrolled name says whose visitors the new machine will share', () => {
    const authority = enrolled(['home'], undefined)
    expect(authority.createInvite({ ...open, secretHash: secretOf(9) }).sharesWith).toEqual([keyOf(0)])
  })

  test.each([0, -1, 1.5, INVITE_USES_MAX + 1, Number.NaN])('cannot have %s uses', (uses) => {
    const authority = new Authority(undefined, undefined)
    expect(refusal(() => authority.createInvite({ ...open, uses, secretHash: secretOf(0) })).code).toBe(
      'usage',
    )
    expect(authority.revision).toBe(0)
  })

  test.each([NOW, NOW - 1, Number.NaN])('cannot expire at %s when it is now', (expiresAt) => {
    const authority = new Authority(undefined, undefined)
    const refused = refusal(() => authority.createInvite({ ...open, expiresAt, secretHash: secretOf(0) }))
    expect(refused.message).toContain('--expires')
  })

  test.each(['', 'Home', 'a.b', '-a', 'a-', 'a'.repeat(64), '__proto__', 'häuser'])(
    'cannot be for "%s"',
    (name) => {
      const authority = new Authority(undefined, undefined)
      expect(refusal(() => authority.createInvite({ ...open, name, secretHash: secretOf(0) })).scope).toBe(
        'process',
      )
      expect(authority.record.invites).toEqual([])
    },
  )

  test('goes to disk as a hash, an id and its uses, and nothing else of the secret', () => {
    const authority = new Authority(undefined, undefined)
    authority.createInvite({ ...open, uses: 3, secretHash: secretOf(0) })
    expect(reread(authority.record).invites).toEqual([
      {
        id: secretOf(0).slice(0, 8),
        name: 'home',
        hash: secretOf(0),
        uses: 3,
        left: 3,
        createdAt: NOW,
        expiresAt: NOW + HOUR,
        first: false,
        voided: false,
      },
    ])
  })

  test('is never made twice of one secret', () => {
    const authority = new Authority(undefined, undefined)
    authority.createInvite({ ...open, secretHash: secretOf(0) })
    expect(refusal(() => authority.createInvite({ ...open, secretHash: secretOf(0) })).code).toBe('usage')
    expect(reread(authority.record).invites).toHaveLength(1)
  })

  test('is one of a bounded number: spent ones make room, open ones do not', () => {
    const authority = new Authority(undefined, undefined)
    for (let n = 0; n < INVITES; n++) authority.createInvite({ ...open, secretHash: secretOf(n) })
    expect(refusal(() => authority.createInvite({ ...open, secretHash: secretOf(INVITES) })).code).toBe(
      'usage',
    )
    authority.redeem({ secretHash: secretOf(7), key: keyOf(7), now: NOW })
    authority.createInvite({ ...open, secretHash: secretOf(INVITES) })
    expect(authority.record.invites).toHaveLength(INVITES)
    expect(authority.record.invites.some((invite) => invite.hash === secretOf(7))).toBe(false)
  })

  test('is forgotten a week after it expired', () => {
    const authority = new Authority(undefined, undefined)
    authority.createInvite({ ...open, secretHash: secretOf(0) })
    const later = NOW + HOUR + INVITE_REMEMBERED_MS
    authority.createInvite({ uses: 1, expiresAt: later + HOUR, now: later, secretHash: secretOf(1) })
    expect(authority.record.invites.map((invite) => invite.hash)).toEqual([secretOf(1)])
  })
})

describe('the first-run invite', () => {
  test('voids the one before it', () => {
    const authority = new Authority(undefined, undefined)
    authority.createFirstInvite({ ...open, secretHash: secretOf(0) })
    authority.createFirstInvite({ ...open, secretHash: secretOf(1) })
    const late = refusal(() => authority.redeem({ secretHash: secretOf(0), key: keyOf(0), now: NOW }))
    expect(late.code).toBe('invite_invalid')
    expect(authority.redeem({ secretHash: secretOf(1), key: keyOf(0), now: NOW }).name).toBe('home')
  })

  test('leaves invites that were asked for alone', () => {
    const authority = new Authority(undefined, undefined)
    authority.createInvite({ ...open, secretHash: secretOf(0) })
    authority.createFirstInvite({ ...open, secretHash: secretOf(1) })
    expect(authority.redeem({ secretHash: secretOf(0), key: keyOf(0), now: NOW }).again).toBe(false)
  })

  test('is not made once somebody is enrolled', () => {
    const authority = enrolled(['home'], undefined)
    const { revision } = authority
    expect(authority.createFirstInvite({ ...open, secretHash: secretOf(9) })).toBeUndefined()
    expect(authority.revision).toBe(revision)
  })

  test('is for the one granted name, and not made where the grants leave open for whom', () => {
    const one = new Authority(undefined, grants(['office', []]))
    expect(one.createFirstInvite({ ...open, secretHash: secretOf(0) })?.name).toBe('office')
    const two = new Authority(undefined, grants(['office', []], ['lab', []]))
    expect(two.createFirstInvite({ ...open, secretHash: secretOf(0) })).toBeUndefined()
  })

  test('gives way to an invite that the operator made for another name', () => {
    const authority = new Authority(undefined, undefined)
    authority.createFirstInvite({ ...open, secretHash: secretOf(0) })
    authority.createInvite({ ...open, name: 'office', secretHash: secretOf(1) })
    const late = refusal(() => authority.redeem({ secretHash: secretOf(0), key: keyOf(0), now: NOW }))
    expect(late.code).toBe('invite_invalid')
  })
})

describe('redeeming', () => {
  const invited = (uses = 1) => {
    const authority = new Authority(undefined, undefined)
    authority.createInvite({ ...open, uses, secretHash: secretOf(0) })
    return authority
  }

  test('enrolls a key and takes one use', () => {
    const authority = invited(2)
    const { revision } = authority
    const redeemed = authority.redeem({
      secretHash: secretOf(0),
      key: keyOf(0),
      instance: 'here',
      now: NOW + 1,
    })
    expect(redeemed).toEqual({ name: 'home', again: false, inviteId: secretOf(0).slice(0, 8), usesLeft: 1 })
    expect(authority.revision).toBeGreaterThan(revision)
    expect(authority.identify(keyOf(0))).toEqual({ name: 'home' })
    expect(authority.clients).toEqual([
      {
        key: keyOf(0),
        name: 'home',
        invite: secretOf(0).slice(0, 8),
        enrolledAt: NOW + 1,
        lastSeen: NOW + 1,
        instances: [{ instance: 'here', at: NOW + 1 }],
      },
    ])
  })

  test('again with the same key and secret gives the same answer and takes nothing, even when all is spent', () => {
    const authority = invited()
    authority.redeem({ secretHash: secretOf(0), key: keyOf(0), now: NOW })
    const again = authority.redeem({ secretHash: secretOf(0), key: keyOf(0), now: NOW + 2 * HOUR })
    expect(again).toEqual({ name: 'home', again: true, inviteId: secretOf(0).slice(0, 8), usesLeft: 0 })
    expect(authority.clients).toHaveLength(1)
  })

  test('again is never granted after a revoke, neither of the key nor of the name', () => {
    for (const what of [keyOf(0), 'home']) {
      const authority = invited(5)
      authority.redeem({ secretHash: secretOf(0), key: keyOf(0), now: NOW })
      authority.revoke(what, NOW)
      const restarted = new Authority(reread(authority.record), undefined)
      for (const gateway of [authority, restarted]) {
        const again = refusal(() => gateway.redeem({ secretHash: secretOf(0), key: keyOf(0), now: NOW }))
        expect(again.code).toBe('revoked')
        expect(again.message).toContain('new key')
        const other = refusal(() => gateway.redeem({ secretHash: secretOf(0), key: keyOf(1), now: NOW }))
        expect(other.code).toBe('invite_invalid')
      }
    }
  })

  test('a revoked key is not let in by a new invite either: who stole it would come in with it', () => {
    const authority = invited(5)
    authority.redeem({ secretHash: secretOf(0), key: keyOf(0), now: NOW })
    authority.revoke(keyOf(0), NOW)
    authority.createInvite({ ...open, secretHash: secretOf(1) })
    expect(refusal(() => authority.redeem({ secretHash: secretOf(1), key: keyOf(0), now: NOW })).code).toBe(
      'revoked',
    )
    expect(authority.redeem({ secretHash: secretOf(1), key: keyOf(1), now: NOW }).usesLeft).toBe(0)
  })

  test('an unknown secret is invite_invalid', () => {
    for (const secretHash of [secretOf(1), '', secretOf(0).slice(1), `${secretOf(0)}0`]) {
      const { code, scope } = refusal(() => invited().redeem({ secretHash, key: keyOf(0), now: NOW }))
      expect(code).toBe('invite_invalid')
      expect(scope).toBe('tunnel')
    }
  })

  test('an expired one is invite_expired, from the very millisecond', () => {
    const late = refusal(() => invited().redeem({ secretHash: secretOf(0), key: keyOf(0), now: NOW + HOUR }))
    expect(late.code).toBe('invite_expired')
    expect(late.message).toContain('blindgate invite')
    const inTime = invited().redeem({ secretHash: secretOf(0), key: keyOf(0), now: NOW + HOUR - 1 })
    expect(inTime.name).toBe('home')
  })

  test('a used one is invite_used and says how to revoke the key that used it', () => {
    const authority = invited(2)
    authority.redeem({ secretHash: secretOf(0), key: keyOf(0), now: NOW })
    authority.redeem({ secretHash: secretOf(0), key: keyOf(1), now: NOW })
    const { code, message } = refusal(() =>
      authority.redeem({ secretHash: secretOf(0), key: keyOf(2), now: NOW }),
    )
    expect(code).toBe('invite_used')
    expect(message).toContain(`blindgate revoke ${keyOf(1)}`)
    expect(authority.identify(keyOf(2))).toBeUndefined()
  })

  test('a key that is enrolled under one name cannot come in under another', () => {
    const authority = enrolled(['home'], grants(['home', []], ['office', []]))
    authority.createInvite({ ...open, name: 'office', secretHash: secretOf(9) })
    const { code, message } = refusal(() =>
      authority.redeem({ secretHash: secretOf(9), key: keyOf(0), now: NOW }),
    )
    expect(code).toBe('invite_invalid')
    expect(message).toContain('--state')
    expect(authority.redeem({ secretHash: secretOf(9), key: keyOf(1), now: NOW }).name).toBe('office')
  })

  test('a refused one changes nothing', () => {
    const authority = enrolled(['home'], undefined)
    const before = { record: authority.record, revision: authority.revision, sightings: authority.sightings }
    for (const n of [0, 5]) {
      refusal(() => authority.redeem({ secretHash: secretOf(n), key: keyOf(7), instance: 'x', now: NOW }))
    }
    expect({
      record: authority.record,
      revision: authority.revision,
      sightings: authority.sightings,
    }).toEqual(before)
  })

  test('a second name is kept out when the grants were taken from the file meanwhile', () => {
    const authority = enrolled(['home'], grants(['home', []], ['office', []]))
    authority.createInvite({ ...open, name: 'office', secretHash: secretOf(9) })
    authority.setGrants(undefined)
    expect(refusal(() => authority.redeem({ secretHash: secretOf(9), key: keyOf(1), now: NOW })).code).toBe(
      'invite_invalid',
    )
  })
})
