import { setTimeout as passed } from 'node:timers/promises'
import { pour } from './pattern.ts'
import { Caller, type Kind } from './visits.ts'

const KiB = 1024

/** Visitors by tcp. Sizes are more than what all buffers on the way take, where somebody stalls. */
export const TCP: readonly Kind[] = [
  {
    name: 'tcp echo',
    weight: 12,
    mannered: true,
    async visit({ tcp }, chance) {
      const at = chance.below(1e6)
      const caller = new Caller(tcp, 'echo\n', at)
      let said = 0
      for (let rounds = 1 + chance.below(5); rounds > 0; rounds--) {
        const length = 1 + chance.below(20_000)
        await pour(caller.socket, at + said, length)
        said += length
        await caller.has(said)
      }
      caller.socket.end()
      await caller.all(said)
    },
  },
  {
    name: 'tcp download',
    weight: 4,
    mannered: true,
    async visit({ tcp }, chance) {
      const [at, length] = [chance.below(1e6), chance.below(2_000 * KiB)]
      await new Caller(tcp, `send ${at} ${length}\n`, at).all(length)
    },
  },
  {
    name: 'tcp half-closed, and all read',
    weight: 6,
    mannered: true,
    async visit({ tcp }, chance) {
      const [at, length] = [chance.below(1e6), chance.below(400 * KiB)]
      const caller = new Caller(tcp, `take ${at} ${length}\n`, at)
      await pour(caller.socket, at, length)
      caller.socket.end()
      await caller.all(length)
    },
  },
  {
    name: 'tcp stalled, then read',
    weight: 3,
    mannered: true,
    async visit({ tcp }, chance) {
      const [at, length] = [chance.below(1e6), (4 + chance.below(8)) * KiB * KiB]
      const caller = new Caller(tcp, `send ${at} ${length}\n`, at)
      await passed(chance.below(4_000))
      await caller.all(length)
    },
  },
  {
    name: 'tcp broken by its target',
    weight: 3,
    mannered: true,
    async visit({ tcp }, chance) {
      const [at, length] = [chance.below(1e6), chance.below(200 * KiB)]
      await new Caller(tcp, `break ${at} ${length}\n`, at).broken()
    },
  },
  {
    name: 'tcp stalled, then reset',
    weight: 4,
    mannered: false,
    async visit({ tcp }, chance) {
      const caller = new Caller(tcp, `send 0 ${12 * KiB * KiB}\n`, 0)
      await passed(chance.below(4_000))
      await caller.reset()
    },
  },
  {
    name: 'tcp reset half-way',
    weight: 8,
    mannered: false,
    async visit({ tcp }, chance) {
      const at = chance.below(1e6)
      const download = chance.below(2) === 0
      const caller = new Caller(tcp, download ? `send ${at} 1000000\n` : 'echo\n', at)
      if (!download) await pour(caller.socket, at, 100_000)
      await caller.has(1 + chance.below(90_000))
      await caller.reset()
    },
  },
  {
    name: 'tcp upload reset half-way',
    weight: 4,
    mannered: false,
    async visit({ tcp }, chance) {
      const caller = new Caller(tcp, `take 0 1000000\n`, 0)
      await pour(caller.socket, 0, chance.below(900_000))
      await caller.reset()
    },
  },
  {
    name: 'tcp reset at once',
    weight: 4,
    mannered: false,
    visit: ({ tcp }) => new Caller(tcp, 'echo', 0).reset(),
  },
]
