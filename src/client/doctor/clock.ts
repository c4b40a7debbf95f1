import { TunnelError } from '../../errors.ts'
import { CLOCK_ANSWER_BYTES, CLOCK_SKEW_MS, DOCTOR_ANSWER_MS } from '../../limits.ts'
import { httpsGet } from '../trust/https-get.ts'
import type { DoctorContext } from './context.ts'
import type { DoctorFinding } from './index.ts'

/**
 * This machine's clock against that of the certificate search, which proves its name and is asked anyway. Its answers say
 * whole seconds; a gateway is not asked, for it may say what it likes. Only https needs the time.
 */
export async function clockChecks({ services, trust, signal }: DoctorContext): Promise<DoctorFinding[]> {
  if (services.every(({ type }) => type !== 'https')) return []
  const { origin, host } = new URL(trust.settings.ct.replaceAll(/\{\w+\}/g, 'x'))
  const about = { check: 'clock' as const, about: 'this machine' }
  const source = `by the Date that ${host} says`
  try {
    const asked = Date.now()
    const limits = { bytes: CLOCK_ANSWER_BYTES, ms: DOCTOR_ANSWER_MS, ca: trust.ca, signal }
    const { headers } = await httpsGet(`${origin}/`, limits)
    const answered = Date.now()
    const theirs = Date.parse(String(headers['date'] ?? ''))
    if (Number.isNaN(theirs))
      return [{ ...about, level: 'warn', text: `the time could not be compared: ${host} says no Date` }]
    // Somewhere between question and answer, in the second that was said.
    const ahead = (asked + answered) / 2 - (theirs + 500)
    const seconds = Math.round(Math.abs(ahead) / 1_000)
    if (Math.abs(ahead) > CLOCK_SKEW_MS) {
      return [
        {
          ...about,
          level: 'fail',
          text: `its clock is ${seconds} s ${ahead > 0 ? 'ahead' : 'behind'}, ${source}`,
          advice: 'have it set by NTP (systemd-timesyncd, chrony): certificates count by it',
        },
      ]
    }
    return [{ ...about, level: 'ok', text: `its clock is right to ${Math.max(1, seconds)} s, ${source}` }]
  } catch (error) {
    if (!(error instanceof TunnelError)) throw error
    const advice = 'if its clock is far off, certificates are not believed: see `date -u`'
    return [{ ...about, level: 'warn', text: `the time could not be compared: ${error.message}`, advice }]
  }
}
