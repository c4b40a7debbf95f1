/** TLS that ends in the client: CPU of both hops, beside nginx that looks for the host in front of nginx where TLS ends. */
import { blindgateHttps } from './blindgate.ts'
import type { Measurement } from './measurement.ts'
import { nginxTls } from './nginx.ts'
import { atMost, skip } from './report.ts'
import { requests, requestsTable } from './requests.ts'
import { withoutWrk, wrk } from './wrk.ts'

const CONNECTIONS = 64
/** Of the reference's CPU per request. */
const BAR = 1.6

export const https64: Measurement = {
  name: 'https64',
  about: `TLS that ends in the client: CPU per request at ${CONNECTIONS} keep-alive connections`,
  async run(settings) {
    const missing = withoutWrk()
    if (missing !== undefined) return skip(missing)
    const kinds = [nginxTls, blindgateHttps]
    const rounds = await requests(kinds, wrk({ connections: CONNECTIONS, tls: true }), settings)
    const ours = rounds.ratio('both', blindgateHttps, nginxTls)
    return rounds.outcome(
      [requestsTable(rounds, kinds, nginxTls)],
      atMost(`CPU per request, https, ${CONNECTIONS}`, ours, `× ${nginxTls.name}`, BAR),
    )
  },
}
