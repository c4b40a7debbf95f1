import { TunnelError } from '../errors.ts'

/**
 * A message that is not HTTP/1.1 as RFC 9112 has it, or not as we take it. Thrown for one from a visitor with the
 * status that answers it; for one from a target the status is 502, whatever was wrong.
 *
 * `message` says what was wrong in words of ours alone; nothing that was received gets into it.
 */
export class HttpFault extends TunnelError {
  readonly status: number

  constructor(status: number, what: string) {
    super('bad_message', { scope: 'visitor', remote: true, detail: what })
    this.name = 'HttpFault'
    this.status = status
  }
}

export function bad(what: string): HttpFault {
  return new HttpFault(400, what)
}
