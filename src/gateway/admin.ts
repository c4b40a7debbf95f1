import { createHash, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Registry } from 'prom-client'
import { userError } from '../errors.ts'
import { ADMIN_REQUEST_MS } from '../limits.ts'
import { addressClass, closeServer, listenOn } from '../net/index.ts'
import { boundedSeries, type Gauge } from './series.ts'

/** What the admin port shows. Asked anew at each request. */
export interface Shown {
  ready(): boolean
  gauges(): Promise<readonly Gauge[]>
}

const TEXT = { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store' }

/**
 * `/healthz`, `/readyz` and `/metrics`, read-only. On loopback the Host header is checked, so that a web page in a
 * browser on this machine cannot read it by rebinding a name. Elsewhere it needs a token, which all but `/healthz` then
 * ask for: a browser has none to give.
 */
export class Admin {
  readonly #server: Server
  readonly #shown: Shown
  /** Of the token; undefined: none is asked for. */
  readonly #token: Buffer | undefined
  #loopback = true
  #metrics: Promise<Metrics> | undefined

  constructor(shown: Shown, token?: string) {
    this.#shown = shown
    this.#token = token === undefined ? undefined : digest(token)
    this.#server = createServer(
      { requestTimeout: ADMIN_REQUEST_MS, headersTimeout: ADMIN_REQUEST_MS },
      (request, response) => {
        this.#answer(request, response).catch(() => response.destroy())
      },
    )
    this.#server.maxConnections = 64
  }

  async listen(address: {
    host?: string | undefined
    port: number
  }): Promise<{ host: string; port: number }> {
    const { host, port } = address
    this.#loopback = host === 'localhost' || (host !== undefined && addressClass(host) === 'loopback')
    if (!this.#loopback && this.#token === undefined) {
      throw userError(
        'usage',
        `the admin port has no token, so it stays on loopback: use 127.0.0.1:${port}, not ${host ?? 'every address'}`,
      )
    }
    return listenOn(this.#server, address)
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections()
    await closeServer(this.#server)
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const send = (status: number, body: string, headers: Record<string, string> = {}): void => {
      response.writeHead(status, { ...TEXT, ...headers }).end(body)
    }
    const { method, url, headers } = request
    if (method !== 'GET' && method !== 'HEAD') send(405, 'read-only\n')
    else if (this.#loopback && !isLoopbackName(headers.host)) send(421, 'ask by a loopback address\n')
    else if (url === '/healthz') send(200, 'ok\n')
    else if (!this.#mayAsk(headers.authorization)) {
      send(401, 'give the token: Authorization: Bearer TOKEN\n', {
        'www-authenticate': 'Bearer realm="blindgate"',
      })
    } else if (url === '/readyz')
      send(this.#shown.ready() ? 200 : 503, this.#shown.ready() ? 'ready\n' : 'not ready\n')
    else if (url === '/metrics') {
      this.#metrics ??= metricsOf(this.#shown)
      const metrics = await this.#metrics
      send(200, await metrics.render(), { 'content-type': metrics.contentType })
    } else send(404, 'there is /healthz, /readyz and /metrics\n')
  }

  /** Hashes are compared, so that neither the time nor a difference in length tells how much of a guess is right. */
  #mayAsk(authorization: string | undefined): boolean {
    if (this.#token === undefined) return true
    const token = /^bearer +(\S+)$/i.exec(authorization ?? '')?.[1]
    return token !== undefined && timingSafeEqual(digest(token), this.#token)
  }
}

interface Metrics {
  contentType: string
  render(): Promise<string>
}

/** prom-client is loaded with the first question: a gateway without an admin port does not carry it. */
async function metricsOf(shown: Shown): Promise<Metrics> {
  const { Registry, Gauge, Counter, collectDefaultMetrics } = await import('prom-client')
  const registry: Registry = new Registry()
  collectDefaultMetrics({ register: registry, prefix: 'blindgate_' })
  const made = new Map<string, InstanceType<typeof Gauge> | InstanceType<typeof Counter>>()
  const render = async (): Promise<string> => {
    // Asked before anything is set: two scrapes at once must not add up.
    const gauges = await shown.gauges()
    for (const { name, help, type, labels = [], values } of boundedSeries(gauges)) {
      let metric = made.get(name)
      if (metric === undefined) {
        const Kind = type === 'counter' ? Counter : Gauge
        metric = new Kind({ name, help, registers: [registry], labelNames: [...labels] })
        made.set(name, metric)
      }
      metric.reset()
      for (const { labels: which = {}, value } of values) metric.inc(which, value)
    }
    return registry.metrics()
  }
  return { contentType: registry.contentType, render }
}

function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}

function isLoopbackName(host: string | undefined): boolean {
  if (host === undefined) return false
  const name = host.replace(/:\d+$/, '').replace(/^\[|\]$/g, '')
  return name === 'localhost' || addressClass(name) === 'loopback'
}
