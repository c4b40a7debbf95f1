/** Programs of others that carry the same visitors. */
import { bore } from './bore.ts'
import { chisel } from './chisel.ts'
import { frpTcp } from './frp.ts'
import { rathole } from './rathole.ts'
import { ssh } from './ssh.ts'
import type { Kind } from './systems.ts'

/** Those that encrypt between their sides, as they do by default. */
export const ENCRYPTING: readonly Kind[] = [frpTcp, rathole, chisel, ssh]

export const PEERS: readonly Kind[] = [...ENCRYPTING, bore]
