/** TLS that ends in the target: CPU of both hops, which read no more than the hello, beside two nginx hops. */
import type { Measurement } from './measurement.ts'
import { nginxTwice, tlsTarget } from './nginx.ts'
import { bar, skip } from './report.ts'
import { requests, withoutWrk, wrk } from './requests.ts'
import { blindgatePassthrough } from './systems.ts'

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
    const { results, ratio } = await requests(kinds, nginxTwice, load, settings, tlsTarget)
    const ours = ratio('both', blindgatePassthrough, nginxTwice)
    if (ours !== undefined) console.log(bar('CPU per request', ours.median, BAR, '× nginx'))
    return { connections: CONNECTIONS, bar: BAR, ratio: ours, results }
  },
}
