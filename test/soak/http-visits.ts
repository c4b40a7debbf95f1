import {
  Agent,
  type ClientRequest,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type RequestOptions,
  request,
} from 'node:http'
import { Agent as SecureAgent, request as secureRequest } from 'node:https'
import { setTimeout as passed } from 'node:timers/promises'
import { get, Talk } from '../e2e/http.ts'
import { frame, Opcode } from '../e2e/websocket.ts'
import type { Chance } from '../http1/mutations.ts'
import { bytesAt, isAt, pour } from './pattern.ts'
import { type Kind, type Place, Told } from './visits.ts'

const KiB = 1024
/** What a visitor may be told while its client is away. */
const EXPLAINED = new Set([502, 503, 504])

export interface Question {
  options: Omit<RequestOptions, 'headers'> & {
    headers: OutgoingHttpHeaders
    servername?: string
    rejectUnauthorized?: boolean
  }
  secure?: boolean
  /** Of what must come, and of what is sent if there is a body: bytes from `at` on. */
  at: number
  length: number
  body?: 'length' | 'chunked'
  /** Before the answer is read. */
  stallMs?: number
}

/** Asks, and holds the answer against what is right. */
export async function asked(question: Question): Promise<void> {
  const { at, length } = question
  const sent = send(question)
  const response = await answerTo(sent)
  // An answer that is cut off in a stall is told at once.
  const end = ended(response)
  if (question.stallMs !== undefined) await Promise.race([end, passed(question.stallMs)])
  let received = 0
  let right = true
  response.on('data', (chunk: Buffer) => {
    right &&= isAt(at + received, chunk)
    received += chunk.length
  })
  await end
  const { statusCode = 0 } = response
  if (EXPLAINED.has(statusCode)) throw new Told(`${statusCode}`)
  if (statusCode !== 200) throw new Error(`status ${statusCode}`)
  if (!right || received !== length) throw new Error(`${received} of ${length} bytes, right: ${right}`)
}

function send({ options, secure, at, length, body }: Question): ClientRequest {
  const what = body === undefined ? 'bytes' : 'take'
  const headers = { ...options.headers, ...(body === 'length' ? { 'content-length': length } : {}) }
  const all = {
    host: '127.0.0.1',
    path: `/${what}/${at}/${length}`,
    method: body === undefined ? 'GET' : 'POST',
    ...options,
    headers,
  }
  const sent = secure === true ? secureRequest(all) : request(all)
  if (body === undefined) sent.end()
  else void pour(sent, at, length).then(() => sent.end())
  return sent
}

function answerTo(sent: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    sent.on('response', resolve)
    // 'socket hang up' is an end without an answer: nobody was told anything.
    sent.on('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'ECONNRESET' && error.message !== 'socket hang up'
          ? new Told('reset')
          : new Error(error.message),
      ),
    )
  })
}

function ended(response: IncomingMessage): Promise<void> {
  return new Promise((resolve, reject) => {
    response.on('end', resolve)
    // By its framing the visitor knows that there was to be more.
    response.on('error', () => reject(new Told('cut off')))
  })
}

type Site = Pick<Question, 'options' | 'secure'>

function plain({ http, hosts }: Place, agent: Agent): Site {
  return { options: { port: http, agent, headers: { host: hosts.http } } }
}

/** One connection, several requests. */
export async function conversation(site: Site, chance: Chance): Promise<void> {
  for (let rounds = 1 + chance.below(6); rounds > 0; rounds--) {
    const [at, length] = [chance.below(1e6), chance.below(chance.below(4) === 0 ? 300 * KiB : 3 * KiB)]
    const body = chance.of([undefined, undefined, 'length', 'chunked'] as const)
    await asked({ ...site, at, length, ...(body === undefined ? {} : { body }) })
    if (chance.below(4) === 0) await passed(chance.below(1_500))
  }
}

export async function byTls(
  { tls }: Place,
  host: string,
  visit: (site: Site) => Promise<void>,
): Promise<void> {
  const agent = new SecureAgent({ keepAlive: true, maxSockets: 1 })
  const options = { port: tls, servername: host, rejectUnauthorized: false, agent, headers: { host } }
  try {
    await visit({ secure: true, options })
  } finally {
    agent.destroy()
  }
}

/** Asks for a long answer or sends a long body, and leaves in the midst. */
export async function broken(site: Site, chance: Chance): Promise<void> {
  const body = chance.of([undefined, 'length', 'chunked'] as const)
  const sent = send({ ...site, at: 0, length: 2_000_000, ...(body === undefined ? {} : { body }) })
  const closed = new Promise<void>((resolve) => sent.on('close', resolve))
  sent.on('error', () => undefined)
  sent.on('response', (response) => {
    response.on('error', () => undefined)
    if (chance.below(2) === 0) response.resume()
  })
  await passed(chance.below(150))
  // TLS of Node knows no reset; what it has not read makes the system send one.
  if (site.secure !== true && chance.below(2) === 0) sent.socket?.resetAndDestroy()
  sent.destroy()
  await closed
}

