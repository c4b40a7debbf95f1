import { describe, expect, it } from 'vitest'
import { Generations } from '../../src/client/generation.ts'
import { type ClientService, offersFor, servicesByName } from '../../src/client/services.ts'
import { service } from './world.ts'

const gateway = { addresses: ['vps.example.com:9001'], pin: 'sha256:x' as const }
const generations = new Generations()

function offerOf(made: ClientService) {
  return offersFor(gateway, [made], generations)[0]
}

describe('what a gateway is told of a service', () => {
  it('is how visitors reach it, and what the gateway does to their requests', () => {
    const made = service('web', 8080, {
      hosts: ['app.example.com'],
      path: '/api',
      health: '/secret-health',
      retry: 'idempotent',
      rewrite: { host: 'intern.local', headers: [['X-From', 'blindgate']], stripPath: true },
    })
    expect(offerOf(made)).toEqual({
      name: 'web',
      type: 'http',
      hosts: ['app.example.com'],
      path: '/api',
      generation: expect.stringMatching(/^[0-9a-f]{16}$/) as string,
      retry: 'idempotent',
      rewrite: { host: 'intern.local', headers: [['X-From', 'blindgate']], stripPath: true },
    })
  })

  it('is no more than that', () => {
    expect(offerOf(service('ssh', 22, { type: 'tcp', port: 2222 }))).toEqual({
      name: 'ssh',
      type: 'tcp',
      port: 2222,
    })
  })

  it('is of https the hosts, and that TLS ends behind the client', () => {
    const made = service('web', 8443, { type: 'https', tls: 'passthrough', hosts: ['app.example.com'] })
    expect(offerOf(made)).toEqual({
      name: 'web',
      type: 'https',
      hosts: ['app.example.com'],
      tls: 'passthrough',
    })
  })

  it('keeps streams to one visitor each where the target is told who it is', () => {
    expect(offerOf(service('web', 80, { proxyHeader: true }))).toMatchObject({ share: false })
    expect(offerOf(service('web', 80, { serve: () => {} }))).toMatchObject({ share: false })
    expect(offerOf(service('web', 80))).not.toHaveProperty('share')
  })

  it('must fit half a message', () => {
    const headers = Array.from({ length: 32 }, (_, at): [string, string] => [`X-${at}`, '\u00fc'.repeat(600)])
    expect(() => servicesByName([service('web', 80, { rewrite: { headers } })], [gateway])).toThrow(
      'service "web" has too many hosts or headers for one message',
    )
  })
})

describe('a generation', () => {
  const of = (made: ClientService) => generations.of(made)

  it('is another when another target answers, or answers otherwise, and the same for the same', () => {
    const web = service('web', 8080)
    expect(of(service('renamed', '127.0.0.1:8080', { idleMs: 5, path: '/a' }))).toBe(of(web))
    const others = [
      service('web', 8081),
      service('web', 'unix:/run/app.sock'),
      service('web', 8080, { proxyHeader: true }),
      service('web', 8080, { serve: () => {} }),
    ]
    expect(new Set([web, ...others].map(of)).size).toBe(5)
  })

  it('is one per object that serves in this process', () => {
    const serve = (): void => {}
    expect(of(service('a', 1, { serve }))).toBe(of(service('b', 2, { serve })))
    expect(of(service('a', 1, { serve }))).not.toBe(of(service('a', 1, { serve: () => {} })))
  })

  it('cannot be guessed from a target: elsewhere the same target has another', () => {
    expect(new Generations().of(service('web', 8080))).not.toBe(of(service('web', 8080)))
  })
})
