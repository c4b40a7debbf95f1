import { z } from 'zod'
import { userError } from '../errors.ts'
import { type Invite, type Pin, parsePin, samePin } from '../identity/index.ts'
import type { State } from '../state/index.ts'

/** A gateway as a client knows it. */
export interface GatewayEntry {
  /** `host:port`, tried in order. */
  addresses: string[]
  pin: Pin
  /** Services without a host are one label below it; none for a gateway without one, or one that no invite told of. */
  domain?: string
  /** The tenant that this machine belongs to there; known after `join`. */
  name?: string
}

/** The file of joined gateways in the state folder. */
const FILE = 'client.json'

const record = z.object({
  version: z.literal(1),
  gateways: z.array(
    z.object({
      addresses: z.array(z.string()).min(1),
      pin: z.string().transform((text) => parsePin(text)),
      domain: z.string().optional(),
      name: z.string().optional(),
    }),
  ),
})

/** In the order they were joined. Rejects with `state_invalid` for a file that is none of ours. */
export async function joinedGateways(state: State): Promise<GatewayEntry[]> {
  const known = await state.readJson(FILE, record)
  return (known?.gateways ?? []).map(({ addresses, pin, domain, name }) => ({
    addresses,
    pin,
    ...(domain === undefined ? {} : { domain }),
    ...(name === undefined ? {} : { name }),
  }))
}

/** Throws `wrong_pin` if an address of the invite is joined with another key and that may not be replaced. */
export function checkKnown(
  known: readonly GatewayEntry[],
  wanted: Pick<Invite, 'addresses' | 'pin'>,
  replace: boolean,
): void {
  if (replace) return
  for (const { addresses, pin } of known) {
    const address = addresses.find((one) => wanted.addresses.includes(one))
    if (address === undefined || samePin(pin, wanted.pin)) continue
    throw userError(
      'wrong_pin',
      `gateway ${address} is joined with key ${pin}, and this invite says ${wanted.pin}: ` +
        'if that gateway was set up anew, run the same command with --replace',
    )
  }
}

/** Writes `entry` in the place of what it replaces: the same key, and with `replace` other keys at its addresses. */
export async function rememberGateway(state: State, entry: GatewayEntry, replace: boolean): Promise<void> {
  const lock = await state.lock(FILE)
  try {
    const known = await joinedGateways(state)
    checkKnown(known, entry, replace)
    const kept = known.filter(
      ({ addresses, pin }) =>
        !samePin(pin, entry.pin) && !addresses.some((one) => entry.addresses.includes(one)),
    )
    await state.writeJson(FILE, { version: 1, gateways: [...kept, entry] })
  } finally {
    await lock.release()
  }
}
