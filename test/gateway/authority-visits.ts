/** A certificate authority's part in tests: it looks at a host as authorities do, and says what it saw. */
import { createHash, X509Certificate } from 'node:crypto'
import { connect } from 'node:net'
import { connect as tlsConnect } from 'node:tls'

export interface Seen {
  alpn: string | false | null
  /** Of the certificate that was shown. */
  names: string | undefined
  issuer: string
  /** Without one of RFC 8737 in it. */
  identifier: string | undefined
  /** The certificate is signed by its own key. */
  own: boolean
}

/** The extension of RFC 8737 with these bytes behind it, as it stands in a certificate: critical, an OCTET STRING in another. */
const ACME_EXTENSION = Buffer.from('06082b0601050507011f0101ff04220420', 'hex')

/** What the certificate for a key authorization must have. */
export function identifierOf(keyAuthorization: string): string {
  return createHash('sha256').update(keyAuthorization).digest('hex')
}

/** tls-alpn-01: shakes hands as for `host`. Rejects with the code of the alert. */
export function lookByTls(
  port: number,
  host: string,
  alpn: readonly string[] = ['acme-tls/1'],
): Promise<Seen> {
  return new Promise((resolve, reject) => {
    const socket = tlsConnect({
      host: '127.0.0.1',
      port,
      servername: host,
      ALPNProtocols: [...alpn],
      rejectUnauthorized: false,
    })
    let seen: Seen | undefined
    socket.once('secureConnect', () => {
      const certificate = new X509Certificate(socket.getPeerCertificate().raw)
      const at = certificate.raw.indexOf(ACME_EXTENSION)
      const from = at + ACME_EXTENSION.length
      seen = {
        alpn: socket.alpnProtocol,
        names: certificate.subjectAltName,
        issuer: certificate.issuer,
        identifier: at < 0 ? undefined : certificate.raw.subarray(from, from + 32).toString('hex'),
        own: certificate.verify(certificate.publicKey),
      }
    })
    socket.on('error', (error: NodeJS.ErrnoException) => reject(new Error(error.code ?? error.message)))
    // Whoever answers ends: the authority waits for that, and not for its own patience.
    socket.on('data', () => {})
    socket.on('close', () => {
      if (seen === undefined) reject(new Error('closed'))
      else resolve(seen)
    })
  })
}

/** http-01: the whole answer to a GET, or to whatever `request` is. */
export function lookByHttp(port: number, host: string, path: string, method = 'GET'): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port })
    socket.write(`${method} ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)
    let text = ''
    socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
    socket.on('error', reject)
    socket.on('close', () => resolve(text))
  })
}
