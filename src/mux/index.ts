/**
 * One room, one idea: yamux. Many streams over one ordered pipe, with flow control, fair turns and bounds on
 * what a peer can make us hold. Pure: bytes and the time in, bytes and events out. It knows nothing of
 * sockets, timers, TLS, visitors or what a stream carries.
 */
export { GO_AWAY_INTERNAL_ERROR, GO_AWAY_NORMAL, GO_AWAY_PROTOCOL_ERROR, type GoAwayCode } from './frame.ts'
export { MemoryBudget } from './memory.ts'
export { Session, type SessionEvents, type SessionOptions } from './session.ts'
export type { Stream, StreamSink } from './stream.ts'
export type { OpenRefusal } from './streams.ts'
export type { Millis } from './window.ts'
