import type { DoctorContext } from './context.ts'
import type { DoctorFinding } from './index.ts'

/** What clients that run say of each service, those of quick commands too: where visitors reach it, or why they do not. */
export function runningChecks({ services, running }: DoctorContext): Promise<DoctorFinding[]> {
  const findings = services.map(({ name }): DoctorFinding => {
    const about = { check: 'service' as const, about: name }
    const routes = running.flatMap((status) => status.routes.filter((route) => route.name === name))
    const urls = routes.flatMap((route) => route.urls)
    const error = routes.find((route) => route.error !== undefined)?.error
    if (error !== undefined) {
      return {
        ...about,
        level: 'fail',
        text: `is refused: ${error.message}`,
        advice: 'see `blindgate status`',
      }
    }
    if (urls.length > 0) return { ...about, level: 'ok', text: `is offered at ${urls.join(' ')}` }
    if (routes.length > 0) {
      const advice = 'the gateway has not answered: see above'
      return { ...about, level: 'warn', text: 'is not offered yet', advice }
    }
    return { ...about, level: 'fail', text: 'no client that runs offers it', advice: 'start `blindgate up`' }
  })
  const alarms = running.flatMap(({ trust }) => trust?.alarms ?? [])
  const seen = alarms.map(
    ({ finding, first, last }): DoctorFinding => ({
      ...finding,
      text: `the running client saw, from ${first} to ${last}: ${finding.text}`,
    }),
  )
  return Promise.resolve([...findings, ...seen])
}
