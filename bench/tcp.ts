/** Small requests through a port of tcp, at so many keep-alive connections: CPU of both sides, beside two nginx hops. */
import { BUILDS, blindgate, blindgateHttp } from './blindgate.ts'
import { frpHttp, frpTcp } from './frp.ts'
import type { Measurement } from './measurement.ts'
import { nginxTwice } from './nginx.ts'
import { ENCRYPTING, PEERS } from './peers.ts'
import { atLeast, atMost, type Goal, skip } from './report.ts'
import { type Cost, requests, requestsTable } from './requests.ts'
import type { Rounds } from './rounds.ts'
import { withoutWrk, wrk } from './wrk.ts'

/** Of the reference's CPU per request, by connections. */
const LIMITS = { 1: { bar: 2.2, aim: 1.4 }, 64: { bar: 1.15, aim: 0.85 }, 256: { bar: 1, aim: 0.7 } } as const
/** http, of the CPU per request of the same gateway's tcp. */
const HTTP = { bar: 1.25, aim: 1.1 }

const KINDS = [nginxTwice, blindgate, ...BUILDS, blindgateHttp, ...PEERS]

function tcp(connections: keyof typeof LIMITS): Measurement {
  return {
    name: `tcp${connections}`,
    about: `CPU per request at ${connections} keep-alive connection${connections === 1 ? '' : 's'}`,
    async run(settings) {
      const missing = withoutWrk()
      if (missing !== undefined) return skip(missing)
      const rounds = await requests(KINDS, wrk({ connections }), settings)
      const { bar, aim } = LIMITS[connections]
      const ours = rounds.ratio('both', blindgate, nginxTwice)
      const goals = [
        ...atMost(`CPU per request, tcp, ${connections}`, ours, `× ${nginxTwice.name}`, bar, aim),
        ...(connections === 64 ? ENCRYPTING.flatMap((peer) => ahead(rounds, peer.name)) : []),
        ...httpGoals(rounds, connections),
      ]
      return rounds.outcome([requestsTable(rounds, KINDS, nginxTwice)], goals)
    },
  }
}

function ahead(rounds: Rounds<Cost>, peer: string): Goal[] {
  const kind = PEERS.find(({ name }) => name === peer)
  const ratio = kind === undefined ? undefined : rounds.ratio('both', blindgate, kind)
  return atMost('CPU per request, tcp, 64', ratio, `× ${peer}`, 1)
}

function httpGoals(rounds: Rounds<Cost>, connections: number): Goal[] {
  const ratio = rounds.ratio('both', blindgateHttp, blindgate)
  return atMost(`CPU per request, http, ${connections}`, ratio, '× own tcp', HTTP.bar, HTTP.aim)
}

export const tcp1 = tcp(1)
export const tcp64 = tcp(64)
export const tcp256 = tcp(256)

/** Of frp's requests per second. */
const BAR_FRP = 6

export const http64: Measurement = {
  name: 'http64',
  about: 'http beside tcp: CPU per request at 64 keep-alive connections',
  async run(settings) {
    const missing = withoutWrk()
    if (missing !== undefined) return skip(missing)
    const kinds = [nginxTwice, blindgate, ...BUILDS, blindgateHttp, frpTcp, frpHttp]
    const rounds = await requests(kinds, wrk({ connections: 64 }), settings)
    const frp = rounds.ratio('perSecond', blindgateHttp, frpHttp)
    return rounds.outcome(
      [requestsTable(rounds, kinds, blindgate)],
      [...httpGoals(rounds, 64), ...atLeast('requests/s, http, 64', frp, `× ${frpHttp.name}`, BAR_FRP)],
    )
  },
}
