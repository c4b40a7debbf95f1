import { EventEmitter, once } from 'node:events'
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { createLog } from '../../src/cli/log.ts'
import { forEver, type Service, untilEnded } from '../../src/cli/running.ts'
import { watchFile } from '../../src/cli/watch.ts'
import { userError } from '../../src/errors.ts'

const folder = mkdtempSync(join(tmpdir(), 'blindgate-running-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** A service whose drain ends when the test says so, and the signals that reach it. */
function begin(changes: Partial<Service> = {}, hungUp = () => false) {
  const signals = new EventEmitter()
  const calls: string[] = []
  const lines: string[] = []
  const log = createLog({
    level: 'info',
    pretty: false,
    color: false,
    write: (line) => void lines.push(line),
  })
  let drained = (): void => undefined
  const service: Service = {
    drain() {
      calls.push('drain')
      return new Promise((resolve) => {
        drained = resolve
      })
    },
    async close() {
      calls.push('close')
    },
    async reload() {
      calls.push('reload')
    },
    work: forEver,
    ...changes,
  }
  const ended = untilEnded(service, log, signals, hungUp)
  return { signals, calls, lines, ended, drained: () => drained() }
}

describe('a running command', () => {
  it.each(['SIGINT', 'SIGTERM'])('drains at the first %s and is done', async (signal) => {
    const { signals, calls, ended, drained } = begin()
    signals.emit(signal)
    expect(calls).toEqual(['drain'])
    drained()
    await ended
    expect(signals.eventNames()).toEqual([])
  })

  it('cuts at the second and has failed; a third is the system’s', async () => {
    const { signals, calls, ended } = begin()
    signals.emit('SIGTERM')
    signals.emit('SIGINT')
    expect(calls).toEqual(['drain', 'close'])
    expect(signals.eventNames()).toEqual([])
    await expect(ended).rejects.toMatchObject({ code: 'closed' })
  })

  it('reloads at SIGHUP, and goes on with what it has when that fails', async () => {
    let fails = false
    const reload = async (): Promise<void> => {
      if (fails) throw userError('config_invalid', 'x.toml:3: no')
    }
    const { signals, lines, calls, ended, drained } = begin({ reload })
    signals.emit('SIGHUP')
    fails = true
    signals.emit('SIGHUP')
    await Promise.resolve()
    await Promise.resolve()
    expect(lines.join('')).toMatch(/x\.toml:3: no.*settings stay as they were/)
    expect(calls).toEqual([])
    signals.emit('SIGTERM')
    drained()
    await ended
  })

  it('drains when its terminal is closed, which comes as SIGHUP too', async () => {
    const { signals, calls, ended, drained } = begin({}, () => true)
    signals.emit('SIGHUP')
    expect(calls).toEqual(['drain'])
    drained()
    await ended
  })

  it('fails with its work, and closes first', async () => {
    const { calls, ended } = begin({ work: () => Promise.reject(userError('revoked', 'gone')) })
    await expect(ended).rejects.toMatchObject({ code: 'revoked' })
    expect(calls).toEqual(['close'])
  })

  it('that ends on purpose does not fail with the work that this ends', async () => {
    let fail = (_error: Error): void => undefined
    const work = () => new Promise<never>((_resolve, reject) => (fail = reject))
    const { signals, ended, drained } = begin({ work })
    signals.emit('SIGINT')
    fail(userError('closed', 'the client was closed'))
    drained()
    await ended
  })
})

describe('watching a file', () => {
  const log = createLog({ level: 'info', pretty: false, color: false, write: () => undefined })

  it('notices a write, and a new file put in its place', async () => {
    const path = join(folder, 'a.toml')
    writeFileSync(path, '1')
    const changes = new EventEmitter()
    const stop = watchFile(path, log, () => changes.emit('change'))
    writeFileSync(path, '22')
    await once(changes, 'change')
    writeFileSync(`${path}.new`, '333')
    renameSync(`${path}.new`, path)
    await once(changes, 'change')
    stop()
  })

  it('takes a change beside the file for none', async () => {
    const path = join(folder, 'b.toml')
    writeFileSync(path, '1')
    const seen: string[] = []
    const changes = new EventEmitter()
    const stop = watchFile(path, log, () => seen.push('b'))
    const stopOther = watchFile(join(folder, 'other.toml'), log, () => changes.emit('change'))
    writeFileSync(join(folder, 'other.toml'), 'new')
    await once(changes, 'change')
    expect(seen).toEqual([])
    stop()
    stopOther()
  })

  it('says when it cannot, and how to go on without', () => {
    const lines: string[] = []
    const said = createLog({
      level: 'info',
      pretty: false,
      color: false,
      write: (line) => void lines.push(line),
    })
    watchFile(join(folder, 'missing', 'c.toml'), said, () => undefined)()
    expect(lines.join('')).toMatch(/will not be noticed.*SIGHUP/)
  })
})
