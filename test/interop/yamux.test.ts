import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { TunnelError } from '../../src/errors.ts'
import { Session, type Stream, type StreamSink } from '../../src/mux/index.ts'

/** Our mux against hashicorp/yamux (see main.go), over TCP on this machine, in both roles. */

const run = promisify(execFile)
const MiB = 1024 * 1024
const GO_MISSING = await run('go', ['version']).then(
  () => false,
  () => true,
)
let folder = ''
let program = ''
const running: Peer[] = []

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'blindgate-interop-'))
  program = join(folder, 'interop')
  if (!GO_MISSING) await run('go', ['build', '-o', program, '.'], { cwd: import.meta.dirname })
}, 120_000)

afterEach(async () => {
  for (const peer of running.splice(0)) await peer.close()
})

afterAll(() => rm(folder, { recursive: true, force: true }))

/** The Go program at the other end of a session of ours. */
class Peer {
  readonly session: Session
  readonly goAways: number[] = []
  failure: unknown
  printed = ''
  readonly #child: ChildProcess
  readonly #socket: net.Socket
  #flushing = false

  static async start(role: 'client' | 'server', ...args: string[]): Promise<Peer> {
    const server = net.createServer()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as net.AddressInfo
    const theirs = role === 'client' ? 'server' : 'client'
    const child = spawn(program, ['-connect', `127.0.0.1:${port}`, '-role', theirs, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [socket] = (await once(server, 'connection')) as [net.Socket]
    server.close()
    const peer = new Peer(role, child, socket)
    running.push(peer)
    return peer
  }

  constructor(role: 'client' | 'server', child: ChildProcess, socket: net.Socket) {
    this.#child = child
    this.#socket = socket
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.printed += text
    })
    this.session = new Session({
      role,
      events: {
        stream: (stream) => {
          stream.sink = new Echo()
        },
        wake: () => this.#schedule(),
        goAway: (code) => this.goAways.push(code),
        idsLow: () => {},
      },
    })
    socket.on('data', (chunk) => {
      try {
        this.session.receive(chunk, performance.now())
      } catch (error) {
        this.failure = error
        this.flush()
        socket.end()
      }
    })
    socket.on('drain', () => this.#schedule())
    socket.on('error', (error) => {
      this.failure ??= error
    })
  }

  #schedule(): void {
    if (this.#flushing) return
    this.#flushing = true
    setImmediate(() => {
      this.#flushing = false
      this.flush()
    })
  }

  flush(): void {
    if (this.#socket.writableLength > 256 * 1024) return
    const out: Uint8Array[] = []
    this.session.take(out, 256 * 1024)
    this.#socket.cork()
    for (const chunk of out) this.#socket.write(chunk)
    this.#socket.uncork()
    if (this.session.pending && !this.#socket.writableNeedDrain) this.#schedule()
  }

  /** Writes bytes as they come, whatever the session thinks. */
  raw(bytes: Uint8Array): void {
    this.#socket.write(bytes)
  }

  async says(line: string): Promise<void> {
    while (!this.printed.includes(line)) {
      if (this.#child.exitCode !== null) throw new Error(`the other end left: ${this.printed}`)
      await Promise.race([
        once(this.#child.stdout as NodeJS.ReadableStream, 'data'),
        once(this.#child, 'exit'),
      ])
    }
  }

  async close(): Promise<void> {
    this.#socket.destroy()
    if (this.#child.exitCode === null) {
      const gone = once(this.#child, 'exit')
      this.#child.kill()
      await gone
    }
  }
}

/** Sends back what comes, with back-pressure. */
class Echo implements StreamSink {
  #owed = 0

  data(stream: Stream, chunk: Uint8Array): void {
    if (stream.write(Uint8Array.from(chunk))) stream.consume(chunk.length)
    else this.#owed += chunk.length
  }

  end(stream: Stream): void {
    stream.end()
  }

  drain(stream: Stream): void {
    stream.consume(this.#owed)
    this.#owed = 0
  }

  reset(): void {}
}

/** Writes a command and so many bytes with back-pressure, and gathers the answer. */
class Caller implements StreamSink {
  readonly done: Promise<void>
  readonly hash = createHash('sha256')
  readonly sentHash = createHash('sha256')
  text = ''
  bytes = 0
  ended = false
  error: TunnelError | undefined
  #left: number
  readonly #keepOpen: boolean
  #finish: () => void = () => {}

  constructor(bytes = 0, keepOpen = false) {
    this.#left = bytes
    this.#keepOpen = keepOpen
    this.done = new Promise((resolve) => {
      this.#finish = resolve
    })
  }

  start(peer: Peer, command: string): Stream {
    const stream = peer.session.open(this)
    if (stream === undefined) throw new Error(`no stream: ${peer.session.whyNotOpen()}`)
    stream.write(Buffer.from(command))
    this.drain(stream)
    return stream
  }

  drain(stream: Stream): void {
    for (let more = true; more && this.#left > 0; ) {
      const chunk = Buffer.alloc(Math.min(this.#left, 1 + ((this.#left * 7919) % 40_000)), this.#left)
      this.#left -= chunk.length
      this.sentHash.update(chunk)
      more = stream.write(chunk)
    }
    if (this.#left === 0 && !this.#keepOpen) stream.end()
  }

  data(stream: Stream, chunk: Uint8Array): void {
    this.bytes += chunk.length
    this.hash.update(chunk)
    if (this.bytes < 100) this.text += Buffer.from(chunk).toString('latin1')
    stream.consume(chunk.length)
  }

  end(): void {
    this.ended = true
    if (!this.#keepOpen) this.#finish()
  }

  reset(_stream: Stream, reason: TunnelError): void {
    this.error = reason
    this.#finish()
  }
}

describe.each(['client', 'server'] as const)('as a yamux %s beside hashicorp/yamux', (role) => {
  it('gets 40 streams of many sizes echoed, byte for byte, with half-close', async (ctx) => {
    if (GO_MISSING) ctx.skip('skipped: no go')
    const peer = await Peer.start(role)
    const callers = Array.from({ length: 40 }, (_, i) => new Caller(i === 0 ? 6 * MiB : i * 5_003))
    for (const caller of callers) caller.start(peer, 'e')
    await Promise.all(callers.map((caller) => caller.done))
    for (const caller of callers) {
      expect(caller.error).toBeUndefined()
      expect(caller.hash.digest('hex')).toBe(caller.sentHash.digest('hex'))
    }
    expect(peer.session.streams).toBe(0)
    expect(peer.failure).toBeUndefined()
  })

  it('echoes 60 streams of 256 KiB that the other side opens from as many threads', async (ctx) => {
    if (GO_MISSING) ctx.skip('skipped: no go')
    const peer = await Peer.start(role, '-open', '60', '-bytes', String(256 * 1024))
    await peer.says('opened ok')
    expect(peer.failure).toBeUndefined()
    expect(peer.session.streams).toBe(0)
  })

  it('carries both directions at once', async (ctx) => {
    if (GO_MISSING) ctx.skip('skipped: no go')
    const peer = await Peer.start(role, '-open', '5', '-bytes', String(MiB))
    const callers = Array.from({ length: 5 }, () => new Caller(MiB))
    for (const caller of callers) caller.start(peer, 'e')
    await Promise.all([peer.says('opened ok'), ...callers.map((caller) => caller.done)])
    for (const caller of callers) expect(caller.bytes).toBe(MiB)
    expect(peer.failure).toBeUndefined()
  })

  it('gets an answer after it has ended its side', async (ctx) => {
    if (GO_MISSING) ctx.skip('skipped: no go')
    const peer = await Peer.start(role)
    const caller = new Caller(4 * MiB)
    caller.start(peer, 'n')
    await caller.done
    expect(caller.text).toBe(String(4 * MiB))
  })

  it('resets a stream there, and hears a reset from there', async (ctx) => {
    if (GO_MISSING) ctx.skip('skipped: no go')
    const peer = await Peer.start(role, '-close-timeout', '50')
    const cut = new Caller(1000, true)
    const stream = cut.start(peer, 'n')
    const closer = new Caller(0, true)
    closer.start(peer, 'c')
    // The close came as FIN; the other side's timeout makes it an RST, while our direction stays open.
    await closer.done
    expect(closer.ended).toBe(true)
    expect(closer.error?.code).toBe('reset')
    stream.reset()
    await peer.says('reset')
    expect(peer.session.streams).toBe(0)
    expect(peer.failure).toBeUndefined()
  })

  it('opens and resets streams in one turn without upsetting the other side', async (ctx) => {
    if (GO_MISSING) ctx.skip('skipped: no go')
    const peer = await Peer.start(role)
    for (let i = 0; i < 100; i++) {
      const caller = new Caller(10, true)
      caller.start(peer, 'e').reset()
    }
    const caller = new Caller(10)
    caller.start(peer, 'e')
    await caller.done
    expect(caller.bytes).toBe(10)
    expect(peer.failure).toBeUndefined()
  })

  it('answers pings and has its own answered', async (ctx) => {
    if (GO_MISSING) ctx.skip('skipped: no go')
    const peer = await Peer.start(role)
    peer.session.ping(performance.now())
    const caller = new Caller()
    caller.start(peer, 'p')
    await caller.done
    expect(caller.text).toBe('pong')
    expect(peer.session.rtt).toBeGreaterThanOrEqual(0)
  })

  it('opens nothing after a GoAway from there, and finishes what lives', async (ctx) => {
    if (GO_MISSING) ctx.skip('skipped: no go')
    const peer = await Peer.start(role)
    const caller = new Caller()
    caller.start(peer, 'g')
    await caller.done
    expect(peer.goAways).toEqual([0])
    expect(caller.text).toBe('gone')
    expect(peer.session.whyNotOpen()).toBe('going_away')
  })

  it('ends the session there with a GoAway that names a broken rule', async (ctx) => {
    if (GO_MISSING) ctx.skip('skipped: no go')
    const peer = await Peer.start(role)
    peer.session.goAway(1)
    peer.flush()
    await peer.says('session over')
  })
})
