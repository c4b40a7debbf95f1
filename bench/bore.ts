/** bore, which does not encrypt. Its clients dial a port that no option changes, so nothing can lie between its sides. */
import { launch, without } from './launched.ts'
import { freePort, listening } from './process.ts'
import type { Kind } from './systems.ts'

const CONTROL_PORT = 7835

export const bore: Kind = {
  name: 'bore',
  peer: true,
  missing: () => without(['bore'], 'cargo install bore-cli'),
  start: (target) =>
    launch('bore', async (launched) => {
      const port = await freePort()
      const server = launched.program('bore', ['server'])
      await listening(CONTROL_PORT)
      const visitors = ['--to', '127.0.0.1', '--port', `${port}`]
      const client = launched.program('bore', [
        'local',
        `${target}`,
        '--local-host',
        '127.0.0.1',
        ...visitors,
      ])
      await listening(port)
      return { port, gateway: server.pid, client: client.pid }
    }),
}
