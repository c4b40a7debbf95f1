/**
 * The part of YAML that compose.yaml uses: block mappings and lists by indentation, flow ones on one line, plain and
 * quoted scalars, `|` blocks, anchors on mappings and `<<` merges. Anything else throws, with its line.
 */

export type Yaml = null | boolean | number | string | Yaml[] | { [key: string]: Yaml }
type Mapping = { [key: string]: Yaml }

interface Line {
  number: number
  indent: number
  text: string
}

export function parseYaml(source: string): Yaml {
  if (source.includes('\t')) throw new SyntaxError('a tab')
  const raw = source.split('\n')
  const lines: Line[] = raw.flatMap((text, at) =>
    /^\s*(#.*)?$/.test(text) ? [] : [{ number: at + 1, indent: text.search(/\S/), text: text.trim() }],
  )
  const anchors = new Map<string, Yaml>()
  let at = 0

  function fail(line: Line | undefined, what: string): never {
    throw new SyntaxError(`line ${line?.number ?? raw.length}: ${what}`)
  }

  function block(indent: number): Yaml {
    const first = lines[at]
    if (first === undefined || first.indent !== indent) fail(first, 'nothing where a block should be')
    return first.text.startsWith('- ') ? list(indent) : mapping(indent)
  }

  function list(indent: number): Yaml {
    const found: Yaml[] = []
    for (let line = lines[at]; line !== undefined && line.indent === indent; line = lines[at]) {
      if (!line.text.startsWith('- ')) fail(line, 'a key among list entries')
      at++
      found.push(value(line.text.slice(2).trim(), line))
    }
    return found
  }

  function mapping(indent: number): Yaml {
    const found: Mapping = {}
    for (let line = lines[at]; line !== undefined && line.indent >= indent; line = lines[at]) {
      if (line.indent > indent) fail(line, 'indented too far')
      const match = /^([\w<.-]+):(?:\s+(.*))?$/.exec(line.text)
      if (match === null) fail(line, `not a key: ${line.text}`)
      const [, key = '', rest = ''] = match
      if (key in found) fail(line, `the key ${key} twice`)
      at++
      const each = value(rest, line)
      found[key] = each
    }
    return merged(found)
  }

  /** With what `<<` brings, under the mapping's own keys. */
  function merged(own: Mapping): Mapping {
    const { '<<': base, ...rest } = own
    if (base === undefined) return own
    if (base === null || typeof base !== 'object' || Array.isArray(base))
      fail(lines[at - 1], 'merges no mapping')
    return { ...base, ...rest }
  }

  function value(text: string, line: Line): Yaml {
    if (text === '|') return literal(line)
    const anchor = /^&(\w+)(?:\s+(.*))?$/.exec(text)
    if (anchor !== null) {
      const each = value(anchor[2] ?? '', line)
      anchors.set(anchor[1] ?? '', each)
      return each
    }
    if (text !== '') return flow(text, line)
    const next = lines[at]
    return next !== undefined && next.indent > line.indent ? block(next.indent) : null
  }

  /** A `|` block: all lines that are indented deeper than the line that began it. */
  function literal(line: Line): string {
    const body: string[] = []
    for (let row = line.number; row < raw.length; row++) {
      const text = raw[row] ?? ''
      if (text.trim() !== '' && text.search(/\S/) <= line.indent) break
      body.push(text)
    }
    while (body.at(-1)?.trim() === '') body.pop()
    while ((lines[at]?.number ?? Number.POSITIVE_INFINITY) <= line.number + body.length) at++
    const indent = body[0]?.search(/\S/) ?? 0
    return `${body.map((text) => text.slice(indent)).join('\n')}\n`
  }

  /** A value on one line. */
  function flow(text: string, line: Line): Yaml {
    let rest = text
    const skip = (pattern: RegExp): string | undefined => {
      const match = pattern.exec(rest)
      if (match === null) return undefined
      rest = rest.slice(match[0].length)
      return match[0]
    }
    const one = (): Yaml => {
      if (skip(/^\[\s*/) !== undefined) {
        const found: Yaml[] = []
        while (skip(/^\]/) === undefined) {
          found.push(one())
          if (skip(/^\s*,\s*/) === undefined && !/^\s*\]/.test(rest)) fail(line, 'an open list')
          skip(/^\s*/)
        }
        return found
      }
      if (skip(/^\{\s*/) !== undefined) {
        const found: Mapping = {}
        while (skip(/^\}/) === undefined) {
          const key = skip(/^[\w-]+/)
          if (key === undefined || skip(/^:\s+/) === undefined) fail(line, 'an open mapping')
          found[key] = one()
          if (skip(/^\s*,\s*/) === undefined && !/^\s*\}/.test(rest)) fail(line, 'an open mapping')
          skip(/^\s*/)
        }
        return found
      }
      const quoted = skip(/^"(?:\\.|[^"\\])*"/)
      if (quoted !== undefined) return JSON.parse(quoted) as string
      const nested = rest !== text
      const plain = skip(nested ? /^[^,[\]{}"'#]+/ : /^[^[\]{}"'#]+$/)
      if (plain === undefined || /:\s/.test(plain)) fail(line, `cannot read ${rest}`)
      return scalar(plain.trim(), line)
    }
    const found = one()
    if (rest.trim() !== '' && !/^\s+#/.test(rest)) fail(line, `more than one value: ${rest}`)
    return found
  }

  function scalar(text: string, line: Line): Yaml {
    if (text.startsWith('*')) return anchors.get(text.slice(1)) ?? fail(line, `no anchor ${text}`)
    if (text === 'true' || text === 'false') return text === 'true'
    if (text === 'null' || text === '~') return null
    return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text
  }

  const found = block(lines[0]?.indent ?? 0)
  if (at < lines.length) fail(lines[at], 'outside the document')
  return found
}
