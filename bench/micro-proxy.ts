import { encodeProxyHeader, ProxyReader } from '../src/protocol/index.ts'
import { type MicroResult, measure } from './micro-mux.ts'

const VISITOR = {
  source: { address: '203.0.113.7', port: 51_234 },
  destination: { address: '198.51.100.4', port: 443 },
  tlvs: { service: 'shop', authority: 'shop.example.com', uniqueId: Buffer.alloc(16, 7) },
}

/** As the gateway writes it at the head of a visitor's stream, and the client reads it there. */
export function proxyMicro(): MicroResult[] {
  const header = encodeProxyHeader(VISITOR)
  return [
    measure('PROXY headers, written', 1, () => encodeProxyHeader(VISITOR)),
    measure('PROXY headers, read', 1, () => new ProxyReader().push(header)),
  ]
}
