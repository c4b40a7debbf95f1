import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { PEER_TEXT_CHARACTERS } from '../../src/limits.ts'
import { printable } from '../../src/protocol/index.ts'

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index)

describe('text from a peer', () => {
  it.each([
    ['a terminal’s commands', '\u001b]0;title\u0007\u001b[2J', '\\x1b]0;title\\x07\\x1b[2J'],
    ['a second log line', 'ok\r\nlevel=error', 'ok\\x0d\\x0alevel=error'],
    ['C1 commands', '\u009b31m', '\\x9b31m'],
    ['a text that reads backwards', 'exe.\u202egpj', 'exe.\\u202egpj'],
    ['half a character', 'a\ud800b', 'a\\ud800b'],
    ['a whole one', 'a\u{1f600}b', 'a\u{1f600}b'],
    ['words in any script', 'Zürich 東京 القاهرة', 'Zürich 東京 القاهرة'],
  ])('shows %s harmlessly', (_name, text, shown) => {
    expect(printable(text)).toBe(shown)
  })

  it('holds no C0, DEL, C1, bidi, line-breaking or broken character afterwards', () => {
    const unsafe = [
      ...range(0, 0x1f),
      ...range(0x7f, 0x9f),
      0x061c,
      0x200e,
      0x200f,
      0x2028,
      0x2029,
      ...range(0x202a, 0x202e),
      ...range(0x2066, 0x2069),
      0xfeff,
      ...range(0xd800, 0xdfff),
    ]
    for (const code of unsafe) {
      const text = String.fromCharCode(code)
      expect(printable(`a${text}b`)).toMatch(/^a\\(x[0-9a-f]{2}|u[0-9a-f]{4})b$/)
    }
  })

  it('is cut to its bound, with a mark, and never inside a character or an escape', () => {
    expect(printable('a'.repeat(PEER_TEXT_CHARACTERS))).toBe('a'.repeat(PEER_TEXT_CHARACTERS))
    expect(printable('a'.repeat(PEER_TEXT_CHARACTERS + 1))).toBe(`${'a'.repeat(PEER_TEXT_CHARACTERS - 1)}…`)
    expect(printable('\u{1f600}'.repeat(6), 5)).toBe(`${'\u{1f600}'.repeat(4)}…`)
    expect(printable('\u{1f600}'.repeat(5), 5)).toBe('\u{1f600}'.repeat(5))
    expect(printable('abcd\u001bx', 6)).toBe('abcd…')
    expect(printable('abcd\u001b', 8)).toBe('abcd\\x1b')
    expect(printable('abc', 1)).toBe('…')
    expect(printable('abc', 0)).toBe('')
  })

  it('is at most as long as its bound, printable, and the same when printed again', () => {
    const text = fc
      .array(
        fc.oneof(
          fc.string({ unit: 'binary' }),
          fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code)),
        ),
      )
      .map((parts) => parts.join(''))
    fc.assert(
      fc.property(text, fc.nat(40), (raw, max) => {
        const shown = printable(raw, max)
        expect(Array.from(shown).length).toBeLessThanOrEqual(max)
        expect(shown).not.toMatch(/[\p{Cc}\p{Bidi_C}\p{Zl}\p{Zp}\p{Cs}]/u)
        expect(printable(shown, max)).toBe(shown)
      }),
      { numRuns: 500 },
    )
  })

  it('of 64 MiB costs no more than its bound', () => {
    // Escaping all of it first would take minutes and gigabytes.
    expect(printable('\u001b'.repeat(1 << 26))).toMatch(/^(\\x1b){49}…$/)
  })
})
