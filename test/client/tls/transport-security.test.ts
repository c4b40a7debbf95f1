import { afterEach, describe, expect, test } from 'vitest'
import type { Certificate, CertificateSource } from '../../../src/client/tls/certificate.ts'
import { strictTransportSecurity, WithTransportSecurity } from '../../../src/client/tls/transport-security.ts'
import type { State } from '../../../src/state/index.ts'
import { World } from '../../gateway/world.ts'
import { recordingLog } from '../world.ts'

const DAY = 86_400_000
const CERTIFICATE: Certificate = { key: '', chain: '' }

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

function source(state: State | undefined, now: () => number, current: Certificate | undefined) {
  const inner: CertificateSource = {
    current,
    trouble: undefined,
    transportSecurity: undefined,
    changed() {},
    start() {},
    close() {},
  }
  const { log } = recordingLog()
  const secured = new WithTransportSecurity(inner, { service: 'web', state, log, now })
  secured.start()
  return { inner, secured }
}

describe('what browsers are told', () => {
  test('is a day at first, and a year when it has gone well for a week', () => {
    expect(strictTransportSecurity(0, 0)).toBe('max-age=86400')
    expect(strictTransportSecurity(0, 7 * DAY - 1)).toBe('max-age=86400')
    expect(strictTransportSecurity(0, 7 * DAY)).toBe('max-age=31536000')
  })

  test('is nothing without a certificate, and begins when there is one', () => {
    let now = 100 * DAY
    const { inner, secured } = source(undefined, () => now, undefined)
    expect(secured.transportSecurity).toBeUndefined()
    Object.assign(inner, { current: CERTIFICATE })
    inner.changed()
    expect(secured.transportSecurity).toBe('max-age=86400')
    now += 8 * DAY
    expect(secured.transportSecurity).toBe('max-age=31536000')
    Object.assign(inner, { current: undefined })
    inner.changed()
    expect(secured.transportSecurity).toBeUndefined()
  })

  test('is remembered over restarts, unless the clock says that it is yet to come', async () => {
    const state = await world.folder()
    await state.writeJson('transport-security-web.json', { since: 10 * DAY })
    const later = source(state, () => 18 * DAY, CERTIFICATE).secured
    await expect.poll(() => later.transportSecurity).toBe('max-age=31536000')
    await state.writeJson('transport-security-web.json', { since: 30 * DAY })
    const earlier = source(state, () => 18 * DAY, CERTIFICATE).secured
    await expect
      .poll(async () => (await state.read('transport-security-web.json'))?.toString())
      .toContain(`${18 * DAY}`)
    expect(earlier.transportSecurity).toBe('max-age=86400')
  })
})
