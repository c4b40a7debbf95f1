import type { Command } from 'commander'
import { wholeNumber } from './arguments.ts'
import { examples, type Globals, globalsOf, logOf } from './globals.ts'
import { answer, notes, whenUnread } from './output.ts'
import { untilEnded } from './running.ts'
import { VERSION } from './version.ts'

interface Options {
  http: string
  tunnel: string
  count?: string
}

export function addDemo(program: Command): void {
  program
    .command('demo')
    .description(
      'the whole thing on this machine: a target, a gateway, two clients, and a visitor that prints pong',
    )
    .option('--http <addr>', 'where visitors connect', ':9000')
    .option('--tunnel <addr>', 'where clients connect', ':9001')
    .option('--count <n>', 'end after so many answers')
    .addHelpText('after', examples('blindgate demo', 'blindgate demo --http :8000 --tunnel :8001 --count 5'))
    .action((options: Options, command: Command) => demo(options, globalsOf(command)))
}

async function demo({ http, tunnel, count }: Options, globals: Globals): Promise<void> {
  const [{ labelled, parseAddress }, { runDemo }] = await Promise.all([
    import('../config/index.ts'),
    import('../demo/index.ts'),
  ])
  const settings = {
    http: labelled('usage', '--http', http, parseAddress),
    tunnel: labelled('usage', '--tunnel', tunnel, parseAddress),
    count: count === undefined ? undefined : labelled('usage', '--count', count, wholeNumber(1e9)),
  }
  const log = await logOf(globals, 'error')
  const abort = new AbortController()
  whenUnread(() => abort.abort())
  const running = runDemo({
    ...settings,
    version: VERSION,
    log,
    signal: abort.signal,
    print: { answer: (line) => answer.line(line), note: (line) => notes.line(line) },
  })
  const ended = running.catch(() => undefined)
  await untilEnded(
    {
      drain() {
        abort.abort()
        return ended
      },
      close: () => ended,
      async reload() {},
      work: () => running,
    },
    log,
  )
}
