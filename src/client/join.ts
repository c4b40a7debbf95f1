import { randomBytes } from 'node:crypto'
import type { Logger } from 'pino'
import { type TunnelError, userError } from '../errors.ts'
import { type Identity, type Invite, isName } from '../identity/index.ts'
import type { State } from '../state/index.ts'
import { tunnelContext } from '../transport/index.ts'
import { checkKnown, type GatewayEntry, joinedGateways, rememberGateway } from './gateways.ts'
import { dialInOrder, greet } from './greeting.ts'
import { helloOf } from './hello.ts'

export interface JoinOptions {
  invite: Invite
  identity: Identity
  instance: string
  state: State
  version: string
  log: Logger
  /** Accept another key at an address that is joined already. */
  replace?: boolean
}

/**
 * Enrolls this machine's key by an invite and pins the gateway in `client.json`. The invite's secret leaves only
 * towards the key that the invite names. Doing it again with the same invite changes nothing.
 *
 * Rejects with `wrong_pin` for an address that is joined with another key (unless `replace`), or that shows
 * another key than the invite's; with the gateway's own `invite_…` codes; with the errors of a dial. Then
 * nothing is written.
 */
export async function join(options: JoinOptions): Promise<GatewayEntry> {
  const { invite, identity, instance, state, version, log, replace = false } = options
  checkKnown(await joinedGateways(state), invite, replace)
  const { socket } = await dialInOrder({
    addresses: invite.addresses,
    pin: invite.pin,
    context: tunnelContext(identity),
    signal: new AbortController().signal,
  })
  const gateway = invite.addresses[0] ?? ''
  const introduction = { version, instance, process: randomBytes(16).toString('hex') }
  const name = await new Promise<string>((resolve, reject: (error: TunnelError) => void) => {
    void greet({
      socket,
      hello: helloOf(introduction, [], Buffer.from(invite.secret).toString('base64url')),
      memory: undefined,
      gateway,
      opened: () => {},
      welcomed(tunnel, welcome) {
        const done = (): void => resolve(welcome.name)
        tunnel.end()
        // Whatever ends it now: the key is enrolled.
        return { message: () => {}, stream: (stream) => stream.reset(), closed: done }
      },
    }).then((greeting) => {
      if (greeting.kind === 'refused') reject(greeting.error)
    })
  })
  if (!isName(name)) {
    throw userError('protocol_error', `gateway ${gateway} enrolled this machine under a name that is none`)
  }
  const { addresses, pin, domain } = invite
  const entry: GatewayEntry = { addresses, pin, ...(domain === undefined ? {} : { domain }), name }
  await rememberGateway(state, entry, replace)
  log.info({ gateway, name, pin: invite.pin }, 'joined')
  return entry
}
