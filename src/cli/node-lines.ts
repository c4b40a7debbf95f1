/** When each line of Node gets its last security fix (nodejs/release). */
const LAST_FIXES: Readonly<Record<number, string>> = {
  20: '2026-04-30',
  21: '2024-06-01',
  22: '2027-04-30',
  23: '2025-06-01',
  24: '2028-04-30',
  25: '2026-06-01',
  26: '2029-04-30',
}

/** A sentence if this Node gets no fixes any more; undefined otherwise, and for lines younger than the table. */
export function outOfSupport(node: string, now: Date): string | undefined {
  const last = LAST_FIXES[Number(node.split('.')[0])]
  if (last === undefined || now < new Date(`${last}T23:59:59Z`)) return undefined
  return `Node ${node} has had no security fixes since ${last}: a distribution may still mend its own package, otherwise install a newer one (https://nodejs.org)`
}
