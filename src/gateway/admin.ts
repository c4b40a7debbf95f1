import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Registry } from 'prom-client'
import { userError } from '../errors.ts'
import { ADMIN_REQUEST_MS } from '../limits.ts'
import { addressClass, closeServer, listenOn } from '../net/index.ts'

/** What the admin port shows. Asked anew at each request. */
export interface Shown {
  ready(): boolean
  gauges(): readonly Gauge[]
}

export interface Gauge {
  name: string
  help: string
  /** A count that only grows, or a state. */
  type: 'counter' | 'gauge'
  /** The one label that tells the values apart; none where there is one value. */
  label?: string
  values: readonly { is?: string; value: number }[]
}

const TEXT = { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store' }

/**
 * `/healthz`, `/readyz` and `/metrics`, read-only and on loopback alone. The Host header is checked, so that a web
 * page in a browser on this machine cannot read it by rebinding a name.
 */
export class Admin {
  readonly #server: Server
  readonly #shown: Shown
  #metrics: Promise<() => Promise<string>> | undefined

  constructor(shown: Shown) {
    this.#shown = shown
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
    const host = address.host ?? '127.0.0.1'
    if (host !== 'localhost' && addressClass(host) !== 'loopback') {
      throw userError(
        'usage',
        `the admin port has no login, so it stays on loopback: use 127.0.0.1:${address.port}, not ${host}`,
      )
    }
    return listenOn(this.#server, { host, port: address.port })
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections()
    await closeServer(this.#server)
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const send = (status: number, body: string): void => {
      response.writeHead(status, TEXT).end(body)
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') send(405, 'read-only\n')
    else if (!isLoopbackName(request.headers.host)) send(421, 'ask by a loopback address\n')
    else if (request.url === '/healthz') send(200, 'ok\n')
    else if (request.url === '/readyz')
      send(this.#shown.ready() ? 200 : 503, this.#shown.ready() ? 'ready\n' : 'not ready\n')
    else if (request.url === '/metrics') {
      this.#metrics ??= metricsOf(this.#shown)
      const render = await this.#metrics
      send(200, await render())
    } else send(404, 'there is /healthz, /readyz and /metrics\n')
  }
}

/** prom-client is loaded with the first question: a gateway without an admin port does not carry it. */
async function metricsOf(shown: Shown): Promise<() => Promise<string>> {
  const { Registry, Gauge, Counter, collectDefaultMetrics } = await import('prom-client')
  const registry: Registry = new Registry()
  collectDefaultMetrics({ register: registry, prefix: 'blindgate_' })
  const made = new Map<string, InstanceType<typeof Gauge> | InstanceType<typeof Counter>>()
  return () => {
    for (const { name, help, type, label, values } of shown.gauges()) {
      let metric = made.get(name)
      if (metric === undefined) {
        const Kind = type === 'counter' ? Counter : Gauge
        metric = new Kind({
          name,
          help,
          registers: [registry],
          labelNames: label === undefined ? [] : [label],
        })
        made.set(name, metric)
      }
      metric.reset()
      for (const { is = '', value } of values) metric.inc(label === undefined ? {} : { [label]: is }, value)
    }
    return registry.metrics()
  }
}

function isLoopbackName(host: string | undefined): boolean {
  if (host === undefined) return false
  const name = host.replace(/:\d+$/, '').replace(/^\[|\]$/g, '')
  return name === 'localhost' || addressClass(name) === 'loopback'
}
