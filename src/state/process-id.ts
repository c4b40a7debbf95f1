import { readFileSync, readlinkSync } from 'node:fs'

/**
 * Which process wrote a name: pid, its start in clock ticks since boot, the boot, and the pid namespace.
 * A pid alone comes round again, after a power cut within seconds: the same services start in the same order.
 * Zeros where there is no /proc.
 */
export type ProcessId = `${number}-${number}-${string}-${string}`

const PROCESS_ID = /^([1-9][0-9]*)-([0-9]+)-([0-9a-f]+)-([0-9]+)$/

export function ourProcessId(): ProcessId {
  return `${process.pid}-${startOf(process.pid)?.start ?? 0}-${boot()}-${pidNamespace()}`
}

/** True while that process runs. What cannot be seen counts as running; another text as no process of ours: undefined. */
export function isRunning(id: string): boolean | undefined {
  const [, pid, start, onBoot, namespace] = PROCESS_ID.exec(id) ?? []
  if (pid === undefined) return undefined
  // A container that starts again has a new namespace on the same boot: its old processes ended with the old one.
  if (onBoot !== boot() || namespace !== pidNamespace()) return false
  const seen = startOf(Number(pid))
  if (seen !== undefined && start !== '0') return `${seen.start}` === start && !seen.ended
  return answersSignal(Number(pid))
}

/** Start time and end of a process by proc(5); undefined when it is not to be seen. */
function startOf(pid: number): { start: number; ended: boolean } | undefined {
  const stat = contentsOf(`/proc/${pid}/stat`)
  if (stat === undefined) return undefined
  // The second field is the command in brackets, in which anything may stand.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const start = Number(fields[19])
  if (!Number.isSafeInteger(start)) return undefined
  // A zombie has ended, though nobody has taken note.
  return { start, ended: fields[0] === 'Z' || fields[0] === 'X' }
}

function answersSignal(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // EPERM: it is there and somebody else's.
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}

function boot(): string {
  return (
    contentsOf('/proc/sys/kernel/random/boot_id')
      ?.replace(/[^0-9a-f]/g, '')
      .slice(0, 16) || '0'
  )
}

function pidNamespace(): string {
  try {
    return /[0-9]+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '0'
  } catch {
    return '0'
  }
}

function contentsOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return undefined
  }
}
