/** The pure cores alone: each `bench/micro-*.ts` exports functions whose names end in `Micro`. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Measurement } from './measurement.ts'
import { recordTable } from './report.ts'

export const micro: Measurement = {
  name: 'micro',
  about: 'the pure cores alone, without sockets',
  async run() {
    const results: Record<string, unknown> = {}
    const names = readdirSync(import.meta.dirname).filter((name) => /^micro-.*\.js$/.test(name))
    for (const name of names.toSorted()) {
      const path = pathToFileURL(join(import.meta.dirname, name)).href
      const module = (await import(path)) as Record<string, unknown>
      for (const [key, measure] of Object.entries(module)) {
        if (!key.endsWith('Micro') || typeof measure !== 'function') continue
        results[key] = await (measure as () => unknown)()
      }
    }
    const records = Object.values(results).flatMap((each) => (Array.isArray(each) ? (each as object[]) : []))
    return { tables: [recordTable(records)], goals: [], figures: results }
  },
}
