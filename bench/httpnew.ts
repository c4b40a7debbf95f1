/** Short visits: a new connection for each request, which reaches a connection to the target that is there already. */
import type { Measurement } from './measurement.ts'
import { nginxTwice } from './nginx.ts'
import { atLeast, skip } from './report.ts'
import { requests, withoutWrk, wrk } from './requests.ts'
import { blindgateHttp, frpHttp } from './systems.ts'

const AT_ONCE = 16
/** Of the requests per second of each. */
const BAR_FRP = 2
const AIM_NGINX = 1

export const httpnew: Measurement = {
  name: 'httpnew',
  about: `a new connection per request, ${AT_ONCE} at a time`,
  async run(settings) {
    const missing = withoutWrk()
    if (missing !== undefined) return skip(missing)
    const kinds = [nginxTwice, blindgateHttp, frpHttp]
    const load = wrk({ connections: AT_ONCE, once: true })
    const { results, ratio } = await requests(kinds, nginxTwice, load, settings)
    const frp = ratio('requestsPerSecond', blindgateHttp, frpHttp)
    const nginx = ratio('requestsPerSecond', blindgateHttp, nginxTwice)
    if (frp !== undefined) console.log(atLeast('requests per second', frp.median, BAR_FRP, '× frp http'))
    if (nginx !== undefined) console.log(atLeast('requests per second', nginx.median, AIM_NGINX, '× nginx'))
    return { atOnce: AT_ONCE, bars: { frp: BAR_FRP, nginx: AIM_NGINX }, ratios: { frp, nginx }, results }
  },
}
