import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Dealer } from '../../src/gateway/dealer.ts'
import { random } from '../sim/random.ts'

const A = '192.0.2.1'
const B = '192.0.2.2'

function dealt(
  dealer: Dealer,
  workers: readonly number[],
  count: number,
  address = A,
): (number | undefined)[] {
  return Array.from({ length: count }, () => dealer.deal(address, workers))
}

describe('a dealer', () => {
  it('has nobody to deal to where there is no worker', () => {
    expect(new Dealer(() => 0).deal(A, [])).toBeUndefined()
  })

  it('leads one address to each of n workers in n dials, whatever the lot, and again in n more', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 64 }), fc.nat(), (n, seed) => {
        const workers = Array.from({ length: n }, (_, index) => index + 1)
        const dealer = new Dealer(random(seed))
        for (let round = 0; round < 2; round += 1) {
          expect(new Set(dealt(dealer, workers, n)).size).toBe(n)
        }
      }),
    )
  })

  it('leads addresses to workers in orders of their own', () => {
    const dealer = new Dealer(random(7))
    const workers = [1, 2, 3, 4, 5, 6, 7, 8]
    expect(dealt(dealer, workers, 8, A)).not.toEqual(dealt(dealer, workers, 8, B))
  })

  it('leads to the worker whose connection has ended before all that have one', () => {
    const dealer = new Dealer(random(1))
    const workers = [1, 2, 3, 4]
    dealt(dealer, workers, 4)
    dealer.left(A, 3)
    expect(dealer.deal(A, workers)).toBe(3)
    // An end that nobody knows of changes nothing.
    dealer.left(A, 9)
    dealer.left(B, 1)
    expect(new Set(dealt(dealer, workers, 4)).size).toBe(4)
  })

  it('leads nobody to a worker that is not among those who may be dealt to, and begins anew with its successor', () => {
    const dealer = new Dealer(random(1))
    dealt(dealer, [1, 2, 3], 3)
    dealer.gone(2)
    expect(new Set(dealt(dealer, [1, 3], 2))).toEqual(new Set([1, 3]))
    expect(dealer.deal(A, [1, 2, 3])).toBe(2)
  })

  it('takes the longest ago of those with equally many, so that one who lacks the oldest gets it next', () => {
    const dealer = new Dealer(random(1))
    const workers = Array.from({ length: 16 }, (_, index) => index + 1)
    // Another client of the address has one tunnel, and wants no more.
    const first = dealer.deal(A, workers)
    const others = dealt(dealer, workers, 15)
    expect(others).not.toContain(first)
    expect(dealer.deal(A, workers)).toBe(first)
  })

  it('remembers so many addresses, and forgets the one that dialled longest ago', () => {
    const dealer = new Dealer(() => 0, 2)
    const workers = [1, 2, 3]
    expect(dealt(dealer, workers, 1, A)).toEqual([1])
    expect(dealt(dealer, workers, 1, B)).toEqual([1])
    expect(dealt(dealer, workers, 1, A)).toEqual([2])
    expect(dealt(dealer, workers, 1, 'third')).toEqual([1])
    expect(dealer.size).toBe(2)
    // B is forgotten, A is not.
    dealer.left(B, 1)
    expect(dealt(dealer, workers, 1, A)).toEqual([3])
    expect(dealt(dealer, workers, 1, B)).toEqual([1])
    expect(dealer.size).toBe(2)
  })
})
