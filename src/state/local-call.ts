import { connect } from 'node:net'
import { isErrorCode, TunnelError, userError } from '../errors.ts'
import { LOCAL_CALL_MS } from '../limits.ts'
import { type Answer, answerOf, LineReader, lineOf } from './local-line.ts'
import { checkSocketPath } from './socket-path.ts'

/**
 * Asks the process that listens on `path`, and gives its answer. Throws `not_found` when nobody listens,
 * `state_locked` when there is no answer within `timeoutMs`, and the other side's own errors with their codes, `remote`.
 */
export async function callLocal(
  path: string,
  request: unknown,
  timeoutMs: number = LOCAL_CALL_MS,
): Promise<unknown> {
  checkSocketPath(path)
  const line = lineOf(request)
  const { promise, resolve, reject } = withResolvers<Answer>()
  const socket = connect(path)
  const reader = new LineReader()
  const silent = () =>
    userError(
      'state_locked',
      `${path}: no answer in ${timeoutMs / 1000} s: see what that process is doing, or stop it`,
    )
  const timer = setTimeout(() => reject(silent()), timeoutMs)
  socket.on('connect', () => socket.write(line))
  socket.on('data', (chunk) => {
    try {
      const answer = reader.push(chunk)
      if (answer !== undefined) resolve(answerOf(answer))
    } catch (error) {
      reject(error)
    }
  })
  socket.on('end', () =>
    reject(userError('state_locked', `${path}: that process ended before it answered: try again`)),
  )
  socket.on('error', (error: NodeJS.ErrnoException) => reject(connectError(path, error)))
  try {
    const answer = await promise
    if ('error' in answer) throw remoteError(answer.error)
    return answer.answer
  } finally {
    clearTimeout(timer)
    socket.destroy()
  }
}

/** True when somebody listens there, though too busy to accept. */
export async function isAnswered(path: string): Promise<boolean> {
  const { promise, resolve } = withResolvers<boolean>()
  const socket = connect(path)
  socket.on('connect', () => resolve(true))
  socket.on('error', (error: NodeJS.ErrnoException) => resolve(!nobody(error)))
  const answered = await promise
  socket.destroy()
  return answered
}

function nobody({ code }: NodeJS.ErrnoException): boolean {
  return code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'ENOTSOCK'
}

function connectError(path: string, error: NodeJS.ErrnoException): TunnelError {
  if (nobody(error)) return userError('not_found', `nobody listens on ${path}: start it first`, error)
  if (error.code === 'EACCES' || error.code === 'EPERM') {
    return userError('state_invalid', `${path} may not be used by this user: run as its owner`, error)
  }
  return userError('state_locked', `${path}: ${error.code ?? error.message}: try again`, error)
}

/** `remote`, so that the other side's own `not_found` is not taken for nobody listening. */
function remoteError({ code, message }: { code: string; message: string }): TunnelError {
  return new TunnelError(isErrorCode(code) ? code : 'internal', {
    scope: 'process',
    remote: true,
    detail: message,
  })
}

/** `Promise.withResolvers`, which Node 20 has not. */
function withResolvers<T>() {
  let resolve!: (value: T) => void
  let reject!: (error: unknown) => void
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve
    reject = onReject
  })
  return { promise, resolve, reject }
}
