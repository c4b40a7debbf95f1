import { createPrivateKey, createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  createIdentity,
  type Pin,
  parsePin,
  peerPin,
  pinOf,
  readIdentity,
  samePin,
} from '../../src/identity/index.ts'

const vectors = JSON.parse(readFileSync(new URL('certificates.vectors.json', import.meta.url), 'utf8')) as {
  ed25519: { key: string; certificate: string; pin: Pin }
  others: { kind: string; certificate: string }[]
}
const known = vectors.ed25519

describe('a pin', () => {
  it('is SHA-256 of the DER SPKI in unpadded base64, as openssl has it', () => {
    expect(pinOf(createPublicKey(createPrivateKey(known.key)))).toBe(known.pin)
    expect(peerPin(new X509Certificate(known.certificate))).toBe(known.pin)
    expect(known.pin).toMatch(/^sha256:[A-Za-z0-9+/]{43}$/)
  })

  it('is the same for every certificate of one key: dates, names, serials and issuers do not count', async () => {
    await import('reflect-metadata')
    const { X509CertificateGenerator } = await import('@peculiar/x509')
    const subject = await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])
    const issuer = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, [
      'sign',
      'verify',
    ])
    if (!('publicKey' in subject)) throw new Error('no pair')
    const certificate = await X509CertificateGenerator.create({
      subject: 'CN=long expired',
      issuer: 'CN=somebody else',
      notBefore: new Date('1990-01-01'),
      notAfter: new Date('1990-01-02'),
      publicKey: subject.publicKey,
      signingKey: issuer.privateKey,
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    })
    const spki = Buffer.from(await crypto.subtle.exportKey('spki', subject.publicKey))
    expect(peerPin(new X509Certificate(certificate.toString('pem')))).toBe(
      pinOf(createPublicKey({ key: spki, format: 'der', type: 'spki' })),
    )
  })

  it.each(vectors.others)('is not given to a peer with an $kind key', ({ certificate }) => {
    expect(peerPin(new X509Certificate(certificate))).toBeUndefined()
  })

  it('is not given to a peer without a certificate', () => {
    expect(peerPin(undefined)).toBeUndefined()
  })

  it('is read as typed, with blanks around it', () => {
    expect(parsePin(known.pin)).toBe(known.pin)
    expect(parsePin(`\n ${known.pin}\t`)).toBe(known.pin)
  })

  it.each([
    '',
    'sha256:',
    known.pin.slice(0, -1),
    `${known.pin}A`,
    `${known.pin}=`,
    known.pin.toUpperCase(),
    known.pin.replace('sha256:', 'sha512:'),
    known.pin.slice('sha256:'.length),
    // The last character carries two bits of nothing: with them set it is another text of the same key.
    `${known.pin.slice(0, -1)}${String.fromCharCode(known.pin.charCodeAt(known.pin.length - 1) + 1)}`,
    known.pin.replace(/.{5}$/, '-____'),
    'x'.repeat(10_000),
  ])('is refused for people when it is %j', (text) => {
    expect(() => parsePin(text)).toThrow(
      expect.objectContaining({ code: 'config_invalid', scope: 'process' }),
    )
    try {
      parsePin(text)
    } catch (error) {
      expect(String(error).length).toBeLessThan(300)
      expect(String(error)).not.toContain('\n')
    }
  })

  it('equals itself and no other', () => {
    expect(samePin(known.pin, parsePin(known.pin))).toBe(true)
    fc.assert(
      fc.property(fc.integer({ min: 0, max: known.pin.length - 1 }), (at) => {
        const changed = `${known.pin.slice(0, at)}!${known.pin.slice(at + 1)}` as Pin
        expect(samePin(known.pin, changed)).toBe(false)
      }),
    )
    expect(samePin(known.pin, known.pin.slice(0, -1) as Pin)).toBe(false)
    expect(samePin('sha256:', 'sha256:')).toBe(false)
  })
})

describe('an identity', () => {
  it('is made with a key and a certificate of one another, good from 1970 to 9999', async () => {
    const identity = createIdentity()
    const certificate = new X509Certificate(identity.certificate)
    expect(new Date(certificate.validFrom)).toEqual(new Date('1970-01-01T00:00:00Z'))
    expect(new Date(certificate.validTo)).toEqual(new Date('9999-12-31T23:59:59Z'))
    expect(certificate.publicKey.asymmetricKeyType).toBe('ed25519')
    expect(certificate.verify(certificate.publicKey)).toBe(true)
    expect(certificate.subject).toBe(certificate.issuer)
    expect(peerPin(certificate)).toBe(identity.pin)
    expect(identity.key).toMatch(/^-----BEGIN PRIVATE KEY-----\n/)
    expect(readIdentity(identity.key, identity.certificate)).toEqual(identity)
  })

  it('is what a library takes for a certificate, too', async () => {
    await import('reflect-metadata')
    const x509 = await import('@peculiar/x509')
    const certificate = new x509.X509Certificate(createIdentity().certificate)
    expect([certificate.subject, certificate.issuer]).toEqual(['CN=blindgate', 'CN=blindgate'])
    expect(certificate.serialNumber).toMatch(/^[4-7][0-9a-f]{31}$/)
    expect(await certificate.verify({ publicKey: certificate.publicKey, signatureOnly: true })).toBe(true)
  })

  it('is another one each time, its certificate’s number too', async () => {
    const [one, two] = [createIdentity(), createIdentity()]
    expect(one.pin).not.toBe(two.pin)
    expect(new X509Certificate(one.certificate).serialNumber).not.toBe(
      new X509Certificate(two.certificate).serialNumber,
    )
  })

  it('is read back with the pin of its key', () => {
    expect(readIdentity(known.key, known.certificate)).toEqual(known)
  })

  const other = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  it.each([
    ['a key and a certificate that do not belong together', other, known.certificate],
    ['a certificate of another kind', known.key, vectors.others[0]?.certificate ?? ''],
    ['a key cut short by a crash', known.key.slice(0, 60), known.certificate],
    ['a certificate cut short by a crash', known.key, known.certificate.slice(0, 200)],
    ['empty files', '', ''],
    ['the files in each other’s place', known.certificate, known.key],
    ['a certificate damaged in a byte', known.key, known.certificate.replace('MII', 'MIX')],
  ])('is refused for %s, with what to do and nothing of the key', (_name, key, certificate) => {
    try {
      readIdentity(key, certificate)
    } catch (error) {
      expect(error).toMatchObject({ code: 'state_invalid', scope: 'process' })
      expect((error as Error).cause).toBeUndefined()
      expect(String(error)).toMatch(/restore .* or remove both/)
      return
    }
    throw new Error('it was accepted')
  })

  it('is refused for a key and a certificate of one another that are not Ed25519', async () => {
    await import('reflect-metadata')
    const { X509CertificateGenerator } = await import('@peculiar/x509')
    const keys = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, [
      'sign',
      'verify',
    ])
    const certificate = await X509CertificateGenerator.createSelfSigned({ name: 'CN=ec', keys })
    const der = Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64')
    const key = `-----BEGIN PRIVATE KEY-----\n${der}\n-----END PRIVATE KEY-----\n`
    expect(() => readIdentity(key, certificate.toString('pem'))).toThrow(
      expect.objectContaining({
        code: 'state_invalid',
        message: expect.stringContaining('not an Ed25519 key'),
      }),
    )
  })
})
