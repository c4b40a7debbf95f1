import { BlockList, isIP } from 'node:net'
import { networkInterfaces } from 'node:os'

/** An IPv4 address that a dual-stack socket shows as `::ffff:192.0.2.1` is given as IPv4; all else as it is. */
export function plainAddress(ip: string): string {
  if (ip.length < 9 || ip[0] !== ':') return ip
  const head = ip.slice(0, 7)
  if (head !== '::ffff:' && head.toLowerCase() !== '::ffff:') return ip
  const rest = ip.slice(7)
  const groups = rest.split(':')
  if (groups.length === 1) return rest.includes('.') ? rest : ip
  // `::ffff:c000:201` means the same and is not how Node writes it; a peer may.
  if (groups.length !== 2 || rest.includes('.') || isIP(ip) !== 6) return ip
  const [high, low] = groups.map((group) => Number.parseInt(group, 16)) as [number, number]
  return dotted(high, low)
}

/** What counts as one visitor where visitors are counted: an IPv4 address, or an IPv6 /64, of which one machine has all. */
export function addressKey(ip: string): string {
  const plain = plainAddress(ip)
  if (!plain.includes(':') || isIP(plain) !== 6) return plain
  const groups = groupsOf(plain)
  return `${groups[0]?.toString(16)}:${groups[1]?.toString(16)}:${groups[2]?.toString(16)}:${groups[3]?.toString(16)}::/64`
}

export type AddressClass = 'loopback' | 'unspecified' | 'multicast' | 'link-local' | 'private' | 'global'

/** First match wins. `private`: addresses that only mean something behind some NAT, of a carrier (RFC 6598) too. */
const CLASSES: readonly { readonly is: AddressClass; readonly nets: BlockList }[] = [
  { is: 'unspecified', nets: nets('0.0.0.0/8', '::/128') },
  { is: 'loopback', nets: nets('127.0.0.0/8', '::1/128') },
  { is: 'multicast', nets: nets('224.0.0.0/4', '255.255.255.255/32', 'ff00::/8') },
  { is: 'link-local', nets: nets('169.254.0.0/16', 'fe80::/10') },
  {
    is: 'private',
    nets: nets(
      '10.0.0.0/8',
      '172.16.0.0/12',
      '192.168.0.0/16',
      '100.64.0.0/10',
      // Unique local; and site-local, which it replaced.
      'fc00::/7',
      'fec0::/10',
    ),
  },
]

/** Undefined for what is no IP address. An address that has an IPv4 one in it is of that one's class. */
export function addressClass(ip: string): AddressClass | undefined {
  const written = withoutZone(plainAddress(ip))
  const plain = embeddedAddress(written) ?? written
  const family = isIP(plain)
  if (family === 0) return undefined
  for (const { is, nets } of CLASSES) if (nets.check(plain, family === 6 ? 'ipv6' : 'ipv4')) return is
  return 'global'
}

/** Addresses of this machine's interfaces at this moment. */
export function ownAddresses(): string[] {
  const own: string[] = []
  for (const addresses of Object.values(networkInterfaces())) {
    for (const { address } of addresses ?? []) own.push(plainAddress(address))
  }
  return own
}

/** Those of them that the internet could route to. */
export function globalAddresses(own: readonly string[] = ownAddresses()): string[] {
  return own.filter((address) => addressClass(address) === 'global')
}

export function isOwnAddress(ip: string, own: readonly string[] = ownAddresses()): boolean {
  const plain = withoutZone(plainAddress(ip))
  if (isIP(plain) !== 6) return own.includes(plain)
  const embedded = embeddedAddress(plain)
  if (embedded !== undefined && own.includes(embedded)) return true
  const wanted = groupsOf(plain).join()
  return own.some((address) => isIP(address) === 6 && groupsOf(withoutZone(address)).join() === wanted)
}

/**
 * The IPv4 address that translators and tunnels would send to for this IPv6 one: IPv4-compatible (`::/96`, but for
 * `::` and `::1`), translated (`::ffff:0:0:0/96`), NAT64 (`64:ff9b::/96`), 6to4 (`2002::/16`).
 */
function embeddedAddress(ip: string): string | undefined {
  if (isIP(ip) !== 6) return undefined
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0] = groupsOf(ip)
  if (a === 0x2002) return dotted(b, c)
  if (c !== 0 || d !== 0 || f !== 0) return undefined
  const compatible = a === 0 && b === 0 && e === 0 && (g !== 0 || h > 1)
  const translated = a === 0 && b === 0 && e === 0xffff
  const nat64 = a === 0x64 && b === 0xff9b && e === 0
  return compatible || translated || nat64 ? dotted(g, h) : undefined
}

function dotted(high: number, low: number): string {
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`
}

function nets(...prefixes: string[]): BlockList {
  const list = new BlockList()
  for (const prefix of prefixes) {
    const [net = '', bits] = prefix.split('/')
    list.addSubnet(net, Number(bits), net.includes(':') ? 'ipv6' : 'ipv4')
  }
  return list
}

function withoutZone(ip: string): string {
  const zone = ip.indexOf('%')
  return zone < 0 ? ip : ip.slice(0, zone)
}

/** The eight groups of an IPv6 address. */
function groupsOf(ip: string): number[] {
  const [head = '', tail] = withoutZone(ip).split('::')
  const front = numbers(head)
  if (tail === undefined) return front
  const back = numbers(tail)
  return [...front, ...Array.from({ length: 8 - front.length - back.length }, () => 0), ...back]
}

function numbers(part: string): number[] {
  if (part === '') return []
  const groups: number[] = []
  for (const group of part.split(':')) {
    if (group.includes('.')) {
      const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number)
      groups.push(a * 256 + b, c * 256 + d)
    } else groups.push(Number.parseInt(group, 16))
  }
  return groups
}
