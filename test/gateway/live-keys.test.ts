import { describe, expect, test } from 'vitest'
import { LiveKeys } from '../../src/gateway/live-keys.ts'
import { keyOf } from './people.ts'

describe('a key', () => {
  test('that is live from a second instance is told of once', () => {
    const live = new LiveKeys()
    expect(live.add(keyOf(0), 'home')).toBe(false)
    expect(live.add(keyOf(0), 'home')).toBe(false)
    expect(live.add(keyOf(1), 'thief')).toBe(false)
    expect(live.add(keyOf(0), 'thief')).toBe(true)
    expect(live.add(keyOf(0), 'thief')).toBe(false)
    expect(live.instancesOf(keyOf(0))).toEqual(['home', 'thief'])
    expect(live.copied).toEqual([keyOf(0)])
  })

  test('is forgotten with its last tunnel, and not before', () => {
    const live = new LiveKeys()
    live.add(keyOf(0), 'home')
    live.add(keyOf(0), 'thief')
    live.add(keyOf(0), 'thief')
    live.remove(keyOf(0), 'thief')
    expect(live.copied).toEqual([keyOf(0)])
    live.remove(keyOf(0), 'thief')
    expect(live.copied).toEqual([])
    live.remove(keyOf(0), 'home')
    live.remove(keyOf(0), 'home')
    expect(live.instancesOf(keyOf(0))).toEqual([])
    expect(live.add(keyOf(0), 'thief')).toBe(false)
  })
})
