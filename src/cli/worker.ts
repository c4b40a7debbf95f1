/** The program of a gateway's worker, started by `blindgate gateway` and by nobody else. Its arguments are the options of its log. */
import { runWorker } from '../gateway/index.ts'
import { type Globals, levelOf, logOf } from './globals.ts'
import { collectWhenIdle } from './idle-collection.ts'

if (process.send === undefined) {
  process.stderr.write('blindgate: this is a part of the gateway: run "blindgate gateway --workers N"\n')
  process.exitCode = 1
} else {
  const { worker, globals } = JSON.parse(process.argv[2] ?? '{}') as { worker: number; globals: Globals }
  // What is wrong with this Node was said by the gateway.
  const log = await logOf({ ...globals, logLevel: levelOf(globals, process.env) ?? 'info' }, 'warn')
  runWorker({
    log: log.child({ worker }),
    access: (text, done) => process.stderr.write(text, () => done()),
  })
  collectWhenIdle()
}
