/** Short visits: a new connection for each request; of http it reaches a connection to the target that is there already. */
import { BUILDS, blindgate, blindgateHttp } from './blindgate.ts'
import { frpHttp, frpTcp } from './frp.ts'
import type { Measurement } from './measurement.ts'
import { nginxTwice } from './nginx.ts'
import { PEERS } from './peers.ts'
import { atLeast, type Goal, skip } from './report.ts'
import { type Cost, requests, requestsTable } from './requests.ts'
import type { Rounds } from './rounds.ts'
import type { Kind } from './systems.ts'
import { withoutWrk, wrk } from './wrk.ts'

const AT_ONCE = 16

function measurement(
  name: string,
  about: string,
  kinds: readonly Kind[],
  goals: (rounds: Rounds<Cost>) => Goal[],
): Measurement {
  return {
    name,
    about: `${about}: a new connection per request, ${AT_ONCE} at a time`,
    async run(settings) {
      const missing = withoutWrk()
      if (missing !== undefined) return skip(missing)
      const rounds = await requests(kinds, wrk({ connections: AT_ONCE, once: true }), settings)
      return rounds.outcome([requestsTable(rounds, kinds, nginxTwice)], goals(rounds))
    },
  }
}

export const tcpnew = measurement('tcpnew', 'tcp', [nginxTwice, blindgate, ...BUILDS, ...PEERS], (rounds) => {
  const ratio = (to: Kind) => rounds.ratio('perSecond', blindgate, to)
  return [
    ...atLeast('new connections/s, tcp', ratio(nginxTwice), `× ${nginxTwice.name}`, 0.5, 0.8),
    ...atLeast('new connections/s, tcp', ratio(frpTcp), `× ${frpTcp.name}`, 1.7),
  ]
})

export const httpnew = measurement('httpnew', 'http', [nginxTwice, blindgateHttp, frpHttp], (rounds) => {
  const ratio = (to: Kind) => rounds.ratio('perSecond', blindgateHttp, to)
  return [
    ...atLeast('new connections/s, http', ratio(nginxTwice), `× ${nginxTwice.name}`, 0.8, 1.1),
    ...atLeast('new connections/s, http', ratio(frpHttp), `× ${frpHttp.name}`, 2),
  ]
})
