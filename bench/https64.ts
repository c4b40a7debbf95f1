/** TLS that ends in the client: CPU of both hops, beside nginx that looks for the host in front of nginx where TLS ends. */
import type { Measurement } from './measurement.ts'
import { nginxTls } from './nginx.ts'
import { bar, skip } from './report.ts'
import { requests, withoutWrk, wrk } from './requests.ts'
import { blindgateHttps } from './systems.ts'

const CONNECTIONS = 64
/** Of the reference's CPU per request. */
const BAR = 1.6

export const https64: Measurement = {
  name: 'https64',
  about: `TLS that ends in the client: CPU per request at ${CONNECTIONS} keep-alive connections`,
  async run(settings) {
    const missing = withoutWrk()
    if (missing !== undefined) return skip(missing)
    const load = wrk({ connections: CONNECTIONS, tls: true })
    const { results, ratio } = await requests([nginxTls, blindgateHttps], nginxTls, load, settings)
    const ours = ratio('both', blindgateHttps, nginxTls)
    if (ours !== undefined) console.log(bar('CPU per request', ours.median, BAR, '× nginx'))
    return { connections: CONNECTIONS, bar: BAR, ratio: ours, results }
  },
}
