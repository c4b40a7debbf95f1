import { STREAM_WINDOW_BYTES } from '../limits.ts'
import { type Hello, PROTOCOL_VERSION, type ServiceOffer } from '../protocol/index.ts'

/** What a client says of itself to every gateway. */
export interface Introduction {
  version: string
  instance: string
  /** Random per run. */
  process: string
}

/** The first message of a tunnel. `secret` is an invite's, base64url; it may be sent to a checked key only. */
export function helloOf(
  { version, instance, process }: Introduction,
  services: ServiceOffer[],
  secret?: string,
): Hello {
  return {
    type: 'hello',
    protocol: { min: PROTOCOL_VERSION, max: PROTOCOL_VERSION },
    agent: `blindgate/${version}`,
    instance,
    process,
    streamWindow: STREAM_WINDOW_BYTES,
    services,
    ...(secret === undefined ? {} : { enroll: { secret } }),
  }
}
