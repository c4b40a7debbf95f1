import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DRAIN_MS } from '../../src/limits.ts'

const folder = join(import.meta.dirname, '..', '..', 'packaging', 'systemd')
const units = ['gateway', 'client'] as const
const hasSystemd = spawnSync('systemd-analyze', ['--version']).status === 0

let temporary: string
beforeAll(() => {
  temporary = mkdtempSync(join(tmpdir(), 'blindgate-units-'))
})
afterAll(() => {
  rmSync(temporary, { recursive: true, force: true })
})

/** A unit's settings: the last value of each key, comments apart. `Environment` comes joined. */
function settings(unit: string): Map<string, string> {
  const found = new Map<string, string>()
  for (const line of readFileSync(join(folder, `blindgate-${unit}.service`), 'utf8').split('\n')) {
    const match = /^(\w+)=(.*)$/.exec(line)
    if (match === null) continue
    const [, key = '', value = ''] = match
    const before = found.get(key)
    found.set(key, key === 'Environment' && before !== undefined ? `${before} ${value}` : value)
  }
  return found
}

describe.each(units)('the %s unit', (unit) => {
  it('confines the program as the threat model says', () => {
    const unitSettings = settings(unit)
    expect(Object.fromEntries(unitSettings)).toMatchObject({
      DynamicUser: 'yes',
      StateDirectory: `blindgate/${unit}`,
      StateDirectoryMode: '0700',
      NoNewPrivileges: 'yes',
      ProtectSystem: 'strict',
      LimitCORE: '0',
      UMask: '0077',
    })
    expect(['', 'CAP_NET_BIND_SERVICE']).toContain(unitSettings.get('CapabilityBoundingSet'))
    expect(unitSettings.get('AmbientCapabilities') ?? '').toBe(unitSettings.get('CapabilityBoundingSet'))
    expect([...unitSettings.keys()]).not.toContain('MemoryDenyWriteExecute')
  })

  it('is there after a power cut, reloads on SIGHUP, and waits for the drain', () => {
    const unitSettings = settings(unit)
    expect(Object.fromEntries(unitSettings)).toMatchObject({
      Restart: 'always',
      StartLimitIntervalSec: '0',
      After: 'network-online.target',
      Wants: 'network-online.target',
      WantedBy: 'multi-user.target',
      KillSignal: 'SIGTERM',
    })
    expect(unitSettings.get('ExecReload')).toMatch(/kill -HUP \$MAINPID$/)
    expect(Number(unitSettings.get('TimeoutStopSec'))).toBeGreaterThan(DRAIN_MS / 1000)
    expect(Number(unitSettings.get('LimitNOFILE'))).toBeGreaterThanOrEqual(65_536)
  })

  it('names its state by the real folder, for a state folder is never a link', () => {
    const unitSettings = settings(unit)
    const state = `/var/lib/private/${unitSettings.get('StateDirectory')}`
    expect(unitSettings.get('Environment')?.split(' ')).toContain(`BLINDGATE_STATE=${state}`)
  })

  it.skipIf(!hasSystemd)('passes systemd-analyze verify (skipped where there is no systemd)', () => {
    // The program need not be installed to check its unit: another one stands in for it.
    const text = readFileSync(join(folder, `blindgate-${unit}.service`), 'utf8')
    const path = join(temporary, `blindgate-${unit}.service`)
    writeFileSync(path, text.replace(/^ExecStart=blindgate /m, `ExecStart=${process.execPath} `))
    const { status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', path], { encoding: 'utf8' })
    expect({ status, said: stdout + stderr }).toEqual({ status: 0, said: '' })
  })
})

describe('blindgate-as', () => {
  /** Runs it with a stand-in for systemd-run that prints its arguments. */
  function run(...args: string[]) {
    const stand = join(temporary, 'systemd-run')
    writeFileSync(stand, '#!/bin/sh\nprintf "%s\\n" "$@"\n')
    chmodSync(stand, 0o755)
    const env = { ...process.env, PATH: `${temporary}:${process.env['PATH']}` }
    return spawnSync('sh', [join(folder, 'blindgate-as'), ...args], { encoding: 'utf8', env })
  }

  it.each(units)('runs a command as the user of the %s unit, on its state', (unit) => {
    const unitSettings = settings(unit)
    const { status, stdout } = run(unit, 'invite', '--name', 'a b')
    const args = stdout.trimEnd().split('\n')
    expect(status).toBe(0)
    for (const key of ['DynamicUser', 'User', 'StateDirectory', 'StateDirectoryMode', 'UMask']) {
      expect(args).toContain(`--property=${key}=${unitSettings.get(key)}`)
    }
    expect(unitSettings.get('Environment')).toContain(
      args.find((each) => each.startsWith('--setenv='))?.slice('--setenv='.length),
    )
    expect(args.slice(args.indexOf('--'))).toEqual(['--', 'blindgate', 'invite', '--name', 'a b'])
  })

  it('refuses another role', () => {
    const { status, stdout, stderr } = run('root', 'invite')
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toContain('usage')
  })

  it('is executable in the repository', () => {
    const listed = execFileSync('git', ['ls-files', '--stage', 'blindgate-as'], {
      cwd: folder,
      encoding: 'utf8',
    })
    expect(listed).toMatch(/^100755 /)
  })
})
