import type { Logger } from 'pino'
import { z } from 'zod'
import { TunnelError, userError } from '../errors.ts'
import { checkName, encodeInvite, hashSecret, newSecret, type Pin } from '../identity/index.ts'
import { LOCAL_CALL_MS } from '../limits.ts'
import { callLocal, identityIn, type State } from '../state/index.ts'
import type { Authority } from './authority.ts'
import { NO_ADDRESS, saidAddress } from './invite-address.ts'
import { formatRoute, parseRoute } from './route.ts'
import { Store } from './store.ts'

/** What the commands of this machine ask of a gateway; `address` overrides what invites carry. */
export const gatewayRequestSchema = z.discriminatedUnion('command', [
  z.object({
    command: z.literal('invite'),
    name: z.string().optional(),
    uses: z.number(),
    expiresMs: z.number(),
    address: z.string().optional(),
  }),
  z.object({ command: z.literal('clients') }),
  /** A name, a key, or the beginning of one. */
  z.object({ command: z.literal('revoke'), target: z.string() }),
  z.object({ command: z.literal('release'), route: z.string() }),
  z.object({ command: z.literal('status') }),
])

export type GatewayRequest = z.infer<typeof gatewayRequestSchema>

export interface InviteAnswer {
  invite: string
  name: string
  /** Epoch ms. */
  expiresAt: number
  /** For stderr: whom the new machine will share visitors with. */
  warning?: string
}

export interface ClientRow {
  name: string
  key: Pin
  /** Where the key was last seen from; empty before its first tunnel. */
  instance: string
  /** Of its tunnel, empty while it has none. */
  address: string
  /** Epoch ms. */
  enrolled: number
  connected: boolean
  warning?: string
}

/** Names of the lock that the writer of a gateway's state holds, and of the socket it answers on. */
export const GATEWAY_LOCK = 'gateway'
export const GATEWAY_SOCKET = 'gateway'

/** Makes an invite of the store's gateway. The use of it is the caller's to print, and nobody's to log. */
export function makeInvite(
  store: Store,
  pin: Pin,
  request: {
    name?: string | undefined
    uses: number
    expiresMs: number
    address?: string | undefined
    first?: boolean
  },
): InviteAnswer | undefined {
  const addresses = request.address === undefined ? store.addresses : [saidAddress(request.address)]
  if (addresses.length === 0) throw userError('usage', NO_ADDRESS)
  if (request.name !== undefined) checkName(request.name)
  const secret = newSecret()
  const now = Date.now()
  const expiresAt = now + request.expiresMs
  const common = { expiresAt, secretHash: hashSecret(secret), now }
  const made =
    request.first === true
      ? store.authority.createFirstInvite(common)
      : store.authority.createInvite({
          ...common,
          uses: request.uses,
          ...(request.name === undefined ? {} : { name: request.name }),
        })
  if (made === undefined) return undefined
  const warning =
    made.sharesWith.length === 0
      ? {}
      : {
          warning: `"${made.name}" has ${made.sharesWith.length} machine(s) already: the new one will share its visitors and can get its certificates`,
        }
  const { domain } = store
  return {
    invite: encodeInvite({
      addresses: [...addresses],
      pin,
      name: made.name,
      ...(domain === undefined ? {} : { domain }),
      secret,
    }),
    name: made.name,
    expiresAt,
    ...warning,
  }
}

/**
 * Asks the gateway that runs on this state; when none runs, takes its lock and does the same on the files.
 * Throws `state_locked` when one runs and does not answer: nothing is written then.
 */
export async function gatewayCommand(
  state: State,
  request: GatewayRequest,
  log: Logger,
  patienceMs: number = LOCAL_CALL_MS,
): Promise<unknown> {
  try {
    return await callLocal(state.socketPath(GATEWAY_SOCKET), request, patienceMs)
  } catch (error) {
    if (!isNobody(error)) throw error
  }
  const lock = await state.lock(GATEWAY_LOCK)
  try {
    return await onFiles(state, request, log)
  } finally {
    await lock.release()
  }
}

async function onFiles(state: State, request: GatewayRequest, log: Logger): Promise<unknown> {
  const store = await Store.open(state, log)
  const { authority } = store
  const act = async (): Promise<unknown> => {
    switch (request.command) {
      case 'invite':
        return inviteOnFiles(state, store, request)
      case 'revoke':
        return authority.revoke(request.target, Date.now())
      case 'release':
        return {
          name: authority.release(request.route),
          route: formatRoute(parseRoute(request.route)),
        }
      case 'clients':
        return { clients: clientRows(authority, () => undefined) }
      case 'status':
        throw userError('not_found', `no gateway runs on ${state.path}: start it with \`blindgate gateway\``)
    }
  }
  const answer = await act()
  await store.close()
  return answer
}

/** Who may be meant by somebody who asks the wrong folder. */
const ELSEWHERE =
  'one that runs as root is asked with sudo, one of the unit by `sudo blindgate-as gateway invite`, one of another folder with --state'

/** Only an invite carries the key: asking who is enrolled does not make a gateway of a folder. */
async function inviteOnFiles(
  state: State,
  store: Store,
  request: Extract<GatewayRequest, { command: 'invite' }>,
): Promise<InviteAnswer | undefined> {
  const first = (await state.read('gateway.key')) === undefined
  const none = `no gateway has run on ${state.path} yet`
  // Before a key is made: who asks this of a client's folder must not leave a gateway's in it.
  if (request.address === undefined && store.addresses.length === 0) {
    const why = `${none}: ${ELSEWHERE}; for one that has yet to run give --address HOST:PORT`
    throw userError('usage', first ? why : NO_ADDRESS)
  }
  const answer = makeInvite(store, (await identityIn(state, 'gateway')).pin, request)
  if (answer === undefined || !first) return answer
  // A forgotten --state would otherwise show only at the other end, as a key that is not the gateway's.
  return {
    ...answer,
    warning: `${none}: the invite is for the one that will, and no other takes it; ${ELSEWHERE}`,
  }
}

/** All enrolled machines; `live` gives what is known of a key that has a tunnel. */
export function clientRows(
  authority: Authority,
  live: (key: Pin) => { address: string; instance: string; copied: boolean } | undefined,
): ClientRow[] {
  return authority.clients.map((client) => {
    const now = live(client.key)
    return {
      name: client.name,
      key: client.key,
      instance: now?.instance ?? client.instances[0]?.instance ?? '',
      address: now?.address ?? '',
      enrolled: client.enrolledAt,
      connected: now !== undefined,
      ...(now?.copied === true
        ? {
            warning: 'this key is live from two machines or state folders: if you did not copy it, revoke it',
          }
        : {}),
    }
  })
}

/** A running gateway has a `not_found` of its own, for a name or route that is not there. */
function isNobody(error: unknown): boolean {
  return error instanceof TunnelError && error.code === 'not_found' && !error.remote
}
