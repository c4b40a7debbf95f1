import { pino } from 'pino'
import { afterEach } from 'vitest'
import type { ChallengeBroker } from '../../src/client/acme/proofs.ts'
import { AcmeSource, type AcmeSourceOptions } from '../../src/client/acme/source.ts'
import { type AcmeSettings, DEFAULT_ACME } from '../../src/config/index.ts'
import { openState, type State } from '../../src/state/index.ts'
import { Moments } from '../client/moments.ts'
import { newFolder } from '../state/folders.ts'
import { TestClock } from './test-clock.ts'

export interface Line {
  level: number
  msg: string
}

/** What a source came to at some moment. */
export interface Seen {
  chain: string | undefined
  trouble: string | undefined
}

/** A source that runs, and all that is seen of it. */
export interface Running {
  source: AcmeSource
  clock: TestClock
  seen: Moments<Seen>
  lines: Line[]
  /** The next certificate that is not `old`. */
  certificate(old?: string): Promise<string>
  /** The next trouble that fits. */
  trouble(fits: RegExp): Promise<string>
  close(): Promise<void>
}

export interface World {
  state: State
  settings?: Partial<AcmeSettings>
  challenges?: ChallengeBroker
  hosts?: string[]
  clock?: TestClock
  more?: Partial<AcmeSourceOptions>
}

const running = new Set<Running>()

afterEach(async () => {
  for (const one of running) await one.close()
})

export async function newState(): Promise<State> {
  return openState(await newFolder())
}

export function settingsOf(some: Partial<AcmeSettings> = {}): AcmeSettings {
  return { ...DEFAULT_ACME, ...some }
}

const NOBODY: ChallengeBroker = { offer: () => Promise.reject(new Error('nobody is to be asked')) }

/** Starts a source for `web`, which is closed after the test. */
export function run({ state, settings, challenges, hosts, clock, more }: World): Running {
  const seen = new Moments<Seen>()
  const lines: Line[] = []
  const time = clock ?? new TestClock()
  const source = new AcmeSource({
    service: 'web',
    hosts: hosts ?? ['app.example.test'],
    settings: settingsOf(settings),
    state,
    log: pino({ level: 'debug' }, { write: (text: string) => lines.push(JSON.parse(text) as Line) }),
    challenges: challenges ?? NOBODY,
    version: '0.0.0',
    // Nearly the latest and longest: waits between tries are never short.
    random: () => 0.99,
    clock: time,
    ...more,
  })
  source.changed = () => {
    seen.add({ chain: source.current?.chain, trouble: source.trouble })
  }
  source.start()
  const one: Running = {
    source,
    clock: time,
    seen,
    lines,
    async certificate(old) {
      const fits = ({ chain, trouble }: Seen): boolean =>
        chain !== undefined && chain !== old && trouble === undefined
      return (await seen.find(fits)).chain ?? ''
    },
    async trouble(fits) {
      const found = await seen.find(({ trouble }) => trouble !== undefined && fits.test(trouble))
      return found.trouble ?? ''
    },
    async close() {
      running.delete(one)
      source.close()
      await source.ended
    },
  }
  running.add(one)
  return one
}
