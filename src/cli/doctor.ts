import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { type Command, Option } from 'commander'
import type { ClientStatus, ClientTrust, DoctorFinding } from '../client/index.ts'
import type { ClientFile } from '../config/index.ts'
import { type TunnelError, userError } from '../errors.ts'
import type { State } from '../state/index.ts'
import { examples, type Globals, globalsOf, stateOf } from './globals.ts'
import { answer } from './output.ts'
import { gatewaysOf } from './up.ts'
import { VERSION } from './version.ts'

interface Options {
  config?: string
  probe?: string
  expect?: string[]
}

/** What `up` takes without `-c`. */
const USUAL_FILE = 'blindgate.toml'

export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .description('check everything that one would otherwise ask about, and say what to do')
    .option('-c, --config <file>', 'the file with the services (default: blindgate.toml, if it is there)')
    .addOption(
      new Option(
        '--probe <url>',
        'from any machine: see who ends the TLS of https://HOST; needs no state and no file',
      ),
    )
    .option(
      '--expect <key...>',
      'with --probe: the key of the machine that must be there, as doctor prints it there',
    )
    .addHelpText(
      'after',
      examples(
        'blindgate doctor',
        'blindgate doctor -c /etc/blindgate/blindgate.toml --json',
        'blindgate doctor --probe https://app.example.com --expect sha256:…',
      ),
    )
    .action((options: Options, command: Command) => doctor(options, globalsOf(command)))
}

async function doctor(options: Options, globals: Globals): Promise<void> {
  const { probe, expect, config } = options
  if (probe !== undefined) return probeFromAnywhere(probe, expect, config, globals)
  if (expect !== undefined) {
    throw userError('usage', '--expect is what --probe must find: add --probe https://HOST')
  }
  const given = await fileOf(config)
  const state = await stateOf(globals, { create: false })
  const running = await runningOn(state)
  const file = given ?? (await fileOfRunning(running))
  const [
    { examine, servicesTold, NO_GATEWAY, GATEWAY_KNOWS, GATEWAY_DOES_NOT_KNOW },
    { identityIn, instanceId },
    { joinedGateways },
  ] = await Promise.all([
    import('../client/index.ts').then(({ loadDoctor }) => loadDoctor()),
    import('../state/index.ts'),
    import('../client/index.ts'),
  ])
  const joined = await joinedGateways(state)
  const named = file !== undefined && file.file.gateways.length > 0
  const gateways = named ? await gatewaysOf(file.file, state, file.path) : joined
  const inFile = file?.file.services ?? []
  const told = servicesTold(running).filter(({ name }) => inFile.every((service) => service.name !== name))
  const usual = file === undefined && running.every(({ file }) => file === undefined)
  const look = async (): Promise<DoctorFinding[]> =>
    examine({
      state,
      identity: await identityIn(state, 'client'),
      introduction: {
        version: VERSION,
        instance: instanceId(state.path),
        process: randomBytes(16).toString('hex'),
      },
      gateways,
      services: [...inFile, ...told],
      // A quick command has the usual settings, and so has what is asked here without a file.
      told: new Set(usual ? [] : told.map(({ name }) => name)),
      trust: await trustOf(file?.file, state),
      running,
      signal: new AbortController().signal,
    })
  // A machine that has joined nothing may have no key yet, and gets none by being looked at.
  const findings = gateways.length === 0 ? [NO_GATEWAY] : await look()
  const bad = findings.filter(({ level }) => level === 'fail')
  if (globals.json === true) {
    const said = {
      ok: bad.length === 0,
      findings,
      gatewayKnows: GATEWAY_KNOWS,
      gatewayDoesNotKnow: GATEWAY_DOES_NOT_KNOW,
    }
    answer.line(JSON.stringify(said))
  } else {
    for (const line of findings.flatMap(findingLines)) answer.line(line)
    if (file === undefined) answer.line(`      ${withoutFile(told.length)}`)
    else if (config === undefined && file.path !== USUAL_FILE)
      answer.line(
        `      no ${USUAL_FILE} here: looked at ${file.path}, which a client that runs has (-c FILE)`,
      )
    for (const line of remarkLines(findings)) answer.line(line)
    for (const line of knowledgeLines(GATEWAY_KNOWS, GATEWAY_DOES_NOT_KNOW)) answer.line(line)
  }
  if (bad.length > 0) throw unwell(bad, findings.length)
}

async function probeFromAnywhere(
  probe: string,
  expect: string[] | undefined,
  config: string | undefined,
  globals: Globals,
): Promise<void> {
  const [{ loadDoctor }, { labelled }, { parsePin }] = await Promise.all([
    import('../client/index.ts'),
    import('../config/index.ts'),
    import('../identity/index.ts'),
  ])
  const place = labelled('usage', '--probe', probe, placeOf)
  if (expect === undefined) {
    throw userError(
      'usage',
      '--expect is missing: give the key of the machine, as `blindgate doctor` prints it there',
    )
  }
  const expected = expect.map((text) => labelled('usage', '--expect', text, parsePin))
  // Without -c nothing of this machine has a say.
  const file = config === undefined ? undefined : await fileOf(config)
  const { probeFromHere } = await loadDoctor()
  const trust = await trustOf(file?.file)
  const findings = await probeFromHere({ ...place, expected, trust, signal: new AbortController().signal })
  if (globals.json === true) {
    answer.line(JSON.stringify({ ok: findings.every(({ level }) => level === 'ok'), findings }))
  } else {
    for (const line of findings.flatMap(findingLines)) answer.line(line)
    for (const line of remarkLines(findings)) answer.line(line)
  }
  // Here nothing else was asked for: what could not be seen is no success.
  const bad = findings.filter(({ level }) => level !== 'ok')
  if (bad.length > 0) throw unwell(bad, findings.length)
}

