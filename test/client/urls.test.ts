import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Reached, visitorUrls, type Whereabouts } from '../../src/client/urls.ts'

const http: Reached = { type: 'http', hosts: [] }
const tcp: Reached = { type: 'tcp', hosts: [] }
const at = (host: string, domain?: string): Whereabouts => ({ host, hosts: [host], domain })
const vps = at('vps.example.com', 'example.com')

describe('a URL for visitors', () => {
  it.each([
    ['http://0.0.0.0:9000'],
    ['http://[::]:9000'],
    ['http://10.0.0.5:9000'],
    ['http://localhost:9000'],
    ['http://203.0.113.7:9000/'],
  ])('has the host that was dialled and the port that the gateway says, as in %s', (said) => {
    expect(visitorUrls(http, [said], at('203.0.113.7')).urls).toEqual(['http://203.0.113.7:9000'])
  })

  it('has the host that was dialled also where the gateway knows itself by another of its addresses', () => {
    const two = { host: '203.0.113.7', hosts: ['VPS.example.com', '203.0.113.7'] }
    expect(visitorUrls(http, ['http://vps.example.com:9000'], two).urls).toEqual(['http://203.0.113.7:9000'])
  })

  it('has the dialled host for a port of its own, whatever the gateway calls itself', () => {
    expect(visitorUrls(tcp, ['tcp://anything:2222'], vps).urls).toEqual(['tcp://vps.example.com:2222'])
  })

  it('puts IPv6 in brackets, and leaves out the port that everybody knows', () => {
    expect(visitorUrls(http, ['http://[::]/'], at('2001:db8::1')).urls).toEqual(['http://[2001:db8::1]'])
  })

  it('needs no word of the gateway where the service names its port', () => {
    expect(visitorUrls({ ...tcp, port: 2222 }, [], vps).urls).toEqual(['tcp://vps.example.com:2222'])
  })

  it('has its own path', () => {
    const api = { ...http, path: '/api' }
    expect(visitorUrls(api, ['http://0.0.0.0:9000/theirs'], vps).urls).toEqual([
      'http://vps.example.com:9000/api',
    ])
  })

  it.each([
    ['javascript:alert(1)'],
    ['data:text/html,<script>'],
    ['https://vps.example.com:9000'],
    ['file:///etc/passwd'],
    ['http://vps.example.com:0'],
    ['http://vps.example.com:99999'],
    ['http://evil.example:9000'],
    ['not a url'],
    [''],
  ])('is not made of %s', (text) => {
    expect(visitorUrls(http, [text], vps)).toEqual({ urls: [], dropped: [text] })
  })

  it('is not made of a tcp URL without a port', () => {
    expect(visitorUrls(tcp, ['tcp://vps'], vps)).toEqual({ urls: [], dropped: ['tcp://vps'] })
  })

  it('keeps the port that the service names, whatever the gateway says', () => {
    const { urls, dropped } = visitorUrls({ ...tcp, port: 22 }, ['tcp://vps:2222'], vps)
    expect(urls).toEqual(['tcp://vps.example.com:22'])
    expect(dropped).toEqual(['tcp://vps:2222'])
  })

  it('is one for a service without a host', () => {
    const said = ['http://web.example.com', 'http://mail.example.com', 'http://web.example.com/']
    expect(visitorUrls(http, said, vps)).toEqual({ urls: ['http://web.example.com'], dropped: [said[1]] })
  })

  it('holds nothing of what the gateway wrote but a port', () => {
    const text = 'http://user:secret@0.0.0.0:8080/path?q=\u001b[31m#x'
    expect(visitorUrls(http, [text], at('vps')).urls).toEqual(['http://vps:8080'])
    const services: Reached[] = [http, { ...http, hosts: ['vps', '*'] }]
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.webUrl(), fc.string())),
        fc.constantFrom(...services),
        (said, service) => {
          const { urls } = visitorUrls(service, said, at('vps'))
          expect(urls.length).toBeLessThanOrEqual(Math.max(1, service.hosts.length))
          for (const url of urls) expect(url).toMatch(/^http:\/\/vps(:\d{1,5})?$/)
        },
      ),
      { numRuns: 30 }, // a web URL takes fast-check 10 ms
    )
  })
})

describe('a URL below the domain of a gateway', () => {
  it('has the label that the gateway chose', () => {
    expect(visitorUrls({ ...http, path: '/a' }, ['http://Web-Home.example.com:9000/b'], vps).urls).toEqual([
      'http://web-home.example.com:9000/a',
    ])
  })

  it.each([
    ['http://example.com'],
    ['http://a.b.example.com'],
    ['http://.example.com'],
    ['http://*.example.com'],
    ['http://a_b.example.com'],
    ['http://-a.example.com'],
    ['http://webexample.com'],
    ['http://web.example.com.'],
    ['http://web.example.com.evil.example'],
    ['tcp://web.example.com:80'],
  ])('is not %s', (text) => {
    expect(visitorUrls(http, [text], vps)).toEqual({ urls: [], dropped: [text] })
  })

  it('is none where no invite told of a domain', () => {
    const said = ['http://web.example.com']
    expect(visitorUrls(http, said, at('vps.example.com'))).toEqual({ urls: [], dropped: said })
  })
})

describe('URLs of a service with hosts', () => {
  const hosts = ['app.example.com', '*.app.example.com']

  it('are one per host, as its owner wrote it, with the port that the gateway says', () => {
    const said = ['http://app.example.com:9000/x']
    expect(visitorUrls({ ...http, hosts, path: '/api' }, said, at('203.0.113.7'))).toEqual({
      urls: ['http://app.example.com:9000/api', 'http://*.app.example.com:9000/api'],
      dropped: [],
    })
  })

  it('have each its own port if the gateway says so', () => {
    const said = ['http://evil.example:1', 'http://*.app.example.com:81', 'http://app.example.com']
    expect(visitorUrls({ ...http, hosts }, said, at('203.0.113.7')).urls).toEqual([
      'http://app.example.com',
      'http://*.app.example.com:81',
    ])
  })

  it('have the dialled host for the default route', () => {
    expect(visitorUrls({ ...http, hosts: ['*'] }, ['http://0.0.0.0:9000'], at('203.0.113.7')).urls).toEqual([
      'http://203.0.113.7:9000',
    ])
  })

  it('put IPv6 in brackets, however it is written', () => {
    const said = ['http://app.example.com:1', 'http://[2001:db8::1]:9000']
    for (const host of ['2001:db8::1', '[2001:db8::1]']) {
      expect(visitorUrls({ ...http, hosts: [host] }, said, vps).urls).toEqual(['http://[2001:db8::1]:9000'])
    }
  })

  it('are https with the port of TLS, which is left out where everybody knows it', () => {
    const https: Reached = { type: 'https', hosts }
    expect(visitorUrls(https, ['https://0.0.0.0:8443/x'], at('203.0.113.7')).urls).toEqual([
      'https://app.example.com:8443',
      'https://*.app.example.com:8443',
    ])
    expect(visitorUrls(https, ['https://app.example.com:443'], vps).urls).toEqual([
      'https://app.example.com',
      'https://*.app.example.com',
    ])
    expect(visitorUrls(https, ['http://app.example.com:80'], vps)).toEqual({
      urls: [],
      dropped: ['http://app.example.com:80'],
    })
  })

  it('are none without a port', () => {
    const said = ['https://app.example.com:9000']
    expect(visitorUrls({ ...http, hosts }, said, vps)).toEqual({ urls: [], dropped: said })
  })
})
