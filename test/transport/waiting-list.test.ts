import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { WaitingList } from '../../src/transport/waiting-list.ts'

describe('the list of those who have not proved themselves', () => {
  test('drops the oldest of all when it is full', () => {
    const list = new WaitingList<number>({ total: 2, perAddress: 2, patience: 10 })
    expect(list.add(1, 'a', 0)).toBeUndefined()
    expect(list.add(2, 'b', 1)).toBeUndefined()
    expect(list.add(3, 'c', 2)).toBe(1)
    expect(list.add(4, 'd', 3)).toBe(2)
    expect(list.size).toBe(2)
  })

  test('drops the oldest of the same address when that one has its share, and nobody else', () => {
    const list = new WaitingList<number>({ total: 10, perAddress: 2, patience: 10 })
    list.add(1, 'other', 0)
    list.add(2, 'a', 1)
    list.add(3, 'a', 2)
    expect(list.add(4, 'a', 3)).toBe(2)
    expect(list.add(5, 'a', 4)).toBe(3)
    expect(list.size).toBe(3)
  })

  test('is what a list with a clock would be', () => {
    const patience = 20
    const command = fc.oneof(
      fc.record({ do: fc.constant('add' as const), address: fc.constantFrom('a', 'b', 'c') }),
      fc.record({ do: fc.constant('remove' as const), which: fc.nat(20) }),
      fc.record({ do: fc.constant('pass' as const), ms: fc.nat(15) }),
    )
    fc.assert(
      fc.property(fc.array(command, { maxLength: 80 }), (commands) => {
        const list = new WaitingList<number>({ total: 5, perAddress: 3, patience })
        let model: { id: number; address: string; at: number }[] = []
        let now = 0
        let id = 0
        for (const step of commands) {
          if (step.do === 'add') {
            const same = model.filter(({ address }) => address === step.address)
            const out = same.length >= 3 ? same[0] : model.length >= 5 ? model[0] : undefined
            expect(list.add(id, step.address, now)).toBe(out?.id)
            model = model.filter((one) => one !== out)
            model.push({ id, address: step.address, at: now })
            id += 1
          } else if (step.do === 'remove') {
            list.remove(step.which)
            model = model.filter((one) => one.id !== step.which)
          } else {
            now += step.ms
            const over = model.filter(({ at }) => at + patience <= now)
            expect(list.expire(now)).toEqual(over.map((one) => one.id))
            model = model.filter((one) => !over.includes(one))
          }
          expect(list.size).toBe(model.length)
          expect(list.next).toBe(model[0] === undefined ? undefined : model[0].at + patience)
        }
        expect(list.clear()).toEqual(model.map((one) => one.id))
        expect(list.size).toBe(0)
        expect(list.next).toBeUndefined()
      }),
    )
  })
})
