import { EventEmitter } from 'node:events'
import { describe, expect, it, vi } from 'vitest'
import { TunnelError } from '../../../src/errors.ts'
import { type Ears, Line, type Peer, WithHandle } from '../../../src/gateway/workers/line.ts'

interface Words {
  double(number: number): number
  note(text: string): void
  fail(kind: 'ours' | 'bug'): void
  port(nothing: undefined): string
}

const handle = { close: vi.fn(), fd: 3 }

/** Two ends in one process: what one sends, the other hears in a later turn, in order, as values. */
function ends(ears: Partial<Ears<Words>>): { asking: Line<Words, Words>; answering: Line<Words, Words> } {
  const [a, b] = [new EventEmitter(), new EventEmitter()]
  const peer = (own: EventEmitter, other: EventEmitter): Peer =>
    Object.assign(own, {
      send(frame: unknown, with_: unknown, _options: unknown, sent: (error: Error | null) => void) {
        const copy = structuredClone(frame)
        setImmediate(() => {
          sent(null)
          other.emit('message', copy, with_)
        })
        return true
      },
    }) as unknown as Peer
  const none = {} as Ears<Words>
  return {
    asking: new Line<Words, Words>(peer(a, b), none),
    answering: new Line<Words, Words>(peer(b, a), { ...none, ...ears }),
  }
}

describe('a line between two processes', () => {
  it('answers what is asked, each its own, and says nothing to what is told', async () => {
    const noted: string[] = []
    const { asking } = ends({ double: (number) => number * 2, note: (text) => void noted.push(text) })
    asking.tell('note', 'before')
    expect(await Promise.all([asking.ask('double', 1), asking.ask('double', 2)])).toEqual([2, 4])
    expect(noted).toEqual(['before'])
    expect(asking.unsent).toBe(0)
  })

  it('is heard in the order in which it was said, though an earlier answer takes its time', async () => {
    const heard: unknown[] = []
    let release = (_number: number): void => undefined
    const { asking } = ends({
      double: (number) => {
        heard.push(number)
        return new Promise<number>((resolve) => {
          release = resolve
        })
      },
      note: (text) => void heard.push(text),
    })
    const answer = asking.ask('double', 1)
    asking.tell('note', 'after')
    await vi.waitFor(() => expect(heard).toEqual([1, 'after']))
    release(7)
    expect(await answer).toBe(7)
  })

  it('rejects as the other end did, with its code, scope, side and what the system said', async () => {
    const { asking } = ends({
      fail: (kind) => {
        if (kind === 'bug') throw new RangeError('a slip')
        const cause = Object.assign(new Error('in use'), { code: 'EADDRINUSE' })
        throw new TunnelError('port_in_use', {
          scope: 'stream',
          remote: true,
          detail: 'choose another',
          cause,
        })
      },
    })
    const error = await asking.ask('fail', 'ours').catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(TunnelError)
    expect(error).toMatchObject({
      code: 'port_in_use',
      scope: 'stream',
      remote: true,
      message: 'choose another',
      cause: { code: 'EADDRINUSE' },
    })
    await expect(asking.ask('fail', 'bug')).rejects.toMatchObject({ code: 'internal', message: 'a slip' })
  })

  it('carries a handle with an answer', async () => {
    const { asking } = ends({ port: async () => new WithHandle('bound', handle) })
    expect(await asking.askForHandle('port', undefined)).toEqual({ value: 'bound', handle })
    expect(handle.close).not.toHaveBeenCalled()
  })

  it('that has ended rejects who waits, and who asks later', async () => {
    const { asking } = ends({ double: () => new Promise<number>(() => undefined) })
    const waiting = asking.ask('double', 1)
    asking.end()
    await expect(waiting).rejects.toMatchObject({ code: 'closed' })
    await expect(asking.ask('double', 1)).rejects.toMatchObject({ code: 'closed' })
  })

  it('that has ended hears nothing more of the other end, whose last words may come later', async () => {
    const { asking, answering } = ends({ note: () => expect.unreachable() })
    asking.tell('note', 'too late')
    void asking.ask('double', 1, handle).catch(() => undefined)
    answering.end()
    await vi.waitFor(() => expect(handle.close).toHaveBeenCalledOnce())
    asking.end()
  })

  it('rejects what cannot be sent', async () => {
    const send = (_f: unknown, _h: unknown, _o: unknown, sent: (error: Error) => void): boolean => {
      setImmediate(() => sent(new Error('write EINVAL')))
      return false
    }
    const peer = Object.assign(new EventEmitter(), { send }) as unknown as Peer
    const line = new Line<Words, Words>(peer, {} as Ears<Words>)
    await expect(line.ask('double', 1)).rejects.toMatchObject({ code: 'closed' })
    expect(line.unsent).toBe(0)
  })
})
