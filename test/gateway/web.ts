/** What the tests of the http port stand on: requests and answers as text, and a visitor that asks again and again. */
import type { Gateway } from '../../src/gateway/index.ts'
import type { ServiceOffer } from '../../src/protocol/index.ts'
import { until } from '../net/joined.ts'
import type { Carried, ScriptedClient } from './scripted-client.ts'
import type { Visit } from './visit.ts'

export function get(path = '/', ...lines: string[]): string {
  return request('GET', path, lines)
}

export function request(method: string, path: string, lines: readonly string[] = [], body = ''): string {
  const length = body === '' ? [] : [`Content-Length: ${body.length}`]
  const named = lines.some((line) => /^host:/i.test(line)) ? [] : ['Host: x']
  const fields = [...named, ...lines, ...length].map((line) => `${line}\r\n`).join('')
  return `${method} ${path} HTTP/1.1\r\n${fields}\r\n${body}`
}

export function answer(body: string, ...lines: string[]): string {
  return `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n${body}`
}

/** A service on these hosts. */
export function web(hosts: string[], rest: Partial<ServiceOffer> = {}): ServiceOffer {
  return { name: 'web', type: 'http', ...(hosts.length === 0 ? {} : { hosts }), ...rest }
}

/** A target of keep-alive connections: answers each request (without a body) on a stream by what `say` makes of its head. */
export function talking(say: (head: string, visit: Carried, nth: number) => string | undefined) {
  return async (visit: Carried): Promise<void> => {
    let seen = 0
    for (let nth = 0; ; nth += 1) {
      await visit.until((text) => text.indexOf('\r\n\r\n', seen) >= 0)
      const end = visit.text.indexOf('\r\n\r\n', seen) + 4
      const said = say(visit.text.slice(seen, end), visit, nth)
      seen = end
      if (said !== undefined) visit.write(said)
    }
  }
}

/** Says the path that was asked for, and which stream of this client it came by. */
export const echoing = talking((head, visit) => {
  const [, path = ''] = head.split(' ')
  return answer(`[${path} by ${visit.stream.id}]`)
})

/** Asks, and gives the answer's text once it has `wanted`. What came before is not looked at. */
export async function ask(visit: Visit, text: string, wanted: string | RegExp): Promise<string> {
  const from = visit.text.length
  visit.write(text)
  let over = false
  void visit.over.then(() => (over = true))
  const fits = (): boolean => {
    const said = visit.text.slice(from)
    return typeof wanted === 'string' ? said.includes(wanted) : wanted.test(said)
  }
  await until(() => fits() || over)
  const said = visit.text.slice(from)
  if (!fits()) throw new Error(`over after ${JSON.stringify(said)}`)
  return said
}

/** Visitors' streams that a client has seen. */
export function streams(...clients: ScriptedClient[]): number {
  return clients.reduce((sum, { visits }) => sum + visits.all.length, 0)
}

/** With an admin port: what `gauge` asks. */
export const WITH_ADMIN = {
  http: { host: '127.0.0.1', port: 0 },
  tunnel: { host: '127.0.0.1', port: 0 },
  admin: { host: '127.0.0.1', port: 0 },
}

/** A value of `/metrics`; `series` is its name with its labels, the gateway's own prefix left out. */
export async function gauge({ gateway }: { gateway: Gateway }, series: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${gateway.admin?.port ?? 0}/metrics`)).text()
  const line = text.split('\n').find((one) => one.startsWith(`blindgate_${series} `))
  return Number(line?.slice(line.lastIndexOf(' ') + 1) ?? Number.NaN)
}

export async function untilGauge(
  running: { gateway: Gateway },
  series: string,
  fits: (value: number) => boolean,
): Promise<void> {
  for (let asked = 0; asked < 5_000; asked += 1) if (fits(await gauge(running, series))) return
  throw new Error(`${series} never came to that`)
}

/** The visitor goes; resolves when the gateway has seen it. */
export async function leave(running: { gateway: Gateway }, visit: Visit): Promise<void> {
  const before = await gauge(running, 'visitors')
  visit.socket.destroy()
  await untilGauge(running, 'visitors', (now) => now < before)
}
