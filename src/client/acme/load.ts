/** ACME, loaded when somebody needs it: 5 MB that a client without such a service has not. */
export function loadAcme(): Promise<typeof import('./revoke.ts')> {
  return import('./revoke.ts')
}