/** `https://HOST` or `https://HOST:PORT`. Throws `usage`. */
function placeOf(text: string): { host: string; port: number } {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const { protocol, hostname = '', port, pathname, search, username } = url ?? {}
  if (
    protocol !== 'https:' ||
    pathname !== '/' ||
    search !== '' ||
    username !== '' ||
    /[[:*]|^[0-9.]+$/.test(hostname)
  ) {
    const address = /^[0-9.]+$|^\[/.test(hostname)
    const why = address
      ? 'has an address for a host, and a certificate is for a name'
      : 'is not a host of https'
    throw userError('usage', `${JSON.stringify(text)} ${why}: write https://app.example.com`)
  }
  return { host: hostname, port: port === '' || port === undefined ? 443 : Number(port) }
}

/** The file that was named, or the usual one where it is. */
async function fileOf(config: string | undefined): Promise<{ file: ClientFile; path: string } | undefined> {
  const { loadClientFile } = await import('../config/index.ts')
  const path = config ?? USUAL_FILE
  if (config === undefined && !existsSync(path)) return undefined
  return { file: await loadClientFile(path), path }
}

async function trustOf(file: ClientFile | undefined, state?: State): Promise<ClientTrust> {
  const [{ DEFAULT_ACME, DEFAULT_TRUST }, { trustBy }] = await Promise.all([
    import('../config/index.ts'),
    import('../client/index.ts'),
  ])
  return trustBy(file ?? { trust: DEFAULT_TRUST, acme: DEFAULT_ACME }, state)
}

/** Client processes that live; those that were killed leave their sockets. */
async function runningOn(state: State): Promise<ClientStatus[]> {
  const { callLocal } = await import('../state/index.ts')
  const asked = state.sockets('client-').map((path) => callLocal(path, { command: 'status' }))
  const answered = await Promise.allSettled(asked)
  return answered.flatMap((result) => (result.status === 'fulfilled' ? [result.value as ClientStatus] : []))
}

/** The file of the clients that run, where that is one: what it has in it now is what they have, or will have. */
async function fileOfRunning(running: readonly ClientStatus[]): Promise<Awaited<ReturnType<typeof fileOf>>> {
  const [path, ...others] = new Set(running.flatMap(({ file = [] }) => file))
  return path === undefined || others.length > 0 || !existsSync(path) ? undefined : fileOf(path)
}

/** What was looked at where no file has services. */
export function withoutFile(services: number): string {
  return services === 0
    ? `no ${USUAL_FILE} here, and no client runs that offers anything: no service was looked at (-c FILE)`
    : `no ${USUAL_FILE} here: these are the services of the clients that run (-c FILE for those of a file)`
}

/** For a person: the level, what was looked at, what it came to, and what to do. */
export function findingLines({
  level,
  check,
  about,
  text,
  advice,
  details = [],
  alarm,
}: DoctorFinding): string[] {
  return [
    `${level.padEnd(4)}  ${alarm === true ? 'ALARM ' : ''}${check} ${about}: ${text}`,
    ...(advice === undefined ? [] : [`      → ${advice}`]),
    ...details.map((line) => `        ${line}`),
  ]
}

/** What holds of many findings, once. */
export function remarkLines(findings: readonly DoctorFinding[]): string[] {
  const remarks = [...new Set(findings.flatMap(({ remarks = [] }) => remarks))]
  return remarks.length === 0 ? [] : ['', 'To keep in mind:', ...remarks.map((line) => `  - ${line}`)]
}

function knowledgeLines(knows: readonly string[], doesNot: readonly string[]): string[] {
  return [
    '',
    'What the gateway knows, whoever runs it:',
    ...knows.map((line) => `  - ${line}`),
    'What it does not know:',
    ...doesNot.map((line) => `  - ${line}`),
  ]
}

/** The last line, which may be all that somebody reads: an alarm is named before what else is wrong. */
export function unwell(bad: readonly DoctorFinding[], all: number): TunnelError {
  const alarms = bad.filter(({ alarm }) => alarm === true)
  const [first] = [...alarms, ...bad]
  const said =
    alarms.length > 0
      ? `, ${alarms.length} of them ${alarms.length === 1 ? 'is an alarm' : 'are alarms'}`
      : ''
  const begin = (alarms.length || bad.length) > 1 ? ', the first: ' : ': '
  const named =
    first === undefined ? '' : `${begin}${first.check} ${first.about} (${first.advice ?? first.text})`
  return userError(
    'not_well',
    `${bad.length} of ${all} checks ${bad.length === 1 ? 'is' : 'are'} not well${said}${named}`,
  )
}
