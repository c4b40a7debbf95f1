import { afterEach, describe, expect, test } from 'vitest'
import { until } from '../net/joined.ts'
import { GET, OK, World } from './world.ts'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

const PROBE = { status: 200, type: 'application/json', body: '{"a":1}' }

describe('an answer of the site’s own', () => {
  test('stands in the target’s place, and the connection goes on', async () => {
    const proxy = await world.start()
    let own = true
    const { site } = proxy
    site.seeking = (exchange) => (own ? exchange.answer(PROBE) : site.give(exchange))
    const visit = proxy.visit(GET)
    await until(() => visit.text.endsWith('{"a":1}'))
    expect(visit.text).toBe(
      'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\nCache-Control: no-store\r\n\r\n{"a":1}',
    )
    own = false
    visit.write(GET)
    const far = await site.fars.at(0)
    far.write(OK)
    await until(() => visit.text.endsWith(OK))
  })

  test('to HEAD has no body, and one behind half a request ends the connection', async () => {
    const proxy = await world.start()
    proxy.site.seeking = (exchange) => exchange.answer(PROBE)
    const visit = proxy.visit('HEAD / HTTP/1.1\r\nHost: x\r\n\r\n')
    await until(() => visit.text.endsWith('no-store\r\n\r\n'))
    visit.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf')
    expect(await visit.over).toBe('end')
    expect(visit.text).toMatch(/Connection: close\r\n\r\n\{"a":1\}$/)
  })
})

describe('Strict-Transport-Security', () => {
  const value = 'max-age=86400'

  async function told(answer: string): Promise<string> {
    const proxy = await world.start()
    proxy.site.refusal = (exchange) => {
      exchange.transportSecurity = value
      return undefined
    }
    const { visit, far } = await proxy.asked(GET)
    far.write(answer)
    await visit.received('here')
    return visit.text
  }

  test('is added to an answer, once', async () => {
    expect(await told(OK)).toBe(
      `HTTP/1.1 200 OK\r\nContent-Length: 4\r\nStrict-Transport-Security: ${value}\r\n\r\nhere`,
    )
  })

  test('gives way to what the target says', async () => {
    const own = 'HTTP/1.1 200 OK\r\nstrict-transport-security: max-age=0\r\nContent-Length: 4\r\n\r\nhere'
    expect(await told(own)).toBe(own)
  })

  test('is not said in an interim answer', async () => {
    const hints = 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n'
    expect(await told(hints + OK)).toMatch(
      /^HTTP\/1\.1 103 Early Hints\r\nLink: <\/a>\r\n\r\nHTTP\/1\.1 200 OK\r\n[^]*Strict-Transport/,
    )
  })
})
