import { chmod, unlink } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { TunnelError, userError } from '../errors.ts'
import { LOCAL_CALL_MS, LOCAL_CONNECTIONS } from '../limits.ts'
import { unwritable } from './file-errors.ts'
import { isAnswered } from './local-call.ts'
import { type Answer, LineReader, lineOf } from './local-line.ts'
import { lock } from './lock.ts'
import { checkSocketPath } from './socket-path.ts'

export interface LocalServer {
  /** Stops, cuts who is still asking, and removes the socket. */
  close(): Promise<void>
}

/**
 * Answers requests on a unix socket: one JSON line in, one out, and the connection ends. `path` lies in a
 * folder that is 0700 already: nobody else can connect, so nobody is asked who they are. A socket that stands
 * there is replaced only if nobody answers on it. A TunnelError of `handler` reaches the caller with its code;
 * any other becomes `internal`, without its text. Throws `state_locked`, `state_invalid`, `state_unwritable`.
 */
export async function serveLocal(
  path: string,
  handler: (request: unknown) => Promise<unknown>,
): Promise<LocalServer> {
  checkSocketPath(path)
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    answer(socket, handler)
  })
  server.maxConnections = LOCAL_CONNECTIONS
  // Two that find the same dead socket would each remove the other's new one.
  const replacing = await lock(`${path}.lock`)
  try {
    if (await isAnswered(path)) {
      throw userError('state_locked', `another process answers on ${path}: stop it first`)
    }
    await unlink(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error
    })
    await listen(server, path)
    await chmod(path, 0o600)
  } catch (error) {
    server.close()
    throw unwritable(path, error)
  } finally {
    await replacing.release()
  }
  return {
    async close() {
      const closed = new Promise((resolve) => server.close(resolve))
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

/** Owns `socket`. */
function answer(socket: Socket, handler: (request: unknown) => Promise<unknown>): void {
  const reader = new LineReader()
  const reply = (answer: Answer): void => {
    socket.end(lineOf(answer))
    socket.setTimeout(LOCAL_CALL_MS)
  }
  // Whoever connects and says nothing, or does not take the answer, makes room for others.
  socket.setTimeout(LOCAL_CALL_MS)
  socket.on('timeout', () => socket.destroy())
  socket.on('error', () => socket.destroy())
  const onData = (chunk: Buffer): void => {
    let request: unknown
    try {
      request = reader.push(chunk)
      if (request === undefined) return
    } catch (error) {
      socket.off('data', onData)
      return reply(failure(error))
    }
    socket.off('data', onData)
    // An answer may take its time; the caller has its own patience.
    socket.setTimeout(0)
    void handled(handler, request).then(reply)
  }
  socket.on('data', onData)
}

async function handled(handler: (request: unknown) => Promise<unknown>, request: unknown): Promise<Answer> {
  try {
    return { answer: (await handler(request)) ?? null }
  } catch (error) {
    return failure(error)
  }
}

function failure(error: unknown): Answer {
  if (error instanceof TunnelError) return { error: { code: error.code, message: error.message } }
  return {
    error: { code: 'internal', message: 'the request failed by a mistake in the program: see its log' },
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, () => {
      server.off('error', reject)
      resolve()
    })
  })
}