async function withAgent(visit: (agent: Agent) => Promise<void>): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  try {
    await visit(agent)
  } finally {
    agent.destroy()
  }
}

/** Messages there and back; resolves with the connection. */
async function webSocket({ http, hosts }: Place, messages: number): Promise<Talk> {
  const lines = ['Upgrade: websocket', 'Connection: Upgrade', 'Sec-WebSocket-Version: 13']
  const talk = await Talk.to(
    http,
    get(hosts.http, '/ws', [...lines, `Sec-WebSocket-Key: ${btoa('k'.repeat(16))}`]),
  )
  const { status } = await talk.answer().catch((error: Error) => explained(talk, error))
  if (status !== 101) talk.close()
  if (EXPLAINED.has(status)) throw new Told(`${status}`)
  if (status !== 101) throw new Error(`status ${status}`)
  for (let message = 0; message < messages; message++) {
    const payload = bytesAt(message * 100, 50)
    talk.say(frame(Opcode.binary, payload, true))
    const back = frame(Opcode.binary, payload, false).toString('latin1')
    const { visitor } = talk
    const before = visitor.received
    await visitor.has(before + back.length).catch((error: Error) => explained(talk, error))
    if (!visitor.text.endsWith(back)) throw new Error('another message came back')
  }
  return talk
}

/** An error of a connection that is over: told, if it was reset. */
async function explained({ visitor }: Talk, error: Error): Promise<never> {
  visitor.socket.end()
  throw (await visitor.closed) === 'reset' ? new Told('reset') : error
}

const GARBAGE = [
  '\0\0\0\0\r\n\r\n',
  'GET\r\n\r\n',
  'GET / HTTP/9.9\r\n\r\n',
  'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n',
  'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n',
  'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n',
  `GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(40 * KiB)}\r\n\r\n`,
  '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
]

export const HTTP: readonly Kind[] = [
  {
    name: 'http kept alive',
    weight: 14,
    mannered: true,
    visit: (place, chance) => withAgent((agent) => conversation(plain(place, agent), chance)),
  },
  {
    name: 'http upload by chunks',
    weight: 5,
    mannered: true,
    visit: (place, chance) =>
      withAgent((agent) => {
        const [at, length] = [chance.below(1e6), chance.below(900 * KiB)]
        return asked({ ...plain(place, agent), at, length, body: 'chunked' })
      }),
  },
  {
    name: 'http stalled, then read',
    weight: 3,
    mannered: true,
    visit: (place, chance) =>
      withAgent((agent) => {
        const [at, length] = [chance.below(1e6), (4 + chance.below(8)) * KiB * KiB]
        return asked({ ...plain(place, agent), at, length, stallMs: chance.below(4_000) })
      }),
  },
  {
    name: 'http with a slow head',
    weight: 4,
    mannered: true,
    async visit({ http, hosts }, chance) {
      const at = chance.below(1e6)
      const talk = await Talk.to(http)
      const head = get(hosts.http, `/bytes/${at}/500`)
      for (let from = 0; from < head.length; from += 9) {
        talk.say(head.slice(from, from + 9))
        await passed(chance.below(100))
      }
      const { status, body } = await talk.answer().catch((error: Error) => explained(talk, error))
      talk.close()
      if (EXPLAINED.has(status)) throw new Told(`${status}`)
      if (status !== 200 || body !== bytesAt(at, 500).toString('latin1')) throw new Error(`${status} ${body}`)
    },
  },
  {
    name: 'a WebSocket',
    weight: 4,
    mannered: true,
    async visit(place, chance) {
      const talk = await webSocket(place, 1 + chance.below(10))
      talk.say(frame(Opcode.close, '', true))
      await talk.visitor.ended
      talk.visitor.socket.end()
      await talk.visitor.closed
    },
  },
  {
    name: 'a WebSocket that is cut',
    weight: 4,
    mannered: false,
    async visit(place, chance) {
      const { visitor } = await webSocket(place, chance.below(5))
      if (chance.below(2) === 0) visitor.socket.resetAndDestroy()
      else visitor.socket.destroy()
      await visitor.closed
    },
  },
  {
    name: 'http broken off in a body',
    weight: 10,
    mannered: false,
    visit: (place, chance) => withAgent((agent) => broken(plain(place, agent), chance)),
  },
  {
    name: 'http broken off in a head',
    weight: 4,
    mannered: false,
    async visit({ http, hosts }, chance) {
      const { visitor } = await Talk.to(http, get(hosts.http).slice(0, 1 + chance.below(20)))
      await passed(chance.below(500))
      if (chance.below(2) === 0) visitor.socket.resetAndDestroy()
      else visitor.socket.end()
      await visitor.closed
    },
  },
  {
    name: 'http garbage',
    weight: 4,
    mannered: true,
    async visit({ http }, chance) {
      const talk = await Talk.to(http, chance.of(GARBAGE))
      const answer = await talk.answer()
      talk.visitor.socket.end()
      await talk.visitor.closed
      if (answer.status < 400 || answer.status > 599) throw new Error(`status ${answer.status}`)
    },
  },
]
