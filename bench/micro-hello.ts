import { ClientHelloReader } from '../src/protocol/index.ts'
import vectors from '../test/protocol/client-hello.vectors.json' with { type: 'json' }
import { type MicroResult, measure } from './micro-mux.ts'

const hello = (name: string) =>
  Buffer.from(vectors.captured.find((each) => each.name === name)?.hex ?? '', 'hex')

/** Of a browser with post-quantum keys: in one chunk, and in two segments as it mostly arrives; and a short one. */
export function helloMicro(): MicroResult[] {
  const curl = hello('curl 7.88 with OpenSSL 3.0')
  const browser = hello('Chromium 156')
  const segments = [browser.subarray(0, 1448), browser.subarray(1448)]
  return [
    measure("ClientHellos of Chromium's, whole", 1, () => new ClientHelloReader().push(browser)),
    measure("ClientHellos of Chromium's, in two segments", 1, () => {
      const reader = new ClientHelloReader()
      for (const segment of segments) reader.push(segment)
    }),
    measure("ClientHellos of curl's, whole", 1, () => new ClientHelloReader().push(curl)),
  ]
}
