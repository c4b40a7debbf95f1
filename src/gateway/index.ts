/**
 * The public program. It knows which name owns which route, which clients serve it, and carries visitors' bytes
 * to their streams. It never chooses a target, and nothing in it looks at what visitors say.
 */
export {
  type ClientRow,
  type GatewayRequest,
  gatewayCommand,
  type InviteAnswer,
} from './commands.ts'
export { type Gateway, type GatewayOptions, startGateway } from './gateway.ts'
export type { GatewayStatus } from './report.ts'
export { runWorker, type WorkerOptions } from './workers/worker.ts'
