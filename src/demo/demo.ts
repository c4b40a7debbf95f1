import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { Client } from '../client/index.ts'
import { formatAddress, gatewaySettings, type Listen, parseTarget, serviceSettings } from '../config/index.ts'
import { TunnelError, userError } from '../errors.ts'
import { type Gateway, type InviteAnswer, startGateway } from '../gateway/index.ts'
import { decodeInvite } from '../identity/index.ts'
import { DEMO_DRAIN_MS, INVITE_EXPIRES_MS } from '../limits.ts'
import { addressClass } from '../net/index.ts'
import { printable } from '../protocol/index.ts'
import { identityIn, instanceId, openState } from '../state/index.ts'
import { startTarget } from './target.ts'
import { visit } from './visitor.ts'

/** Where the demo speaks: `answer` is the visitor's, `note` is about it. */
export interface DemoPrint {
  answer(line: string): void
  note(line: string): void
}

export interface DemoOptions {
  /** Where visitors connect, and clients. */
  http: Listen
  tunnel: Listen
  /** Ends after so many answers; undefined: when `signal` says so. */
  count?: number | undefined
  version: string
  log: Logger
  signal: AbortSignal
  print: DemoPrint
}

type Undo = () => Promise<void>

/**
 * Runs the whole show until `signal` or `count`. State lives in temporary folders. When it resolves or rejects, all
 * that it opened is closed and all that it wrote is gone. Rejects with `address_in_use` for a port that is taken.
 */
export async function runDemo(options: DemoOptions): Promise<void> {
  const undo: Undo[] = []
  try {
    await show(options, undo)
  } finally {
    // What began last ends first; one that fails to must not keep the rest.
    const failures: unknown[] = []
    for (const step of undo.toReversed()) await step().catch((error: unknown) => failures.push(error))
    for (const failure of failures) options.log.error({ err: failure }, 'the demo did not end cleanly')
  }
}

async function show(options: DemoOptions, undo: Undo[]): Promise<void> {
  const { print, signal, count, log } = options
  const folder = await mkdtemp(join(tmpdir(), 'blindgate-demo-'))
  undo.push(() => rm(folder, { recursive: true, force: true }))
  const target = await startTarget()
  undo.push(() => target.close())
  const gateway = await startDemoGateway(options, folder)
  undo.push(() => gateway.drain(DEMO_DRAIN_MS))
  print.note(`target    127.0.0.1:${target.port}, known to the clients alone`)
  print.note(`gateway   visitors on port ${gateway.visitors.port}, clients on port ${gateway.clients.port}`)

  const made = (await gateway.command({
    command: 'invite',
    name: 'home',
    uses: 2,
    expiresMs: INVITE_EXPIRES_MS,
    address: formatAddress({ ...gateway.clients, host: reachable(gateway.clients.host) }),
  })) as InviteAnswer
  const invite = decodeInvite(made.invite)
  const services = [serviceSettings({ type: 'http', target: parseTarget(String(target.port)) })]
  const clients = await Promise.all(
    ['first', 'second'].map(async (which) => {
      const state = await openState(join(folder, which))
      return new Client({
        identity: await identityIn(state, 'client'),
        instance: instanceId(state.path),
        version: options.version,
        gateways: [{ addresses: invite.addresses, pin: invite.pin }],
        services,
        // The tunnel that enrolls is the one that serves.
        enroll: { secret: Buffer.from(invite.secret).toString('base64url') },
        log: log.child({ client: which }),
        state,
      })
    }),
  )
  undo.push(async () => {
    await Promise.all(clients.map((client) => client.drain(DEMO_DRAIN_MS)))
  })
  for (const client of clients) client.start()
  await Promise.all(clients.map((client) => client.ready()))
  const url = `http://${formatAddress({ ...gateway.visitors, host: reachable(gateway.visitors.host) })}/ping`
  print.note('clients   two, enrolled by one invite as replicas of "home", each with a key of its own')
  print.note(`visitor   asks ${url} each second; open it in a browser too. Ctrl-C ends.`)

  let answers = 0
  await visit(url, signal, (answer) => {
    if ('problem' in answer) {
      print.note(`visitor   no answer: ${printable(answer.problem)}`)
      return false
    }
    print.answer(printable(answer.text))
    answers += 1
    return answers === count
  })
}

async function startDemoGateway(options: DemoOptions, folder: string): Promise<Gateway> {
  const { http, tunnel, version, log } = options
  const state = await openState(join(folder, 'gateway'))
  const identity = await identityIn(state, 'gateway')
  const settings = gatewaySettings({
    flags: { http: formatAddress(http), tunnel: formatAddress(tunnel) },
    // What the environment says is for a real gateway.
    env: {},
  })
  try {
    return await startGateway({ settings, state, identity, version, log: log.child({ side: 'gateway' }) })
  } catch (error) {
    if (!(error instanceof TunnelError) || error.code !== 'address_in_use') throw error
    const advice = 'with --http and --tunnel the demo uses other ports'
    throw userError('address_in_use', `${error.message}; ${advice}`, error)
  }
}

/** The host by which this machine reaches what listens there. */
function reachable(host: string): string {
  return addressClass(host) === 'unspecified' ? 'localhost' : host
}
