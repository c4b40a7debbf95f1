/** A gateway of one process and of two workers: what the gateway alone answers, and what it carries, on however many cores there are. */
import { blindgateWorkers } from './blindgate.ts'
import type { Measurement } from './measurement.ts'
import { atLeast, skip } from './report.ts'
import { requests, requestsTable } from './requests.ts'
import type { Kind } from './systems.ts'
import { withoutWrk, wrk } from './wrk.ts'

const CONNECTIONS = 64
const PAGES = [1, 2].map((workers) => blindgateWorkers('http', workers))
const CARRIED = [1, 2].map((workers) => blindgateWorkers('tcp', workers))
const [PAGE_ONE, PAGE_TWO] = PAGES as [Kind, Kind]
const NOBODYS = 'nobody.bench.test'

export const workers: Measurement = {
  name: 'workers',
  about:
    `one process and two workers at ${CONNECTIONS} connections: requests that the gateway answers itself, on new connections and ` +
    'on kept ones, and tcp',
  async run(settings) {
    const missing = withoutWrk()
    if (missing !== undefined) return skip(missing)
    // A new connection costs a gateway more than it costs whoever makes it: here a second worker shows on two cores.
    const arrivals = wrk({ connections: CONNECTIONS, nobodys: NOBODYS, once: true })
    const arriving = await requests(PAGES, arrivals, settings)
    const kept = await requests(PAGES, wrk({ connections: CONNECTIONS, nobodys: NOBODYS }), settings)
    const carried = await requests(CARRIED, wrk({ connections: CONNECTIONS }), settings)
    const ratio = arriving.ratio('perSecond', PAGE_TWO, PAGE_ONE)
    const outcomes = [
      arriving.outcome(
        [requestsTable(arriving, PAGES, PAGE_ONE)],
        atLeast('new connections/s, answered by the gateway, 2 workers', ratio, '× one', 1.1),
      ),
      kept.outcome([requestsTable(kept, PAGES, PAGE_ONE)], []),
      carried.outcome([requestsTable(carried, CARRIED, CARRIED[0] as Kind)], []),
    ]
    return {
      tables: outcomes.flatMap(({ tables }) => tables),
      goals: outcomes.flatMap(({ goals }) => goals),
      without: outcomes.flatMap(({ without }) => without ?? []),
      figures: outcomes.map(({ figures }) => figures),
    }
  },
}
