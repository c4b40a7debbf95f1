/** What it costs that the gateway reads requests: `http` beside `tcp`, at 64 keep-alive connections of small requests. */
import type { Measurement } from './measurement.ts'
import { nginxTwice } from './nginx.ts'
import { atLeast, bar, skip } from './report.ts'
import { requests, withoutWrk, wrk } from './requests.ts'
import { blindgate, blindgateHttp, frpHttp, frpTcp } from './systems.ts'

const CONNECTIONS = 64
/** Of the CPU per request of the same gateway's `tcp`. */
const BAR_TCP = 1.25
/** Of frp's requests per second. */
const BAR_FRP = 6

export const http64: Measurement = {
  name: 'http64',
  about: `http beside tcp: CPU per request at ${CONNECTIONS} keep-alive connections`,
  async run(settings) {
    const missing = withoutWrk()
    if (missing !== undefined) return skip(missing)
    const kinds = [nginxTwice, blindgate, blindgateHttp, frpTcp, frpHttp]
    const load = wrk({ connections: CONNECTIONS })
    const { results, ratio } = await requests(kinds, blindgate, load, settings)
    const tcp = ratio('both', blindgateHttp, blindgate)
    const frp = ratio('requestsPerSecond', blindgateHttp, frpHttp)
    if (tcp !== undefined) console.log(bar('CPU per request', tcp.median, BAR_TCP, '× own tcp'))
    if (frp !== undefined) console.log(atLeast('requests per second', frp.median, BAR_FRP, '× frp http'))
    return { connections: CONNECTIONS, bars: { tcp: BAR_TCP, frp: BAR_FRP }, ratios: { tcp, frp }, results }
  },
}
