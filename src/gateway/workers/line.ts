import type { ChildProcess } from 'node:child_process'
import { isErrorCode, type Scope, TunnelError } from '../../errors.ts'
import type { Handle } from '../../net/index.ts'

/** What one end may say to the other: by each word what goes along, and what is answered where an answer is asked for. */
type Words<T> = { [K in keyof T]: (about: never) => unknown }
type About<T, K extends keyof T> = T[K] extends (about: infer A) => unknown ? A : never
type Answer<T, K extends keyof T> = T[K] extends (...about: never[]) => infer R ? R : never

/** An answer that a handle goes with. */
export class WithHandle<T> {
  readonly value: T
  readonly handle: Handle

  constructor(value: T, handle: Handle) {
    this.value = value
    this.handle = handle
  }
}

/** What is done at each word of the other end. A handle that comes along is the callee's to close. */
export type Ears<T extends Words<T>> = {
  [K in keyof T]: (
    about: About<T, K>,
    handle: Handle | undefined,
  ) => Answer<T, K> | Promise<Answer<T, K>> | Promise<WithHandle<Answer<T, K>>>
}

interface Frame {
  word?: string
  about?: unknown
  /** An answer is wanted. */
  ask?: number
  /** It is the answer to that. */
  to?: number
  error?: { code: string; message: string; scope: Scope; remote: boolean; system?: string | undefined }
}

interface Asked {
  resolve(answer: { value: never; handle: Handle | undefined }): void
  reject(error: unknown): void
}

/** One end: a child process, or the process that is one. */
export type Peer = Pick<ChildProcess, 'on' | 'send'> | NodeJS.Process

/**
 * Words and answers between two of our processes, in the order in which they were said, on either way. Both are the same
 * program; what they say comes from peers all the same, so each word is as small as what it is about.
 */
export class Line<Theirs extends Words<Theirs>, Mine extends Words<Mine>> {
  readonly #peer: Peer
  readonly #ears: Ears<Mine>
  readonly #asked = new Map<number, Asked>()
  #last = 0
  #ended = false
  /** Words that the system has not taken yet. */
  unsent = 0

  constructor(peer: Peer, ears: Ears<Mine>) {
    this.#peer = peer
    this.#ears = ears
    const hear = (frame: unknown, handle: unknown): void =>
      this.#hear(frame as Frame, handle as Handle | undefined)
    ;(peer as ChildProcess).on('message', hear)
  }

  /** Nobody answers. */
  tell<K extends keyof Theirs & string>(word: K, about: About<Theirs, K>): void {
    this.#send({ word, about })
  }

  /**
   * Rejects as the other end did, and with `closed` when that has ended. `handle` stays the caller's, who closes it no
   * sooner than this is settled: it may not have been sent yet, and what cannot be sent holds up all that follows.
   */
  async ask<K extends keyof Theirs & string>(
    word: K,
    about: About<Theirs, K>,
    handle?: Handle,
  ): Promise<Answer<Theirs, K>> {
    return (await this.askForHandle(word, about, handle)).value
  }

  askForHandle<K extends keyof Theirs & string>(
    word: K,
    about: About<Theirs, K>,
    handle?: Handle,
  ): Promise<{ value: Answer<Theirs, K>; handle: Handle | undefined }> {
    return new Promise((resolve, reject) => {
      if (this.#ended) return reject(ended())
      this.#last += 1
      this.#asked.set(this.#last, { resolve, reject })
      this.#send({ word, about, ask: this.#last }, handle)
    })
  }

  /** The other end is gone: whoever waits for it hears so. */
  end(): void {
    this.#ended = true
    for (const asked of this.#asked.values()) asked.reject(ended())
    this.#asked.clear()
  }

  #send(frame: Frame, handle?: Handle): void {
    if (this.#ended) return
    this.unsent += 1
    // Mostly that is because the process has ended, which shows by itself.
    const sent = (error: Error | null): void => {
      this.unsent -= 1
      if (error === null || frame.ask === undefined) return
      this.#asked.get(frame.ask)?.reject(ended())
      this.#asked.delete(frame.ask)
    }
    ;(this.#peer as ChildProcess).send(frame, handle as never, {}, sent)
  }

  #hear(frame: Frame, handle: Handle | undefined): void {
    // What it said before it ended may come after the news of that, and there is nobody left whom it is about.
    if (this.#ended) {
      handle?.close()
      return
    }
    const { word, about, ask, to, error } = frame
    if (to !== undefined) {
      const asked = this.#asked.get(to)
      this.#asked.delete(to)
      if (asked === undefined) handle?.close()
      else if (error === undefined) asked.resolve({ value: about as never, handle })
      else asked.reject(revived(error))
      return
    }
    const ear = this.#ears[word as keyof Mine] as Ears<Record<string, (about: never) => unknown>>[string]
    if (ask === undefined) void ear(about as never, handle)
    else void this.#answer(ask, async () => ear(about as never, handle))
  }

  async #answer(to: number, answer: () => Promise<unknown>): Promise<void> {
    try {
      const value = await answer()
      if (value instanceof WithHandle) this.#send({ to, about: value.value }, value.handle)
      else this.#send({ to, about: value })
    } catch (error) {
      this.#send({ to, error: preserved(error) })
    }
  }
}

function ended(): TunnelError {
  return new TunnelError('closed', { scope: 'process', detail: 'a process of the gateway has ended' })
}

function preserved(error: unknown): NonNullable<Frame['error']> {
  const message = error instanceof Error ? error.message : String(error)
  if (!(error instanceof TunnelError)) return { code: 'internal', message, scope: 'process', remote: false }
  const { code, scope, remote, cause } = error
  return { code, message, scope, remote, system: (cause as NodeJS.ErrnoException | undefined)?.code }
}

function revived({ code, message, scope, remote, system }: NonNullable<Frame['error']>): TunnelError {
  const cause = system === undefined ? {} : { cause: Object.assign(new Error(message), { code: system }) }
  return new TunnelError(isErrorCode(code) ? code : 'internal', { scope, remote, detail: message, ...cause })
}
