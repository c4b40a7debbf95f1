/** chisel: SSH in a WebSocket. */
import { launch, without } from './launched.ts'
import { freePort, listening } from './process.ts'
import { direct, type Kind } from './systems.ts'

export const chisel: Kind = {
  name: 'chisel',
  peer: true,
  missing: () => without(['chisel'], 'put that of a release (github.com/jpillora/chisel) there'),
  start: (target, link = direct) =>
    launch('chisel', async (launched) => {
      const [port, tunnel] = [await freePort(), await freePort()]
      const listen = ['--host', '127.0.0.1', '--port', `${tunnel}`]
      const server = launched.program('chisel', ['server', ...listen, '--reverse'])
      await listening(tunnel)
      const remote = `R:127.0.0.1:${port}:127.0.0.1:${target}`
      const client = launched.program('chisel', ['client', `http://127.0.0.1:${await link(tunnel)}`, remote])
      await listening(port)
      return { port, gateway: server.pid, client: client.pid }
    }),
}
