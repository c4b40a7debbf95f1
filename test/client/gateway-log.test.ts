import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { GatewayLog } from '../../src/client/gateway-log.ts'
import { TunnelError } from '../../src/errors.ts'
import { BACKOFF_RESET_MS, REPEATED_LOG_FIRST, REPEATED_LOG_MS } from '../../src/limits.ts'
import { recordingLog } from './world.ts'

const reason = new TunnelError('closed', { scope: 'tunnel', remote: true, detail: 'it went' })

describe('the log of a gateway', () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  function made() {
    const { log, lines } = recordingLog()
    const gateways = new GatewayLog(log)
    const turn = (times: number) => {
      for (let time = 0; time < times; time += 1) {
        gateways.connected('gw', 'home')
        gateways.lost('gw', reason, 0)
      }
    }
    /** What is new since the last call. */
    const news = () => lines.all.splice(0).map(({ msg }) => msg)
    return { gateways, turn, news }
  }

  it('has the first turns of one that comes and goes, then one a minute with the count', () => {
    const { turn, news } = made()
    turn(REPEATED_LOG_FIRST)
    expect(news()).toHaveLength(2 * REPEATED_LOG_FIRST)
    turn(100)
    expect(news()).toEqual([])
    vi.advanceTimersByTime(REPEATED_LOG_MS)
    turn(2)
    expect(news()).toEqual([
      'connected to gw as "home" (101 times)',
      expect.stringMatching(/^lost gateway gw .*; dialling again in 0\.0 s$/),
    ])
  })

  it('never ends with a loss where there is a connection that lasts, and begins anew after it', () => {
    const { gateways, turn, news } = made()
    turn(REPEATED_LOG_FIRST)
    news()
    gateways.connected('gw', 'home')
    expect(news()).toEqual([])
    vi.advanceTimersByTime(BACKOFF_RESET_MS)
    expect(news()).toEqual(['connected to gw as "home"'])
    gateways.lost('gw', reason, 0)
    turn(1)
    expect(news()).toHaveLength(3)
  })

  it('has one line for dials that fail, also between the turns of one that comes and goes', () => {
    const { gateways, turn, news } = made()
    turn(REPEATED_LOG_FIRST)
    news()
    for (let time = 0; time < 50; time += 1) {
      gateways.missed('gw', reason, 1_000)
      turn(1)
    }
    expect(news()).toEqual([expect.stringContaining('no tunnel to gw: ')])
  })

  it('always has a loss for good, and leaves no timer', () => {
    const { gateways, turn, news } = made()
    turn(REPEATED_LOG_FIRST)
    news()
    gateways.connected('gw', 'home')
    gateways.lost('gw', reason, undefined)
    expect(news()).toEqual([expect.stringContaining('not dialled again')])
    gateways.connected('gw', 'home')
    gateways.close()
    expect(vi.getTimerCount()).toBe(0)
  })
})
