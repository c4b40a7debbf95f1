/** The value of an `issue` or `issuewild` record, read as RFC 8659 (4.2) and RFC 8657 do. */
export interface IssueValue {
  /** Lower case; undefined: no authority is named, so that none may issue. */
  issuer: string | undefined
  parameters: [tag: string, value: string][]
}

const LABEL = '[a-z0-9]+(?:-+[a-z0-9]+)*'
const ISSUER = new RegExp(`^${LABEL}(?:\\.${LABEL})*$`, 'i')
const PARAMETER = new RegExp(`^(${LABEL})[ \\t]*=[ \\t]*([\\x21-\\x3a\\x3c-\\x7e]*)$`, 'i')

/** Undefined for a value that is none: authorities take it for one that names nobody, if they read it as the RFC does. */
export function readIssueValue(text: string): IssueValue | undefined {
  const [issuer = '', ...rest] = text.split(';').map((part) => part.replace(/^[ \t]+|[ \t]+$/g, ''))
  if (issuer !== '' && !ISSUER.test(issuer)) return undefined
  const parameters: [string, string][] = []
  for (const [index, part] of rest.entries()) {
    // `;` alone, and one behind the last parameter.
    if (part === '' && index === rest.length - 1) continue
    const [, tag, value] = PARAMETER.exec(part) ?? []
    if (tag === undefined || value === undefined) return undefined
    parameters.push([tag.toLowerCase(), value])
  }
  return { issuer: issuer === '' ? undefined : issuer.toLowerCase(), parameters }
}

/** Values of a parameter. Two of them are satisfied by nothing (RFC 8657, 3 and 4). */
export function valuesOf({ parameters }: IssueValue, wanted: string): string[] {
  return parameters.flatMap(([tag, value]) => (tag === wanted ? [value] : []))
}
