/** TLS that ends in the target: CPU of both hops, which read no more than the hello, beside two nginx hops. */
import { blindgatePassthrough } from './blindgate.ts'
import type { Measurement } from './measurement.ts'
import { nginxTwice, tlsTarget } from './nginx.ts'
import { atMost, skip } from './report.ts'
import { requests, requestsTable } from './requests.ts'
import { withoutWrk, wrk } from './wrk.ts'

const CONNECTIONS = 64
/** Of the reference's CPU per request. */
const BAR = 1.3

export const pass64: Measurement = {
  name: 'pass64',
  about: `TLS that ends in the target: CPU per request at ${CONNECTIONS} keep-alive connections`,
  async run(settings) {
    const missing = withoutWrk()
    if (missing !== undefined) return skip(missing)
    const kinds = [nginxTwice, blindgatePassthrough]
    const load = wrk({ connections: CONNECTIONS, tls: true })
    const rounds = await requests(kinds, load, settings, tlsTarget)
    const ours = rounds.ratio('both', blindgatePassthrough, nginxTwice)
    return rounds.outcome(
      [requestsTable(rounds, kinds, nginxTwice)],
      atMost(`CPU per request, passthrough, ${CONNECTIONS}`, ours, `× ${nginxTwice.name}`, BAR),
    )
  },
}
