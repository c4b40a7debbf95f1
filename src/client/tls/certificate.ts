/** A certificate with its key, both PEM; the chain begins with the leaf. */
export interface Certificate {
  key: string
  chain: string
}

/** What `status` tells of a service's certificate. */
export interface CertificateState {
  /** When it ends (ms since 1970); undefined: there is none. */
  readonly expires: number | undefined
  /** Why there is none, or none newer: a sentence. */
  readonly trouble: string | undefined
}

/** What a service of TLS shows its visitors, from whatever source. */
export interface CertificateSource {
  /** Undefined while there is none yet. */
  readonly current: Certificate | undefined
  /** Why there is none, or why the one there is was not replaced: a sentence for `status`; undefined when all is well. */
  readonly trouble: string | undefined
  /** The value of Strict-Transport-Security that visitors are told; undefined: none. */
  readonly transportSecurity: string | undefined
  /** Called whenever `current` or `trouble` has changed. Set by whoever uses the source, before `start`. */
  changed: () => void
  /** Begins to look after it. Never throws; what fails is `trouble` and a line of the log. */
  start(): void
  /** Settings were read again: looks at once for what it looks for now and then. */
  look?(): unknown
  /** Lets go of everything: timers, watches, requests under way. */
  close(): void
}
