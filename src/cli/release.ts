import type { Command } from 'commander'
import { examples, type Globals, globalsOf, logOf, stateOf } from './globals.ts'
import { answer } from './output.ts'

export function addRelease(program: Command): void {
  program
    .command('release')
    .description('on the gateway: take a route from its owner, so that another name can have it')
    .argument('<route>', 'a host with its path, "default", or "tcp:PORT", as `status` shows it')
    .addHelpText('after', examples('blindgate release app.example.com/api', 'blindgate release tcp:2222'))
    .action((route: string, _options: unknown, command: Command) => release(route, globalsOf(command)))
}

async function release(route: string, globals: Globals): Promise<void> {
  const { gatewayCommand } = await import('../gateway/index.ts')
  const state = await stateOf(globals, { create: false })
  const log = await logOf(globals, 'warn')
  const released = (await gatewayCommand(state, { command: 'release', route }, log)) as {
    route: string
    name: string
  }
  answer.line(
    globals.json === true
      ? JSON.stringify({ route: released.route, name: released.name })
      : `released ${released.route}, which was of "${released.name}"`,
  )
}
