import type { AcmeSettings, TrustSettings } from '../../config/index.ts'
import type { State } from '../../state/index.ts'
import type { ClientTrust } from './of-client.ts'

/** How a client checks, by its settings and by what its state has of orders and accounts. */
export function trustBy(
  { trust, acme }: { trust: TrustSettings; acme: AcmeSettings },
  state: State | undefined,
): ClientTrust {
  const ca = acme.ca === undefined ? undefined : [acme.ca]
  return {
    settings: trust,
    methods: [acme.challenge],
    requireCaa: acme.requireCaa,
    ca,
    // Of other directories, as of a CA that was only tried, no certificate is asked for.
    async accounts() {
      if (state === undefined) return []
      const [{ accountsIn }, { withIssuers }] = await Promise.all([
        import('../acme/accounts.ts'),
        import('./issuers.ts'),
      ])
      const here = (await accountsIn(state)).filter(({ directory }) => directory === acme.directory)
      return withIssuers(here, { ca })
    },
    async ordered() {
      if (state === undefined) return []
      const { OrderedKeys } = await import('../acme/ordered-keys.ts')
      return (await new OrderedKeys(state).list()).map(({ pin }) => pin)
    },
  }
}
