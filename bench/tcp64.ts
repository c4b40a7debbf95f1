/** CPU per request of both sides, at 64 keep-alive connections of small requests, beside two nginx hops. */
import type { Measurement } from './measurement.ts'
import { nginxTwice } from './nginx.ts'
import { bar, skip } from './report.ts'
import { requests, withoutWrk, wrk } from './requests.ts'
import { blindgate } from './systems.ts'

const CONNECTIONS = 64
/** Of the reference's CPU per request. */
const BAR = 1.3

export const tcp64: Measurement = {
  name: 'tcp64',
  about: `CPU per request at ${CONNECTIONS} keep-alive connections`,
  async run(settings) {
    const missing = withoutWrk()
    if (missing !== undefined) return skip(missing)
    const load = wrk({ connections: CONNECTIONS })
    const { results, ratio } = await requests([nginxTwice, blindgate], nginxTwice, load, settings)
    const ours = ratio('both', blindgate, nginxTwice)
    if (ours !== undefined) console.log(bar('CPU per request', ours.median, BAR, '× nginx'))
    return { connections: CONNECTIONS, bar: BAR, ratio: ours, results }
  },
}
