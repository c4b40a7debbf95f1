/** What is measured: ways to carry a visitor over two hops to a target, each started fresh. */

export interface System {
  /** Where visitors connect, on 127.0.0.1. */
  readonly port: number
  /** The process of each side; its descendants count with it. */
  readonly gateway: number
  readonly client: number
  stop(): Promise<void>
}

/**
 * What lies between the two sides: given the port on which one of them listens for the other, gives the port that the
 * other is to dial. Whoever gives it owns what stands there.
 */
export type Link = (port: number) => Promise<number>

/** Nothing does. */
export const direct: Link = (port) => Promise.resolve(port)

export interface Kind {
  readonly name: string
  /** Of others. One that does not start is left out of a run, with a word; ours has to. */
  readonly peer?: true
  /** What must be installed first, as a sentence; undefined if all is there. */
  missing(): Promise<string | undefined>
  /** Starts both sides in front of a target on 127.0.0.1. */
  start(target: number, link?: Link): Promise<System>
}
