import { mkdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { identityIn, instanceId, openState, resolveStatePath } from '../../src/state/index.ts'
import { newFolder } from './folders.ts'

describe('where state lives', () => {
  const all = {
    flag: '/flag',
    env: { BLINDGATE_STATE: '/env', STATE_DIRECTORY: '/systemd:/other', XDG_STATE_HOME: '/xdg' },
    uid: 1000,
    home: '/home/ann',
  }
  const { BLINDGATE_STATE: _, ...withoutOurs } = all.env

  it.each([
    ['the flag', all, '/flag'],
    ['our variable', { ...all, flag: undefined }, '/env'],
    ['what systemd gives', { ...all, flag: undefined, env: withoutOurs }, '/systemd'],
    [
      'the system folder for root',
      { ...all, flag: undefined, env: { XDG_STATE_HOME: '/xdg' }, uid: 0 },
      '/var/lib/blindgate',
    ],
    ['the XDG folder', { ...all, flag: undefined, env: { XDG_STATE_HOME: '/xdg' } }, '/xdg/blindgate'],
    ['home', { ...all, flag: undefined, env: {} }, '/home/ann/.local/state/blindgate'],
    ['home, without user ids', { env: {}, home: '/home/ann' }, '/home/ann/.local/state/blindgate'],
    [
      'home, when variables are empty or relative',
      { env: { BLINDGATE_STATE: '', STATE_DIRECTORY: '', XDG_STATE_HOME: 'x' }, home: '/h' },
      '/h/.local/state/blindgate',
    ],
  ])('is %s', (_name, sources, path) => {
    expect(resolveStatePath(sources)).toBe(path)
  })

  it('is absolute', () => {
    expect(resolveStatePath({ ...all, flag: 'here' })).toBe(join(process.cwd(), 'here'))
  })

  it('is not an empty flag', () => {
    expect(() => resolveStatePath({ ...all, flag: '' })).toThrow('--state is empty: give it a folder')
  })
})

describe('the instance', () => {
  it('is the same for one folder by any of its paths, and another for another', async () => {
    const folder = await newFolder()
    await mkdir(join(folder, 'a'))
    await symlink('a', join(folder, 'b'))
    const id = instanceId(join(folder, 'a'))
    expect(id).toMatch(/^[0-9a-f]{32}$/)
    expect(instanceId(join(folder, 'b'))).toBe(id)
    expect(instanceId(folder)).not.toBe(id)
  })
})

describe('the identity of a role', () => {
  it('is made once, however many ask at once, and kept', async () => {
    const folder = await newFolder()
    const states = await Promise.all([1, 2, 3].map(() => openState(folder)))
    const made = await Promise.all(states.map((state) => identityIn(state, 'client')))
    expect(new Set(made.map(({ pin }) => pin)).size).toBe(1)
    expect(await identityIn(await openState(folder), 'client')).toEqual(made[0])
    expect((await identityIn(await openState(folder), 'gateway')).pin).not.toBe(made[0]?.pin)
  })

  it('half made by a crash is made again, since nobody can have seen it', async () => {
    const state = await openState(await newFolder())
    const { certificate, pin } = await identityIn(state, 'client')
    await state.remove('client.key')
    const again = await identityIn(state, 'client')
    expect(again.pin).not.toBe(pin)
    expect(again.certificate).not.toBe(certificate)
  })

  it('whose certificate is lost or another is refused, and the key kept', async () => {
    const state = await openState(await newFolder())
    const { key } = await identityIn(state, 'client')
    const { certificate } = await identityIn(state, 'gateway')
    await state.write('client.crt', certificate)
    await expect(identityIn(state, 'client')).rejects.toMatchObject({
      code: 'state_invalid',
      message: expect.stringContaining(`${state.path}/client.key and .crt: `) as string,
    })
    await state.remove('client.crt')
    await expect(identityIn(state, 'client')).rejects.toMatchObject({
      code: 'state_invalid',
      message: `${state.path}/client.crt is missing: restore it from a backup, or move client.key away to become a new machine`,
    })
    expect(String(await state.read('client.key'))).toBe(key)
  })
})
