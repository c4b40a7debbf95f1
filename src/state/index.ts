/**
 * What outlives a process: files in one private folder, written whole or not at all; the lock that says who
 * may change them; and the local control socket beside them, by which commands reach the process that runs.
 *
 * Knows what a file is and whose, not what is in it: schemas come from those who keep something here.
 */
export { identityIn } from './identity.ts'
export { instanceId } from './instance.ts'
export { callLocal } from './local-call.ts'
export { type LocalServer, serveLocal } from './local-server.ts'
export type { Lock } from './lock.ts'
export { resolveStatePath, type StatePathSources } from './path.ts'
export { socketPathIn } from './socket-path.ts'
export { openState, type State } from './state.ts'
