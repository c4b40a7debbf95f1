import { exitCodeOf, failureLine, isBug } from './failure.ts'
import { levelOf } from './globals.ts'
import { answer, notes, stdoutIsUnread } from './output.ts'
import { createProgram } from './program.ts'
import { terminalIsGone } from './running.ts'

/** Runs one command line to its end, and ends the process with its exit code: 0 done, 1 it failed, 2 wrong usage. */
export async function run(args: readonly string[]): Promise<void> {
  const program = createProgram()
  const end = (error: unknown): void => {
    void fail(error, program.args, levelOf(program.opts(), process.env) === 'debug')
  }
  process.on('uncaughtException', end)
  process.on('unhandledRejection', end)
  // Whoever reads our answer may leave before its end, as `head` does. That is nobody's mistake.
  process.stdout.on('error', stdoutIsUnread)
  process.stderr.on('error', () => undefined)
  try {
    await program.parseAsync(args, { from: 'user' })
    exit(0)
  } catch (error) {
    end(error)
  }
}

async function fail(error: unknown, typed: readonly string[], debug: boolean): Promise<void> {
  const code = exitCodeOf(error)
  if (code !== 0) {
    const line = await failureLine(error, typed)
    if (debug && isBug(error))
      notes.line(error instanceof Error ? (error.stack ?? error.message) : String(error))
    notes.line(line)
  }
  exit(code)
}

/** A command that is done has nothing left to wait for, whatever a dependency may still hold. */
function exit(code: number): void {
  answer.flushed(() => {
    // Node aborts when it cannot put a terminal back that is gone; this is what the system does to others then.
    if (terminalIsGone()) process.kill(process.pid, 'SIGHUP')
    process.exit(code)
  })
}
