import type { Command } from 'commander'
import type { ClientStatus } from '../client/index.ts'
import { TunnelError, userError } from '../errors.ts'
import type { GatewayStatus } from '../gateway/index.ts'
import { clientJson, clientTable } from './clients.ts'
import { examples, type Globals, globalsOf, stateOf } from './globals.ts'
import { answer, table } from './output.ts'

type Status = GatewayStatus | ClientStatus

export function addStatus(program: Command): void {
  program
    .command('status')
    .description('what is connected, routes, live streams, bytes, errors; on either side')
    .addHelpText('after', examples('blindgate status', 'blindgate status --json'))
    .action((_options: unknown, command: Command) => status(globalsOf(command)))
}

async function status(globals: Globals): Promise<void> {
  const { callLocal } = await import('../state/index.ts')
  const state = await stateOf(globals, { create: false })
  const paths = [...state.sockets('gateway'), ...state.sockets('client-')]
  const asked = await Promise.allSettled(paths.map((path) => callLocal(path, { command: 'status' })))
  const statuses = asked.flatMap((result) => (result.status === 'fulfilled' ? [result.value as Status] : []))
  for (const each of bySide(statuses)) {
    if (globals.json === true) answer.line(JSON.stringify(statusJson(each)))
    else for (const line of statusLines(each)) answer.line(line)
  }
  for (const result of asked) {
    // A process that was killed leaves its socket.
    if (result.status === 'rejected' && !isNobody(result.reason)) throw result.reason
  }
  if (statuses.length === 0) {
    throw userError(
      'not_found',
      `nothing runs on ${state.path}: start "blindgate gateway", or "blindgate up"`,
    )
  }
}

function isNobody(error: unknown): boolean {
  return error instanceof TunnelError && error.code === 'not_found'
}

/** One per side: a folder may be of a gateway and of a client, and of several processes of the client. */
export function bySide(statuses: readonly Status[]): Status[] {
  const clients = statuses.filter((each) => each.side === 'client')
  return [
    ...statuses.filter((each) => each.side === 'gateway'),
    ...(clients.length === 0 ? [] : [clients.reduce(sum)]),
  ]
}

function sum(a: ClientStatus, b: ClientStatus): ClientStatus {
  const errors = { ...a.errors }
  for (const [code, times] of Object.entries(b.errors)) errors[code] = (errors[code] ?? 0) + times
  return {
    side: 'client',
    gateways: [...a.gateways, ...b.gateways],
    routes: [...a.routes, ...b.routes],
    streams: a.streams + b.streams,
    bytes: { in: a.bytes.in + b.bytes.in, out: a.bytes.out + b.bytes.out },
    errors,
    ...bothTrust(a, b),
  }
}

function bothTrust({ trust: a }: ClientStatus, { trust: b }: ClientStatus): Pick<ClientStatus, 'trust'> {
  if (a === undefined || b === undefined) {
    const trust = a ?? b
    return trust === undefined ? {} : { trust }
  }
  return { trust: { alarms: [...a.alarms, ...b.alarms], findings: [...a.findings, ...b.findings] } }
}

export function statusJson(status: Status): object {
  return status.side === 'client' ? status : { ...status, clients: status.clients.map(clientJson) }
}

/** For a person: one block per side. */
export function statusLines(status: Status): string[] {
  const { side, streams, bytes, errors } = status
  const counts = Object.entries(errors).map(([code, times]) => `${code} ${times}`)
  return [
    `${side}: ${streams} ${streams === 1 ? 'stream' : 'streams'}, ${size(bytes.in)} in, ${size(bytes.out)} out`,
    ...(status.side === 'gateway' ? gatewayTables(status) : clientTables(status)).map((line) => `  ${line}`),
    ...(counts.length === 0 ? [] : [`  errors: ${counts.join(', ')}`]),
  ]
}

function gatewayTables({ clients, routes, workers = [] }: GatewayStatus): string[] {
  return [
    ...(workers.length === 0
      ? []
      : table([
          ['WORKER', 'PID', 'TUNNELS', 'STREAMS'],
          ...workers.map(({ worker, pid, answered, tunnels, streams }) =>
            answered
              ? [worker, pid, tunnels, streams].map(String)
              : [`${worker}`, `${pid}`, 'no answer', '-'],
          ),
        ])),
    ...(clients.length === 0 ? ['no client is enrolled'] : clientTable(clients)),
    ...(routes.length === 0
      ? []
      : table([
          ['ROUTE', 'OWNER', 'SERVICE', 'REPLICAS', 'DOWN', 'STREAMS', 'HELD'],
          ...routes.map(({ route, owner, service = '-', replicas, down, streams, held }) =>
            [route, owner, service, replicas, down, streams, held].map(String),
          ),
        ])),
  ]
}

/** An alarm is a line; of the rest it is said how many there are. */
function trustLines(trust: ClientStatus['trust']): string[] {
  if (trust === undefined) return []
  const { alarms, findings } = trust
  const unwell = findings.filter(({ level, alarm }) => level !== 'ok' && alarm !== true).length
  return [
    ...alarms.map(
      ({ finding: { check, about, text }, last }) => `ALARM ${check} ${about}: ${text} (last seen ${last})`,
    ),
    ...(unwell === 0
      ? []
      : [`${unwell} trust ${unwell === 1 ? 'warning' : 'warnings'}: see \`blindgate doctor\``]),
  ]
}

function clientTables({ gateways, routes, trust }: ClientStatus): string[] {
  return [
    ...table([
      ['GATEWAY', 'NAME', 'CONNECTED', 'ROUND TRIP'],
      ...gateways.map(({ address, name = '-', connected, since, rttMs, error }) => [
        address,
        name,
        connected ? `since ${since ?? 'now'}` : `no: ${error?.message ?? 'dialling'}`,
        rttMs === undefined ? '-' : `${rttMs} ms`,
      ]),
    ]),
    ...routes.map(({ name, urls, target, health, tls, error }) => {
      const where =
        urls.length === 0
          ? `${name} (${error === undefined ? 'no answer yet' : error.message})`
          : urls.join(' ')
      const remarks = [
        ...(health === undefined ? [] : [health]),
        ...(tls === undefined ? [] : tlsRemarks(tls)),
      ]
      return `${where} → ${target}${remarks.map((remark) => ` (${remark})`).join('')}`
    }),
    ...trustLines(trust),
  ]
}

/** What visitors see of the certificate, and what is wrong with it. */
function tlsRemarks({
  mode,
  expires,
  trouble,
}: NonNullable<ClientStatus['routes'][number]['tls']>): string[] {
  if (mode === 'passthrough') return []
  const until = expires === undefined ? 'no certificate yet' : `certificate until ${expires.slice(0, 10)}`
  return [
    mode === 'self-signed' ? 'self-signed: unverified by visitors' : until,
    ...(trouble === undefined ? [] : [trouble]),
  ]
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'] as const

function size(bytes: number): string {
  const step = Math.min(UNITS.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, bytes)) / 3)))
  const number = bytes / 1000 ** step
  return `${step === 0 ? number : number.toFixed(1)} ${UNITS[step]}`
}
