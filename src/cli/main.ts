#!/usr/bin/env node
// Nothing is imported before the check: an old Node must reach the sentence, not stumble over a dependency.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 20 || (major === 20 && minor < 19)) {
  process.stderr.write(
    `blindgate: Node ${process.versions.node} is too old: install 20.19 or newer (https://nodejs.org)\n`,
  )
  process.exitCode = 1
} else {
  const { run } = await import('./run.ts')
  await run(process.argv.slice(2))
}

/** The package's `engines` say the same. */
export const OLDEST_NODE = '20.19.0'
