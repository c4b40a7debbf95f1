/**
 * A program: many clients in one process, each with a key, a tunnel and a service of its own, where as many processes would
 * not fit. `machines.js INVITE COUNT TARGET` prints the ports of their services, as JSON, when all are there; ends by SIGTERM.
 */
import { pino } from 'pino'
import { Client } from '../src/client/index.ts'
import { parseTarget, serviceSettings } from '../src/config/index.ts'
import { createIdentity, decodeInvite } from '../src/identity/index.ts'

/** The gateway bounds the dials of one address that are under way. */
const AT_ONCE = 16

const [text = '', count = '', target = ''] = process.argv.slice(2)
const invite = decodeInvite(text)
const clients: Client[] = []

async function machine(index: number): Promise<number> {
  const client = new Client({
    identity: createIdentity(),
    instance: `bench-${index}`,
    version: '0.0.0',
    gateways: [{ addresses: invite.addresses, pin: invite.pin }],
    services: [serviceSettings({ type: 'tcp', name: `m${index}`, target: parseTarget(target) })],
    enroll: { secret: Buffer.from(invite.secret).toString('base64url') },
    log: pino({ level: 'silent' }),
  })
  clients.push(client)
  client.start()
  const [outcome] = await client.ready()
  const [url] = outcome?.urls ?? []
  if (url === undefined) throw new Error(`machine ${index}: ${outcome?.error?.message ?? 'no answer'}`)
  return Number(url.slice(url.lastIndexOf(':') + 1))
}

async function all(): Promise<number[]> {
  const ports: number[] = []
  let next = 0
  const some = async (): Promise<void> => {
    for (let mine = next++; mine < Number(count); mine = next++) ports.push(await machine(mine))
  }
  await Promise.all(Array.from({ length: AT_ONCE }, some))
  return ports
}

process.once('SIGTERM', () => {
  void Promise.all(clients.map((each) => each.close())).then(() => process.exit(0))
})
console.log(JSON.stringify(await all()))
