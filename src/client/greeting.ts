import type { X509Certificate } from 'node:crypto'
import type { SecureContext, TLSSocket } from 'node:tls'
import { parseRemote } from '../config/index.ts'
import { type ErrorCode, TunnelError } from '../errors.ts'
import { type Pin, peerPin, samePin } from '../identity/index.ts'
import { HANDSHAKE_MS } from '../limits.ts'
import type { MemoryBudget } from '../mux/index.ts'
import { type Hello, isRejectCode, printable, type Reject, type Welcome } from '../protocol/index.ts'
import { dialTls, notAGateway, Tunnel, type TunnelHandler } from '../transport/index.ts'

/** How one attempt at a gateway ended. */
export type Greeting =
  | { kind: 'welcome' }
  /** `final`: dialling again cannot help. `retryAfter` in seconds. */
  | { kind: 'refused'; error: TunnelError; final: boolean; retryAfter: number }

/**
 * Dials the addresses of one gateway in order, names resolved anew each time; the first that answers with the
 * pinned key counts. The caller owns the socket, on which nothing has been written. Rejects with the errors of
 * `dialTls`; with `wrong_pin` at once, whatever addresses are left.
 */
export async function dialInOrder(options: {
  addresses: readonly string[]
  pin: Pin
  context: SecureContext
  signal: AbortSignal
}): Promise<{ socket: TLSSocket; host: string }> {
  const { addresses, pin, ...rest } = options
  const verify = pinned(pin)
  const failures: TunnelError[] = []
  for (const address of addresses) {
    try {
      const { host, port } = parseRemote(address)
      return { socket: await dialTls({ host, port, verify, ...rest }), host }
    } catch (error) {
      if (!(error instanceof TunnelError)) throw error
      if (error.code === 'wrong_pin' || rest.signal.aborted) throw error
      failures.push(error)
    }
  }
  const [first, ...others] = failures
  if (first === undefined || others.length === 0) throw first ?? new Error('a gateway without an address')
  throw new TunnelError(first.code, {
    scope: 'tunnel',
    remote: true,
    detail: failures.map(({ message }) => message).join('; '),
    cause: first,
  })
}

/** Holds a peer to the pinned key. The one thing that counts of its certificate is the key. */
function pinned(pin: Pin): (certificate: X509Certificate | undefined, where: string) => void {
  return (certificate, where) => {
    const found = peerPin(certificate)
    if (found === undefined) throw notAGateway(where)
    if (samePin(found, pin)) return
    const detail =
      `the key of gateway ${where} is not the one that was pinned (expected ${pin}, found ${found}): ` +
      "somebody else may answer in the gateway's place, so do not join; compare the key that was found with the one that " +
      "the gateway's operator sees there, and only if they are the same run `blindgate join --replace` with a new invite"
    throw new TunnelError('wrong_pin', { scope: 'tunnel', remote: true, detail })
  }
}

/**
 * Says `hello` on a fresh socket and waits for the answer, 10 s at most. On `welcome` the tunnel is handed to
 * `welcomed` synchronously, since visitors may stand in the same packet; who is given back takes the tunnel
 * over. On anything else the tunnel is over when this resolves. Never rejects.
 *
 * `opened` gives whoever must be able to end it the tunnel before there is an answer.
 */
export function greet(options: {
  socket: TLSSocket
  hello: Hello
  memory: MemoryBudget | undefined
  gateway: string
  opened(tunnel: Tunnel): void
  welcomed(tunnel: Tunnel, welcome: Welcome): TunnelHandler
}): Promise<Greeting> {
  const { gateway } = options
  return new Promise((resolve) => {
    const fail = (error: TunnelError, final = false, retryAfter = 0): void => {
      clearTimeout(timer)
      resolve({ kind: 'refused', error, final, retryAfter })
      tunnel.destroy(error)
    }
    const handler: TunnelHandler = {
      message(message) {
        if (message.type === 'welcome') {
          clearTimeout(timer)
          tunnel.establish({ peerStreamWindow: message.streamWindow, keepaliveSeconds: message.keepalive })
          tunnel.handler = options.welcomed(tunnel, message)
          resolve({ kind: 'welcome' })
        } else if (message.type === 'reject') {
          fail(rejected(message, gateway), message.final, message.retryAfter)
        }
      },
      stream: (stream) => stream.reset(),
      closed: (reason) => fail(reason),
    }
    const tunnel = new Tunnel(options.socket, handler, { role: 'client', memory: options.memory })
    const timer = setTimeout(() => {
      const detail = `gateway ${gateway} did not answer the hello within ${HANDSHAKE_MS / 1000} s`
      fail(new TunnelError('handshake_timeout', { scope: 'tunnel', remote: true, detail }))
    }, HANDSHAKE_MS)
    options.opened(tunnel)
    tunnel.send(options.hello)
  })
}

/** What to do about a refusal; the gateway's own words follow, but may be a hostile gateway's. */
const ADVICE: Partial<Record<ErrorCode, string>> = {
  unknown_client: 'this machine is not enrolled there: ask for an invite, then run `blindgate join`',
  revoked: "this machine's key was revoked there: ask the gateway's operator",
  invite_invalid: 'it does not know this invite: ask for a new one',
  invite_used:
    'this invite was used up: if not by your own machines, run `blindgate clients` on the gateway to find ' +
    'the key that used it, `blindgate revoke KEY` to take it away, and `blindgate invite` for a new invite',
  invite_expired: 'this invite has expired: run `blindgate invite` on the gateway for a new one',
  unsupported_protocol: 'the two sides speak different versions: upgrade the older one',
}

/** The error that a `reject` stands for. Of a later version's code only its text is known. */
export function rejected(message: Reject, gateway: string): TunnelError {
  const code = isRejectCode(message.code) ? message.code : 'closed'
  const said = message.message === '' ? '' : ` (it says: ${printable(message.message)})`
  const advice =
    ADVICE[code] ?? `it refused this client, ${code === 'closed' ? printable(message.code) : code}`
  return new TunnelError(code, {
    scope: 'tunnel',
    remote: true,
    detail: `gateway ${gateway}: ${advice}${said}`,
  })
}
