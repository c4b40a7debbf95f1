import { z } from 'zod'
import { ACME_TOKEN_CHARACTERS, ACME_URL_CHARACTERS, HOSTS_PER_SERVICE } from '../../limits.ts'
import { ORDER_STATUSES } from './order-run.ts'

const url = z.string().max(ACME_URL_CHARACTERS)
const identifier = z.object({ type: z.string(), value: z.string().max(253) })

/** RFC 8555, 7.1.1, with the extensions of RFC 9773 and of the profiles' draft. */
export const directory = z.object({
  newNonce: url,
  newAccount: url,
  newOrder: url,
  revokeCert: url.optional(),
  renewalInfo: url.optional(),
  meta: z
    .object({
      termsOfService: url.optional(),
      externalAccountRequired: z.boolean().optional(),
      profiles: z.record(z.string(), z.unknown()).optional(),
    })
    .optional(),
})
export type Directory = z.infer<typeof directory>

/** RFC 8555, 7.1.3. */
export const order = z.object({
  status: z.enum(ORDER_STATUSES),
  identifiers: z.array(identifier).max(HOSTS_PER_SERVICE),
  authorizations: z.array(url).max(HOSTS_PER_SERVICE),
  finalize: url,
  certificate: url.optional(),
  error: z.unknown().optional(),
})
export type Order = z.infer<typeof order>

export const challenge = z.object({
  type: z.string(),
  status: z.string().optional(),
  url: url.optional(),
  token: z
    .string()
    .regex(/^[A-Za-z0-9_-]+$/)
    .max(ACME_TOKEN_CHARACTERS)
    .optional(),
  error: z.unknown().optional(),
})

/** RFC 8555, 7.1.4. CAs offer a handful of challenges. */
export const authorization = z.object({
  status: z.enum(['pending', 'valid', 'invalid', 'deactivated', 'expired', 'revoked']),
  identifier,
  wildcard: z.boolean().optional(),
  challenges: z.array(challenge).max(32),
})
export type Authorization = z.infer<typeof authorization>

/** RFC 9773, 4.2. */
export const renewalInfo = z.object({
  suggestedWindow: z.object({
    start: z.iso.datetime({ offset: true }),
    end: z.iso.datetime({ offset: true }),
  }),
  explanationURL: url.optional(),
})
