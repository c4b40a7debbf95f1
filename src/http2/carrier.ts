import type { FieldList } from '../http1/index.ts'

/** What carries a request to its target, and tells the exchange of the answer. */
export interface Carrier {
  /** Bytes that have left for the target: any number that grows as they do. */
  readonly bytesOut: number
  /** A piece of the request's body. False: it is taken, but wait for the exchange's `drained`. */
  write(piece: Uint8Array): boolean
  /** The request is whole. */
  end(trailers: FieldList): void
  /** All of the answer but `waiting` bytes of it has left for the visitor: the target may send more. */
  passed(waiting: number): void
  /** The exchange lets go of it. `whole`: request and answer are; else the target learns `code` (RFC 9113, 7), if it can. */
  release(whole: boolean, code: number): void
}
