/** Short visits by TLS that ends in the client: a handshake for each request, whole or resumed by a ticket. */
import { blindgateHttps } from './blindgate.ts'
import type { Measurement } from './measurement.ts'
import { nginxTls } from './nginx.ts'
import { atLeast, skip } from './report.ts'
import { requests, requestsTable } from './requests.ts'
import { type Handshake, visitors, withoutVisitors } from './visitors.ts'

const AT_ONCE = 16

/** `least`: of the reference's connections per second. */
function measurement(name: string, handshake: Handshake, least: number, what: string): Measurement {
  return {
    name,
    about: `TLS that ends in the client: ${what} per connection, ${AT_ONCE} at a time`,
    async run(settings) {
      const missing = await withoutVisitors()
      if (missing !== undefined) return skip(missing)
      const { load, remove } = await visitors({ atOnce: AT_ONCE, handshake })
      try {
        const kinds = [nginxTls, blindgateHttps]
        const rounds = await requests(kinds, load, settings)
        const ours = rounds.ratio('perSecond', blindgateHttps, nginxTls)
        return rounds.outcome(
          [requestsTable(rounds, kinds, nginxTls)],
          atLeast(`connections/s, https, ${what}`, ours, `× ${nginxTls.name}`, least),
        )
      } finally {
        remove()
      }
    },
  }
}

export const httpsnew = measurement('httpsnew', 'full', 0.6, 'a full handshake')

export const httpsresumed = measurement('httpsresumed', 'resumed', 0.8, 'a resumed session')
