import { describe, expect, test } from 'vitest'
import type { ConnectedClient } from '../../src/gateway/connected-client.ts'
import type { Replica } from '../../src/gateway/routes.ts'
import { ServiceStream } from '../../src/gateway/service-stream.ts'
import { StreamPool } from '../../src/gateway/stream-pool.ts'
import {
  BODILESS_SILENCE_MS,
  REUSED_STREAM_IDLE_MS,
  REUSED_STREAMS,
  REUSED_STREAMS_PER_SERVICE,
} from '../../src/limits.ts'
import type { Stream } from '../../src/mux/index.ts'

function aClient(rtt?: number, usable = true): ConnectedClient {
  const tunnel = { session: { rtt } }
  return { usable, tunnel, carried: new Map(), unreached: new Map() } as unknown as ConnectedClient
}

function aReplica(client: ConnectedClient, name = 'web'): Replica<ConnectedClient> {
  return {
    tunnel: client,
    service: name,
    offer: { name, type: 'http' },
  } as unknown as Replica<ConnectedClient>
}

let ids = 0
/** What became of it is in `stream.ended`. */
function aStream(replica: Replica<ConnectedClient>, shareable = true): ServiceStream {
  const stream = {
    id: ids++,
    closed: false,
    readEnded: false,
    writeEnded: false,
    bytesIn: 0,
    bytesOut: 0,
    consume() {},
    end() {
      this.writeEnded = this.closed = true
    },
    reset() {
      this.closed = true
    },
  }
  const holder = { route: 'default', cut() {}, leave() {} }
  return new ServiceStream(stream as unknown as Stream, replica, holder, shareable)
}

describe('the pool of streams', () => {
  test('gives the one that was used last, to the same service of the same tunnel', () => {
    const pool = new StreamPool(() => {})
    const [one, other] = [aReplica(aClient()), aReplica(aClient())]
    const streams = [aStream(one), aStream(one)]
    for (const stream of streams) pool.put(stream, 0)
    expect(pool.take(other, 0)).toBeUndefined()
    expect(pool.take(aReplica(one.tunnel, 'other'), 0)).toBeUndefined()
    expect(pool.take(one, 0)).toBe(streams[1])
    expect(pool.take(one, 0)).toBe(streams[0])
    expect(pool.take(one, 0)).toBeUndefined()
    expect(pool.size).toBe(0)
  })

  test('ends what it may not keep: streams that are not to be shared, and of clients that leave', () => {
    const pool = new StreamPool(() => {})
    const replica = aReplica(aClient())
    const single = aStream(replica, false)
    pool.put(single, 0)
    expect(single.stream.writeEnded).toBe(true)
    const leaving = aReplica(aClient(undefined, false))
    const stream = aStream(leaving)
    pool.put(stream, 0)
    expect(stream.stream.writeEnded).toBe(true)
    expect(pool.size).toBe(0)
  })

  test('gives none of a registration before, and ends it', () => {
    const pool = new StreamPool(() => {})
    const client = aClient()
    const stream = aStream(aReplica(client))
    pool.put(stream, 0)
    expect(pool.take(aReplica(client), 0)).toBeUndefined()
    expect(stream.stream.writeEnded).toBe(true)
  })

  test.each([
    [undefined, BODILESS_SILENCE_MS],
    [10, BODILESS_SILENCE_MS],
    [500, 1_000],
  ])(
    'gives one whose last answer had no body only after a silence (round trip %s: %s ms)',
    (rtt, silence) => {
      const pool = new StreamPool(() => {})
      const replica = aReplica(aClient(rtt))
      const stream = aStream(replica)
      stream.bodiless = true
      pool.put(stream, 100)
      expect(pool.take(replica, 100 + silence - 1)).toBeUndefined()
      expect(pool.take(replica, 100 + silence)).toBe(stream)
    },
  )

  test('keeps none longer than targets do', () => {
    const pool = new StreamPool(() => {})
    const replica = aReplica(aClient())
    const [old, young] = [aStream(replica), aStream(replica)]
    pool.put(old, 0)
    pool.put(young, 1)
    pool.expire(REUSED_STREAM_IDLE_MS)
    expect(old.stream.writeEnded).toBe(true)
    expect(pool.size).toBe(1)
    expect(pool.take(replica, REUSED_STREAM_IDLE_MS)).toBe(young)
  })

  test('keeps so many for a service, and so many in all', () => {
    const pool = new StreamPool(() => {})
    const replica = aReplica(aClient())
    const many = Array.from({ length: REUSED_STREAMS_PER_SERVICE + 1 }, () => aStream(replica))
    for (const stream of many) pool.put(stream, 0)
    expect(pool.size).toBe(REUSED_STREAMS_PER_SERVICE)
    expect(many.at(-1)?.stream.writeEnded).toBe(true)
    while (pool.size < REUSED_STREAMS) {
      const next = aReplica(aClient())
      for (let n = 0; n < REUSED_STREAMS_PER_SERVICE; n += 1) pool.put(aStream(next), 0)
    }
    const last = aStream(aReplica(aClient()))
    pool.put(last, 0)
    expect(last.stream.writeEnded).toBe(true)
    expect(pool.size).toBe(REUSED_STREAMS)
    pool.close()
    expect(pool.size).toBe(0)
  })

  test('resets one on which a byte comes, and counts it; one that ends is only gone', () => {
    let desyncs = 0
    const pool = new StreamPool(() => desyncs++)
    const replica = aReplica(aClient())
    const [speaks, ends, stays] = [aStream(replica), aStream(replica), aStream(replica)]
    for (const stream of [speaks, ends, stays]) pool.put(stream, 0)
    speaks.data(speaks.stream, Buffer.from('x'))
    ends.end()
    expect(speaks.stream.closed).toBe(true)
    expect(desyncs).toBe(1)
    expect(pool.size).toBe(1)
    expect(pool.take(replica, 0)).toBe(stays)
  })

  test('ends those of a client that wants no more requests, and only those', () => {
    const pool = new StreamPool(() => {})
    const [one, other] = [aReplica(aClient()), aReplica(aClient())]
    const [leaving, staying] = [aStream(one), aStream(other)]
    pool.put(leaving, 0)
    pool.put(staying, 0)
    pool.drop(one.tunnel)
    expect(leaving.stream.writeEnded).toBe(true)
    expect(pool.size).toBe(1)
    expect(one.tunnel.carried.size).toBe(0)
  })
})
