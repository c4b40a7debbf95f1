/** A gateway of one process and of two workers: what the gateway alone answers, and what it carries, on however many cores there are. */
import { blindgateWorkers } from './blindgate.ts'
import type { Measurement } from './measurement.ts'
import { skip } from './report.ts'
import { requests, requestsTable } from './requests.ts'
import { withoutWrk, wrk } from './wrk.ts'

const CONNECTIONS = 64
const PAGES = [1, 2].map((workers) => blindgateWorkers('http', workers))
const CARRIED = [1, 2].map((workers) => blindgateWorkers('tcp', workers))

export const workers: Measurement = {
  name: 'workers',
  about: `one process and two workers: requests that the gateway answers itself, and tcp, at ${CONNECTIONS} connections`,
  async run(settings) {
    const missing = withoutWrk()
    if (missing !== undefined) return skip(missing)
    const nobodys = wrk({ connections: CONNECTIONS, nobodys: 'nobody.bench.test' })
    const pages = await requests(PAGES, nobodys, settings)
    const carried = await requests(CARRIED, wrk({ connections: CONNECTIONS }), settings)
    const [page, tcp] = [PAGES[0], CARRIED[0]]
    if (page === undefined || tcp === undefined) return skip('there is nothing to measure')
    const one = pages.outcome([requestsTable(pages, PAGES, page)], [])
    const other = carried.outcome([requestsTable(carried, CARRIED, tcp)], [])
    return {
      tables: [...one.tables, ...other.tables],
      goals: [],
      without: [...(one.without ?? []), ...(other.without ?? [])],
      figures: Object.assign({}, one.figures, other.figures),
    }
  },
}
