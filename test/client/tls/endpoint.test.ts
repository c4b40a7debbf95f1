import { connect } from 'node:tls'
import { afterEach, expect, test } from 'vitest'
import { TlsEndpoint } from '../../../src/client/tls/endpoint.ts'
import { selfSigned } from '../../../src/client/tls/self-signed.ts'
import { duplexOf } from '../../../src/net/index.ts'
import { Opened } from '../../net/joined.ts'
import { Moments } from '../moments.ts'

const opened = new Opened()
afterEach(() => opened.close())

test('a handshake that stands still takes its time and no longer, and its stream goes with it', async () => {
  const failures = new Moments<string>()
  const ends = new Moments<'closed'>()
  const endpoint = new TlsEndpoint('web', ['http/1.1'], (code) => failures.add(code), 50)
  endpoint.use(await selfSigned(['app.example.com'], Date.now()))
  const [near, far] = await opened.joined().open()
  endpoint.accept(far, [], {
    secured: () => {
      throw new Error('nobody finished a handshake')
    },
    closed: () => ends.add('closed'),
  })
  const visitor = duplexOf(near)
  // The hello arrives, and what follows the answer to it does not.
  const write = visitor.write.bind(visitor)
  let writes = 0
  visitor.write = ((chunk: Uint8Array, ...rest: []) => {
    writes += 1
    return writes === 1 ? write(chunk, ...rest) : true
  }) as typeof visitor.write
  const socket = connect({ socket: visitor, servername: 'app.example.com', rejectUnauthorized: false })
  socket.on('error', () => {})
  await ends.at(0)
  expect(failures.all).toEqual(['ERR_TLS_HANDSHAKE_TIMEOUT'])
  expect(far.writeEnded).toBe(true)
  endpoint.close()
})
