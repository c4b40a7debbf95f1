import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { REJECT_CODES, SERVICE_CODES, UNREACHED_CODES } from '../../src/errors.ts'
import { decodeInvite } from '../../src/identity/index.ts'
import * as limits from '../../src/limits.ts'
import { FROM_CLIENT, FROM_GATEWAY, serviceOffer } from '../../src/protocol/control.ts'
import {
  ControlReader,
  encodeControl,
  encodeProxyHeader,
  type Message,
  ProxyReader,
  SERVICE_TYPES,
  TUNNEL_ALPN,
} from '../../src/protocol/index.ts'

const root = new URL('../../', import.meta.url)
const text = (path: string) => readFileSync(new URL(path, root), 'utf8')
const DOCUMENT = text('docs/PROTOCOL.md')

/** The text under a heading, up to the next heading of its level or above. */
function section(heading: string): string {
  const start = DOCUMENT.indexOf(`\n${heading}\n`)
  if (start < 0) throw new Error(`docs/PROTOCOL.md has no "${heading}"`)
  const level = heading.indexOf(' ')
  const rest = DOCUMENT.slice(start + heading.length + 2)
  const end = rest.search(new RegExp(`^#{1,${level}} `, 'm'))
  return end < 0 ? rest : rest.slice(0, end)
}

/** The cells of each row of the tables in `markdown`, heads left out. */
const rows = (markdown: string): string[][] =>
  [...markdown.matchAll(/^\|(.*)\|$/gm)]
    .map(([, line = '']) => line.split('|').map((cell) => cell.trim()))
    .filter((cells) => cells[0]?.includes('`') || cells[0] === 'service')

const fences = (markdown: string, language: string): string[] =>
  [...markdown.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)\n\`\`\``, 'gms'))].map(([, body = '']) => body)

const word = (cell: string | undefined) => cell?.replaceAll('`', '') ?? ''

describe('docs/PROTOCOL.md', () => {
  it('gives each number as the code has it, once', () => {
    const table = rows(section('## 9. Numbers')).map(([name, value]) => [word(name), Number(value)] as const)
    const code = new Map<string, unknown>(Object.entries(limits))
    expect(table.length).toBeGreaterThan(30)
    expect(new Set(table.map(([name]) => name)).size).toBe(table.length)
    for (const [name, value] of table) expect([name, value]).toEqual([name, code.get(name)])
  })

  it('has a number for every name that it uses, and for every bound of what is on the wire', () => {
    const table = new Set(rows(section('## 9. Numbers')).map(([name]) => word(name)))
    const used = new Set(DOCUMENT.match(/\b[A-Z]+(_[A-Z]+)+\b/g) ?? [])
    used.delete('WINDOW_UPDATE')
    for (const path of [
      'src/protocol/control.ts',
      'src/protocol/proxy.ts',
      'src/protocol/text.ts',
      'src/identity/invites.ts',
    ]) {
      const [, imported = ''] = /^import \{([^}]*)\} from '..\/limits.ts'/m.exec(text(path)) ?? []
      expect(imported).not.toBe('')
      for (const name of imported.matchAll(/[A-Z_]+/g)) used.add(name[0])
    }
    expect([...used].filter((name) => !table.has(name))).toEqual([])
  })

  it('lists every code, each under what carries it, with its finality', () => {
    const table = rows(section('## 8. Codes')).map(([carrier, code, final]) => [
      word(carrier),
      word(code),
      final,
    ])
    expect(table).toEqual([
      ...Object.entries(REJECT_CODES).map(([code, { final }]) => ['reject', code, final ? 'yes' : 'no']),
      ...SERVICE_CODES.map((code) => ['service', code, '']),
      ...UNREACHED_CODES.map((code) => ['unreached', code, '']),
    ])
  })

  it('says for every code what it means and what its receiver does', () => {
    for (const cells of rows(section('## 8. Codes'))) {
      expect(cells).toHaveLength(5)
      expect(cells.slice(3).every((cell) => cell.length > 5)).toBe(true)
    }
  })

  it('names the ALPN protocol and the service types', () => {
    expect(DOCUMENT).toContain(`\`${TUNNEL_ALPN}\``)
    const [, type = []] = rows(section('## 4. Control messages'))
    expect(type[2]).toContain(
      SERVICE_TYPES.map((each) => `\`${each}\``)
        .join(', ')
        .replace(/, (`\w+`)$/, ' or $1'),
    )
  })

  it('has every field of a service', () => {
    const fields = rows(section('## 4. Control messages')).map(([name]) => word(name))
    expect(fields).toEqual(expect.arrayContaining(Object.keys(serviceOffer.shape)))
  })

  const shapes = new Map<string, string[]>()
  for (const map of [FROM_CLIENT, FROM_GATEWAY]) {
    for (const [type, schema] of map)
      shapes.set(type, Object.keys((schema as { shape?: object }).shape ?? {}))
  }

  it('has a section for every message and for no other', () => {
    const sections = [...section('## 4. Control messages').matchAll(/^### (\w+)$/gm)].map(([, type]) => type)
    expect(new Set(sections)).toEqual(new Set(shapes.keys()))
    expect(sections).toHaveLength(shapes.size)
  })

  it.each([...shapes.keys()])(
    'has every field of %s and no other, and an example that is read as it stands',
    (type) => {
      const body = section(`### ${type}`)
      const fields = rows(body).map(([name]) => word(name))
      expect(['type', ...fields]).toEqual(shapes.get(type))

      const fromClient = fences(body, 'json client')
      const examples = [...fromClient, ...fences(body, 'json gateway')]
      expect(examples).toHaveLength(1)
      const [example] = examples.map((json) => JSON.parse(json) as Message)
      if (example === undefined) throw new Error('no example')
      const reader = new ControlReader(fromClient.length > 0 ? 'fromClient' : 'fromGateway')
      const read: Message[] = reader.push(encodeControl(example))
      expect(read).toEqual([example])
      expect(example.type).toBe(type)
    },
  )

  it('shows an invite that is read as it says', () => {
    const body = section('## 2. Keys, pins and invites')
    const [invite = ''] = fences(body, 'invite')
    const [fields = '{}'] = fences(body, 'json')
    const { secret, ...rest } = decodeInvite(invite)
    expect({ ...rest, secret: Buffer.from(secret).toString('hex') }).toEqual(JSON.parse(fields))
  })

  it('shows a PROXY header that is the one we write, and read', () => {
    const [hex = ''] = fences(section('## 5. Visitor streams'), 'hex')
    const bytes = Buffer.from(hex.replaceAll(/\s/g, ''), 'hex')
    const header = {
      source: { address: '192.0.2.1', port: 54_321 },
      destination: { address: '203.0.113.7', port: 2222 },
    }
    const fields = { uniqueId: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), service: 'ssh' }
    expect(encodeProxyHeader({ ...header, tlvs: fields })).toEqual(bytes)
    expect(new ProxyReader().push(bytes)?.header).toEqual({ command: 'PROXY', ...header, ...fields })
  })
})
