/** What `doctor` needs, and a client that serves does not: loaded on demand. */
export function loadDoctor(): Promise<typeof import('./index.ts')> {
  return import('./index.ts')
}
