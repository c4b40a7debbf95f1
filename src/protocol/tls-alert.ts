/** AlertDescription (RFC 8446, 6; RFC 6066, 9): those that are said in place of a server that never spoke. */
const DESCRIPTIONS = {
  /** No such host: browsers say so, and do not try again with an older TLS. */
  unrecognized_name: 112,
  /** What came is not a ClientHello. */
  decode_error: 50,
  /** The host is known, and its client is away, or has no certificate yet. */
  internal_error: 80,
  /** The host is known, and nobody there speaks what is asked for and nothing else (RFC 7301, 3.2). */
  no_application_protocol: 120,
} as const

export type TlsAlert = keyof typeof DESCRIPTIONS

const ALERT = 21
const FATAL = 2

/**
 * A fatal alert, as a record in plaintext: the whole answer to a hello, to be followed by the end of the connection.
 * The version is the one that RFC 8446, 5.1, gives to every record of a server; older clients take it as well.
 */
export function tlsAlert(alert: TlsAlert): Uint8Array {
  return Uint8Array.of(ALERT, 3, 3, 0, 2, FATAL, DESCRIPTIONS[alert])
}
