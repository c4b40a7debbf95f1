/** The word of `words` that a person most likely meant by `typed`; undefined when none is near. */
export function nearest(typed: string, words: readonly string[]): string | undefined {
  const word = typed.toLowerCase().slice(0, 64)
  let best: string | undefined
  // Half of the letters wrong is another word.
  let bestDistance = Math.floor(Math.max(word.length, 2) / 2) + 1
  for (const candidate of words) {
    const distance = editDistance(word, candidate)
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance]
  }
  return best
}

/** Letters to insert, delete, change, or swap with a neighbour, to make `b` of `a` (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let [before, previous]: [number[], number[]] = [
    [],
    Array.from({ length: b.length + 1 }, (_, index) => index),
  ]
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const change = a[i - 1] === b[j - 1] ? 0 : 1
      const costs = [(row[j - 1] ?? 0) + 1, (previous[j] ?? 0) + 1, (previous[j - 1] ?? 0) + change]
      if (a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) costs.push((before[j - 2] ?? 0) + 1)
      row.push(Math.min(...costs))
    }
    ;[before, previous] = [previous, row]
  }
  return previous[b.length] ?? 0
}
