import { afterEach, expect, test } from 'vitest'
import { TlsTransport } from '../../../src/client/tls/transport.ts'
import { STREAM_QUEUE_BYTES } from '../../../src/limits.ts'
import { Opened, until } from '../../net/joined.ts'

const opened = new Opened()
afterEach(() => opened.close())

/** As TLS writes: two buffers at once, to a stream that has room for none of them. */
async function full(): Promise<{
  told: (string | undefined)[]
  release: () => void
  transport: TlsTransport
}> {
  const joined = opened.joined()
  const [, far] = await joined.open()
  joined.stalled = true
  const told: (string | undefined)[] = []
  const transport = new TlsTransport(far, [], () => {})
  const taken = (error?: Error | null): void => void told.push(error?.message)
  expect(transport.write(Buffer.alloc(STREAM_QUEUE_BYTES), taken)).toBe(false)
  expect(transport.write(Buffer.alloc(100), taken)).toBe(false)
  expect(told).toEqual([])
  return { told, transport, release: () => joined.release() }
}

test('says of each buffer that it was taken, when there is room again', async () => {
  const { told, transport, release } = await full()
  release()
  await until(() => told.length > 0)
  expect(told).toEqual([undefined, undefined])
  transport.reset()
})

test('says of each buffer that it will not be taken, when it is over', async () => {
  const { told, transport } = await full()
  transport.reset()
  expect(told).toEqual(['closed', 'closed'])
})
