import { afterEach, beforeEach, describe, expect, it, type Mock, vi } from 'vitest'
import { Handovers, type Incoming } from '../../../src/gateway/workers/handovers.ts'
import type { Member } from '../../../src/gateway/workers/member.ts'
import { HANDOVERS_PER_ADDRESS, HANDSHAKE_MS } from '../../../src/limits.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

interface Worker {
  member: Member
  /** What it was handed, by its descriptor. */
  handed: number[]
  /** It takes what it was handed last. */
  take(): Promise<void>
  /** Its process ends. */
  end(): Promise<void>
}

function worker(number: number): Worker {
  const asked: PromiseWithResolvers[] = []
  const handed: number[] = []
  const settled = async (settle: 'resolve' | 'reject'): Promise<void> => {
    for (const one of asked.splice(0)) one[settle]()
    await vi.advanceTimersByTimeAsync(0)
  }
  const line = {
    ask(_word: string, _about: unknown, handle: { fd: number }) {
      handed.push(handle.fd)
      return new Promise<void>((resolve, reject) => {
        asked.push({ resolve, reject: () => reject(new Error('ended')) })
      })
    },
  }
  const member = { number, line } as unknown as Member
  return { member, handed, take: () => settled('resolve'), end: () => settled('reject') }
}

interface PromiseWithResolvers {
  resolve(): void
  reject(): void
}

let fd = 0
function incoming(address = '192.0.2.1'): Incoming & { handle: { close: Mock<() => void>; fd: number } } {
  fd += 1
  return { handle: { close: vi.fn<() => void>(), fd }, address, first: new Uint8Array(0) }
}

function handoversTo(...workers: Worker[]): { handovers: Handovers; hung: Member[]; members: Member[] } {
  const hung: Member[] = []
  const members = workers.map(({ member }) => member)
  const handovers = new Handovers({
    members: () => members,
    random: () => 0,
    hung: (member) => void hung.push(member),
  })
  return { handovers, hung, members }
}

describe('a connection on its way to a worker', () => {
  it('goes when the one before it was taken, and is closed here when it was taken itself', async () => {
    const one = worker(1)
    const { handovers, hung } = handoversTo(one)
    const [first, second] = [incoming(), incoming()]
    handovers.add(first)
    handovers.add(second)
    expect(one.handed).toEqual([first.handle.fd])
    expect(first.handle.close).not.toHaveBeenCalled()
    await one.take()
    expect(first.handle.close).toHaveBeenCalledOnce()
    expect(one.handed).toEqual([first.handle.fd, second.handle.fd])
    await one.take()
    expect(second.handle.close).toHaveBeenCalledOnce()
    await vi.advanceTimersByTimeAsync(HANDSHAKE_MS)
    expect(hung).toEqual([])
  })

  it('is not closed while it is being sent, whoever else comes and however long that takes', async () => {
    const one = worker(1)
    const { handovers } = handoversTo(one)
    const first = incoming()
    handovers.add(first)
    const others = Array.from({ length: HANDOVERS_PER_ADDRESS + 1 }, () => incoming())
    for (const other of others) handovers.add(other)
    expect(others[0]?.handle.close).toHaveBeenCalledOnce()
    await vi.advanceTimersByTimeAsync(2 * HANDSHAKE_MS)
    for (const other of others) expect(other.handle.close).toHaveBeenCalledOnce()
    expect(first.handle.close).not.toHaveBeenCalled()
    await one.end()
    expect(first.handle.close).toHaveBeenCalledOnce()
    expect(one.handed).toEqual([first.handle.fd])
  })

  it('that is not taken in time shows a worker that hangs; who waited for it goes to another one', async () => {
    const [one, two] = [worker(1), worker(2)]
    const { handovers, hung, members } = handoversTo(one)
    handovers.add(incoming())
    await vi.advanceTimersByTimeAsync(HANDSHAKE_MS - 1)
    const late = incoming()
    handovers.add(late)
    expect(hung).toEqual([])
    await vi.advanceTimersByTimeAsync(1)
    expect(hung).toEqual([one.member])
    members.splice(0, 1, two.member)
    handovers.gone(one.member)
    await one.end()
    expect(late.handle.close).not.toHaveBeenCalled()
    expect(two.handed).toEqual([late.handle.fd])
  })

  it('that waited too long counts for its worker no more', async () => {
    const [one, two] = [worker(1), worker(2)]
    const { handovers } = handoversTo(one, two)
    const all = Array.from({ length: 4 }, () => incoming())
    for (const each of all) handovers.add(each)
    expect([one.handed.length, two.handed.length]).toEqual([1, 1])
    await vi.advanceTimersByTimeAsync(HANDSHAKE_MS)
    expect(all.map(({ handle }) => handle.close.mock.calls.length)).toEqual([0, 0, 1, 1])
    await two.take()
    handovers.left(2)
    const next = incoming()
    handovers.add(next)
    expect(two.handed).toContain(next.handle.fd)
  })
})
