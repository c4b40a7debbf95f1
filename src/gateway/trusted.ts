import { BlockList, isIP } from 'node:net'
import { FORWARDED_ADDRESSES } from '../limits.ts'
import { plainAddress } from '../net/index.ts'

/** The proxies in front of the gateway, whose word about visitors is believed: IP addresses and CIDR blocks. */
export class TrustedProxies {
  readonly none: boolean
  readonly #blocks = new BlockList()

  /** `cidrs` are as the configuration has checked them. */
  constructor(cidrs: readonly string[]) {
    this.none = cidrs.length === 0
    for (const cidr of cidrs) {
      const [net = '', bits] = cidr.split('/')
      const family = isIP(net) === 6 ? 'ipv6' : 'ipv4'
      if (bits === undefined) this.#blocks.addAddress(net, family)
      else this.#blocks.addSubnet(net, Number(bits), family)
    }
  }

  /** `address` is as a socket has it: an IPv4 one may come inside an IPv6 one, and a link-local one with its zone. */
  has(address: string): boolean {
    if (this.none) return false
    const [plain = ''] = plainAddress(address).split('%', 1)
    const family = isIP(plain)
    return family !== 0 && this.#blocks.check(plain, family === 6 ? 'ipv6' : 'ipv4')
  }

  /**
   * Who asks, where `peer` is who connected and `forwardedFor` is all of its X-Forwarded-For, lines joined by commas.
   * Each proxy adds at the end whom it heard from, so the last that is no proxy of ours is the visitor, and what stands before
   * it is the visitor's own invention. What is no address ends the walk: whoever wrote it, nothing before it can be
   * believed.
   */
  visitorOf(peer: string, forwardedFor: string): string {
    let visitor = plainAddress(peer)
    let end = forwardedFor.length
    for (let looked = 0; looked < FORWARDED_ADDRESSES && end >= 0 && this.has(visitor); looked += 1) {
      // An index of -1 would count from the end.
      const comma = end === 0 ? -1 : forwardedFor.lastIndexOf(',', end - 1)
      const address = addressIn(forwardedFor.slice(comma + 1, end))
      if (address === undefined) break
      visitor = address
      end = comma
    }
    return visitor
  }
}

/** `1.2.3.4`, `1.2.3.4:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:443`. */
function addressIn(text: string): string | undefined {
  const [, bracketed, dotted, bare] =
    /^[ \t]*(?:\[([0-9a-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9a-f:.]+))[ \t]*$/i.exec(
      text,
    ) ?? []
  const address = bracketed ?? dotted ?? bare ?? ''
  const family = isIP(address)
  if (family === 0 || (bracketed !== undefined && family !== 6)) return undefined
  return plainAddress(address.toLowerCase())
}
