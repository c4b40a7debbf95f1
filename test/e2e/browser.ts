/** A real browser and the page that it opens through a gateway, with all that browsers do there. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { echoMessages } from './websocket.ts'
import type { World } from './world.ts'

/** Where there is one. */
export const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(
  (path) => existsSync(path),
)
/** Keeps it there until the test ends it. */
export const STAYS = '--remote-debugging-port=0'

/** What the page has to say, when it is done. */
export interface Report {
  /** How the page came, and each of the things that it fetched. */
  protocols: { page: string; fetches: string[] }
  /** Messages of the WebSocket, each as it came. */
  messages: string[]
  closed: { code: number; clean: boolean }
  events: { data: string; id: string }[]
  upload: { status: number; text: string }
  many: number[]
  /** What was asked for when the client left, and what was asked for next: a status each, or `lost`. */
  leaving: (number | 'lost')[]
  /** While it was away. */
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
const outcome = (path, options) => fetch(path, options).then(({ status }) => status, () => 'lost')
const next = (socket) => new Promise((resolve) => {
  socket.onmessage = ({ data }) => resolve(data)
})
try {
  const socket = new WebSocket(location.origin.replace('http', 'ws') + '/socket')
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

  const of = (type) => performance.getEntriesByType(type).map(({ nextHopProtocol }) => nextHopProtocol)
  report.protocols = { page: of('navigation')[0], fetches: [...new Set(of('resource'))] }

  // The client leaves now, and is started again while this waits.
  report.leaving = [await outcome('/leave', { method: 'POST' }), await outcome('/next-one')]
  const held = await fetch('/echo?held')
  report.held = { status: held.status, text: await held.text() }
  const again = new WebSocket(location.origin.replace('http', 'ws') + '/socket')
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
export class Site {
  readonly server: Server
  readonly report: Promise<Report & { error?: string }>
  /** The page is ready for its client to leave. */
  readonly leave: Promise<void>
  readonly agents = new Set<string>()
  #reported: (text: string) => void = () => undefined
  #leaving: () => void = () => undefined
  #events: ServerResponse | undefined
  #sent = 0
  /** Of the request that the client's leaving cuts, or waits for. */
  #last: ServerResponse | undefined

  constructor() {
    this.report = new Promise((resolve) => {
      this.#reported = (said) => resolve(JSON.parse(said) as Report)
    })
    this.leave = new Promise((resolve) => {
      this.#leaving = resolve
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

  /** Answers what was asked for when the client left. */
  left(): void {
    this.#last?.end()
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
      case '/leave':
        this.#last = response
        this.#leaving()
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

/** Headless, with nothing of its own on the network. Ends with the world; rejects when it is gone, with what it said. */
export function browse(world: World, args: readonly string[]): Promise<never> {
  // Not in the world's folder, which goes before the browser, that writes to the end.
  const profile = mkdtempSync(join(tmpdir(), 'blindgate-browser-'))
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
    ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
  ]
  // A group of its own, so that all of its processes end together.
  const browser = spawn(CHROMIUM ?? '', [...flags, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  const gone = once(browser, 'close')
  let said = ''
  browser.stdout.resume()
  browser.stderr.setEncoding('utf8').on('data', (chunk: string) => (said += chunk))
  world.with({
    async close() {
      const { pid } = browser
      // It ends its processes itself, given a moment.
      const alarm = setTimeout(() => pid !== undefined && process.kill(-pid, 'SIGKILL'), 10_000)
      browser.kill('SIGTERM')
      await gone
      clearTimeout(alarm)
      rmSync(profile, { recursive: true, force: true, maxRetries: 10 })
    },
  })
  const failed = gone.then((): never => {
    throw new Error(`the browser ended: ${said}`)
  })
  failed.catch(() => undefined)
  return failed
}
