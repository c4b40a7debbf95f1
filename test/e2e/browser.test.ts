/** Chromium, where there is one: it finds the page, the WebSocket, the events and the uploads through the gateway. */
import { createHash, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { afterEach, describe, expect, it } from 'vitest'
import { browse, CHROMIUM, type Report, Site, STAYS } from './browser.ts'
import { type Gateway, killed, logged, type Offered, World } from './world.ts'

/** A browser that starts on a busy machine takes its time. */
const PATIENCE_MS = 120_000
const HOST = 'app.example.com'

let world = new World()
afterEach(async () => {
  await world.close()
  world = new World()
})

/** What every page must have seen, however it came. */
function expectAll(report: Report & { error?: string }): void {
  expect(report.error).toBe(undefined)
  expect(report.messages).toEqual(['hello', 1, 126, 70_000, 1_000_000])
  expect(report.closed).toEqual({ code: 1000, clean: true })
  expect(report.events).toEqual(
    [1, 2, 3, 4, 5].map((event) => ({ data: `event ${event}`, id: String(event) })),
  )
  expect(report.upload).toEqual({ status: 200, text: '5000000 bytes' })
  expect(report.many).toEqual(Array.from({ length: 100 }, () => 200))
  expect(report.held).toEqual({ status: 200, text: '/echo?held' })
  expect(report.reconnected).toBe('hello')
}

/** SHA-256 of the key that visitors of `site` are shown, as Chromium names keys. */
function keyAt(state: string): string {
  const file = readFileSync(world.path(state, 'self-signed-site.json'), 'utf8')
  const { chain } = JSON.parse(file) as { chain: string }
  const { publicKey } = new X509Certificate(chain)
  return createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest('base64')
}

describe.skipIf(CHROMIUM === undefined)('Chromium (skipped where there is none)', () => {
  it(
    'opens a page, a WebSocket and a stream of events through the gateway, uploads, and is held while the client is away',
    async () => {
      const site = world.with(new Site())
      const port = await site.listen()
      const gateway: Gateway = await world.gateway(['--access-log', 'json'])
      await world.join('home', gateway)
      const offer = (): Promise<Offered> => world.offer('home', ['http', String(port), '--name', 'site'])
      const { program } = await offer()
      const failed = browse(world, [STAYS, `http://127.0.0.1:${gateway.visitors}/`])

      await Promise.race([site.leave, failed])
      await killed(program)
      await logged(gateway.program, /route has no client/)
      await gateway.reaches('blindgate_held_visitors', 1)
      await offer()

      const report = await Promise.race([site.report, failed])
      expectAll(report)
      expect(report.protocols.page).toBe('http/1.1')
      expect([...site.agents]).toEqual([expect.stringContaining('Chrome')])
      // What the gateway saw of it.
      await logged(gateway.program, /"target":"\/socket".*"status":101/)
      await logged(gateway.program, /"target":"\/events","version":"1\.1","status":200/)
    },
    PATIENCE_MS,
  )

  it(
    'does the same by HTTP/2 where TLS ends in the client, and loses nothing when that is restarted',
    async () => {
      const site = world.with(new Site())
      const port = await site.listen()
      const gateway = await world.gateway(['--tls', '127.0.0.1:0'])
      await world.join('home', gateway)
      const args = ['https', String(port), '--name', 'site', '--host', HOST, '--tls', 'self-signed']
      const { program } = await world.offer('home', args)
      const url = `https://${HOST}:${gateway.tls}/`
      const here = `--host-resolver-rules=MAP ${HOST} 127.0.0.1`
      const believing = (key: string): string => `--ignore-certificate-errors-spki-list=${key}`

      const strangers = Buffer.alloc(32, 1).toString('base64')
      // It dumps a page and ends; this one it does not open.
      const distrust = browse(world, [here, believing(strangers), '--dump-dom', url])
      await expect(distrust).rejects.toThrow('ERR_CERT_AUTHORITY_INVALID')
      expect(site.agents.size).toBe(0)

      const failed = browse(world, [STAYS, here, believing(keyAt('home')), url])
      await Promise.race([site.leave, failed])
      program.child.kill('SIGTERM')
      await logged(gateway.program, /route has no client/)
      // What was asked for before is answered still, and the next waits at the gateway.
      site.left()
      expect((await program.ended).code).toBe(0)
      await gateway.reaches('blindgate_held_visitors', 1)
      await world.offer('home', args)

      const report = await Promise.race([site.report, failed])
      expectAll(report)
      expect(report.protocols).toEqual({ page: 'h2', fetches: ['h2'] })
      expect(report.leaving).toEqual([200, 200])
      expect([...site.agents]).toEqual([expect.stringContaining('Chrome')])
    },
    PATIENCE_MS,
  )
})
