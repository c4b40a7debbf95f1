import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterAll, describe, expect, it } from 'vitest'
import { echoMessages } from './websocket.ts'
import { type Gateway, killed, logged, type Offered, World } from './world.ts'

/** A real browser, where there is one. It finds the page, the WebSocket, the events and the uploads through the gateway. */

const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) =>
  existsSync(path),
)
/** A browser that starts on a busy machine takes its time. */
const PATIENCE_MS = 120_000

const world = new World()
afterAll(() => world.close())

/** What the page has to say, when it is done. */
interface Report {
  /** Messages of the WebSocket, each as it came. */
  messages: string[]
  closed: { code: number; clean: boolean }
  events: { data: string; id: string }[]
  upload: { status: number; text: string }
  many: number[]
  /** After the client was killed, and while it was away. */
  held: { status: number; text: string }
  reconnected: string
}

/** Runs in the browser. */
const PAGE = `<!doctype html>
<title>through the gateway</title>
<script type="module">
const report = { messages: [], events: [], many: [] }
const opened = (socket) => new Promise((resolve, reject) => {
  socket.onopen = () => resolve(socket)
  socket.onerror = () => reject(new Error('the WebSocket failed'))
})
const next = (socket) => new Promise((resolve) => {
  socket.onmessage = ({ data }) => resolve(data)
})
try {
  const socket = new WebSocket('ws://' + location.host + '/socket')
  // The first message comes in one write with the handshake.
  const first = next(socket)
  await opened(socket)
  report.messages.push(await first)
  for (const size of [1, 126, 70000, 1000000]) {
    const answer = next(socket)
    socket.send('x'.repeat(size))
    report.messages.push((await answer).length)
  }
  const over = new Promise((resolve) => { socket.onclose = ({ code, wasClean }) => resolve({ code, clean: wasClean }) })
  socket.close(1000, 'done')
  report.closed = await over

  // The target sends the next event only when the page has told it of the last one.
  const source = new EventSource('/events')
  await new Promise((resolve, reject) => {
    source.onerror = () => reject(new Error('the events failed'))
    source.onmessage = ({ data, lastEventId }) => {
      report.events.push({ data, id: lastEventId })
      if (report.events.length === 5) resolve()
      else void fetch('/next', { method: 'POST', body: data })
    }
  })
  source.close()

  const upload = await fetch('/upload', { method: 'POST', body: new Blob([new Uint8Array(5_000_000)]) })
  report.upload = { status: upload.status, text: await upload.text() }
  const all = await Promise.all(Array.from({ length: 100 }, (_, index) => fetch('/echo?' + index)))
  report.many = all.map(({ status }) => status)

  // The client is killed now, and started again while this waits.
  await fetch('/kill', { method: 'POST' }).catch(() => undefined)
  await fetch('/not-there-yet').catch(() => undefined)
  const held = await fetch('/echo?held')
  report.held = { status: held.status, text: await held.text() }
  const again = new WebSocket('ws://' + location.host + '/socket')
  const greeting = next(again)
  await opened(again)
  report.reconnected = await greeting
} catch (error) {
  report.error = String(error)
}
await fetch('/report', { method: 'POST', body: JSON.stringify(report) })
document.title = 'reported'
</script>
`

/** The server behind NAT. */
class Site {
  readonly server: Server
  readonly report: Promise<Report & { error?: string }>
  readonly kill: Promise<void>
  readonly agents = new Set<string>()
  #reported: (text: string) => void = () => undefined
  #killing: () => void = () => undefined
  #events: ServerResponse | undefined
  #sent = 0

  constructor() {
    this.report = new Promise((resolve) => {
      this.#reported = (said) => resolve(JSON.parse(said) as Report)
    })
    this.kill = new Promise((resolve) => {
      this.#killing = resolve
    })
    this.server = createServer((request, response) => void this.#serve(request, response))
    this.server.on('upgrade', (request: IncomingMessage, socket: Socket) =>
      echoMessages(request, socket, 'hello'),
    )
  }

  async listen(): Promise<number> {
    this.server.listen({ host: '127.0.0.1', port: 0 })
    await once(this.server, 'listening')
    return (this.server.address() as AddressInfo).port
  }

  async close(): Promise<void> {
    this.server.closeAllConnections()
    await new Promise((resolve) => this.server.close(resolve))
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [path = ''] = (request.url ?? '').split('?')
    this.agents.add(request.headers['user-agent'] ?? '')
    const body = await text(request)
    switch (path) {
      case '/':
        response.writeHead(200, { 'Content-Type': 'text/html' }).end(PAGE)
        return
      case '/events':
        response.writeHead(200, { 'Content-Type': 'text/event-stream' })
        this.#events = response
        this.#event()
        return
      case '/next':
        this.#event()
        response.end()
        return
      case '/upload':
        response.end(`${body.length} bytes`)
        return
      case '/kill':
        // Never answered: its client is gone first.
        this.#killing()
        return
      case '/report':
        response.end()
        this.#reported(body)
        return
      default:
        response.end(request.url)
    }
  }

  #event(): void {
    this.#events?.write(`id: ${++this.#sent}\ndata: event ${this.#sent}\n\n`)
  }
}

/** Headless, with nothing of its own on the network. */
function browse(url: string): ChildProcess {
  const profile = world.path(`profile-${Math.trunc(performance.now())}`)
  mkdirSync(profile)
  const flags = [
    '--headless',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--disable-dev-shm-usage',
    `--user-data-dir=${profile}`,
    // Keeps it there until the test ends it.
    '--remote-debugging-port=0',
    ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
  ]
  // A group of its own, so that all of its processes end together.
  const browser = spawn(CHROMIUM ?? '', [...flags, url], {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  const gone = once(browser, 'close')
  browser.stdout.resume()
  world.with({
    async close() {
      const { pid } = browser
      // It ends its processes itself, given a moment.
      const alarm = setTimeout(() => pid !== undefined && process.kill(-pid, 'SIGKILL'), 10_000)
      browser.kill('SIGTERM')
      await gone
      clearTimeout(alarm)
    },
  })
  return browser
}

describe.skipIf(CHROMIUM === undefined)('Chromium', () => {
  it(
    'opens a page, a WebSocket and a stream of events through the gateway, uploads, and is held while the client is away',
    async () => {
      const site = world.with(new Site())
      const port = await site.listen()
      const gateway: Gateway = await world.gateway(['--access-log', 'json'])
      await world.join('home', gateway)
      const offer = (): Promise<Offered> => world.offer('home', ['http', String(port), '--name', 'site'])
      const { program } = await offer()
      const browser = browse(`http://127.0.0.1:${gateway.visitors}/`)
      let said = ''
      browser.stderr?.setEncoding('utf8').on('data', (chunk: string) => (said += chunk))
      const failed = once(browser, 'close').then(() => {
        throw new Error(`the browser ended: ${said}`)
      })
      failed.catch(() => undefined)

      await Promise.race([site.kill, failed])
      await killed(program)
      await logged(gateway.program, /route has no client/)
      await gateway.reaches('blindgate_held_visitors', 1)
      await offer()

      const report = await Promise.race([site.report, failed])
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
      expect([...site.agents]).toEqual([expect.stringContaining('Chrome')])
      // What the gateway saw of it.
      await logged(gateway.program, /"target":"\/socket".*"status":101/)
      await logged(gateway.program, /"target":"\/events","version":"1\.1","status":200/)
    },
    PATIENCE_MS,
  )
})
