import { type FSWatcher, statSync, watch } from 'node:fs'
import { dirname } from 'node:path'
import type { Logger } from 'pino'
import { CONFIG_SETTLE_MS } from '../limits.ts'

/**
 * Calls `changed` when the file at `path` is another one or has other contents, once it has rested a moment. Its
 * folder is watched: editors write a new file and rename it. Gives what ends the watching; does not keep the process alive.
 */
export function watchFile(path: string, log: Logger, changed: () => void): () => void {
  let before = identityOf(path)
  let timer: NodeJS.Timeout | undefined
  const settled = (): void => {
    const now = identityOf(path)
    // Gone is no change: the next event brings the new one.
    if (now === undefined || now === before) return
    before = now
    changed()
  }
  const blind = (error: Error): void => {
    log.warn(`changes of ${path} will not be noticed (${error.message}): send SIGHUP after changing it`)
  }
  let watcher: FSWatcher | undefined
  try {
    watcher = watch(dirname(path), { persistent: false }, () => {
      clearTimeout(timer)
      timer = setTimeout(settled, CONFIG_SETTLE_MS).unref()
    })
    watcher.on('error', blind)
  } catch (error) {
    blind(error as Error)
  }
  return () => {
    clearTimeout(timer)
    watcher?.close()
  }
}

/** Changes with every write and every rename over it; follows links, as those of mounted configurations. */
function identityOf(path: string): string | undefined {
  const stats = statSync(path, { bigint: true, throwIfNoEntry: false })
  return stats === undefined ? undefined : `${stats.dev}:${stats.ino}:${stats.size}:${stats.mtimeNs}`
}
