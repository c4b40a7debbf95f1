import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { visitorUrls } from '../../src/client/urls.ts'

const http = { type: 'http' } as const
const tcp = { type: 'tcp' } as const

describe('a URL for visitors', () => {
  it('has the host that was dialled and the port that the gateway says', () => {
    expect(visitorUrls(http, ['http://0.0.0.0:9000'], '203.0.113.7').urls).toEqual([
      'http://203.0.113.7:9000',
    ])
    expect(visitorUrls(tcp, ['tcp://anything:2222'], 'vps.example.com').urls).toEqual([
      'tcp://vps.example.com:2222',
    ])
  })

  it('puts IPv6 in brackets, and leaves out the port that everybody knows', () => {
    expect(visitorUrls(http, ['http://[::]/'], '2001:db8::1').urls).toEqual(['http://[2001:db8::1]'])
  })

  it('needs no word of the gateway where the service names its port', () => {
    expect(visitorUrls({ type: 'tcp', port: 2222 }, [], 'vps').urls).toEqual(['tcp://vps:2222'])
  })

  it.each([
    ['javascript:alert(1)'],
    ['data:text/html,<script>'],
    ['https://vps:9000'],
    ['file:///etc/passwd'],
    ['http://vps:0'],
    ['http://vps:99999'],
    ['not a url'],
    [''],
  ])('is not made of %s', (text) => {
    expect(visitorUrls(http, [text], 'vps')).toEqual({ urls: [], dropped: [text] })
  })

  it('is not made of a tcp URL without a port', () => {
    expect(visitorUrls(tcp, ['tcp://vps'], 'vps')).toEqual({ urls: [], dropped: ['tcp://vps'] })
  })

  it('keeps the port that the service names, whatever the gateway says', () => {
    const { urls, dropped } = visitorUrls({ type: 'tcp', port: 22 }, ['tcp://vps:2222'], 'vps')
    expect(urls).toEqual(['tcp://vps:22'])
    expect(dropped).toEqual(['tcp://vps:2222'])
  })

  it('holds nothing of what the gateway wrote but a port', () => {
    const text = 'http://user:secret@evil.example:8080/path?q=\u001b[31m#x'
    expect(visitorUrls(http, [text], 'vps').urls).toEqual(['http://vps:8080'])
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.webUrl(), fc.string())), (said) => {
        const { urls } = visitorUrls(http, said, 'vps')
        expect(urls.length).toBeLessThanOrEqual(1)
        for (const url of urls) expect(url).toMatch(/^http:\/\/vps(:\d{1,5})?$/)
      }),
      { numRuns: 30 }, // a web URL takes fast-check 10 ms
    )
  })
})
