import { execFile } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { promisify } from 'node:util'
import { type AcmeDns, formatAddress } from '../../../config/index.ts'
import { ACME_HOOK_MS, ACME_HOOK_OUTPUT_BYTES } from '../../../limits.ts'
import type { Millis } from '../../../mux/index.ts'
import { printable } from '../../../protocol/index.ts'
import { AcmeError } from '../acme-error.ts'
import type { Clock } from '../clock.ts'
import { exchange } from './exchange.ts'
import { readAnswer, type TxtRecord, updateMessage } from './messages.ts'
import { sign, verify } from './tsig.ts'

/** Writes TXT records into DNS and takes them away again. Both reject with an AcmeError. */
export interface DnsWriter {
  write(action: 'add' | 'remove', record: TxtRecord, signal: AbortSignal): Promise<void>
}

export function writerOf(dns: AcmeDns, clock: Clock): DnsWriter {
  return dns.kind === 'hook' ? new HookWriter(dns.hook) : new UpdateWriter(dns, clock)
}

const run = promisify(execFile)

/** A program of the user's. Values travel in its environment: there is no shell that could take them for commands. */
export class HookWriter implements DnsWriter {
  readonly #path: string
  readonly #timeoutMs: Millis

  constructor(path: string, timeoutMs: Millis = ACME_HOOK_MS) {
    this.#path = path
    this.#timeoutMs = timeoutMs
  }

  async write(action: 'add' | 'remove', { name, value }: TxtRecord, signal: AbortSignal): Promise<void> {
    try {
      await run(this.#path, [], {
        env: {
          ...process.env,
          BLINDGATE_ACTION: action,
          BLINDGATE_NAME: name,
          BLINDGATE_VALUE: value,
        },
        timeout: this.#timeoutMs,
        killSignal: 'SIGKILL',
        maxBuffer: ACME_HOOK_OUTPUT_BYTES,
        signal,
      })
    } catch (error) {
      if (signal.aborted) throw error
      throw new AcmeError('local', `the hook ${this.#path} ${action} ${name} ${this.#fate(error)}`)
    }
  }

  #fate(error: unknown): string {
    const {
      code,
      killed,
      stderr = '',
    } = error as { code?: unknown; killed?: boolean; signal?: string; stderr?: string }
    if (code === 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER') return 'wrote too much, and was stopped'
    if (killed === true) return `did not end within ${this.#timeoutMs / 1_000} s`
    const last = stderr.trim().split('\n').at(-1) ?? ''
    return `failed (${printable(String(code))})${last === '' ? '' : `: ${printable(last)}`}`
  }
}

type UpdateSettings = Extract<AcmeDns, { kind: 'update' }>

/** A name server that takes changes of its zone (RFC 2136) from who has its key (RFC 8945). */
export class UpdateWriter implements DnsWriter {
  readonly #settings: UpdateSettings
  readonly #clock: Clock

  constructor(settings: UpdateSettings, clock: Clock) {
    this.#settings = settings
    this.#clock = clock
  }

  async write(action: 'add' | 'remove', record: TxtRecord, signal: AbortSignal): Promise<void> {
    const { server, zone } = this.#settings
    if (record.name !== zone && !record.name.endsWith(`.${zone}`)) {
      throw new AcmeError(
        'local',
        `${record.name} is not in zone ${zone}: set zone under [acme.dns] to its own, or let it be a CNAME into ${zone}`,
      )
    }
    const where = `name server ${formatAddress(server)}`
    const key = { ...this.#settings.key, secret: Buffer.from(this.#settings.key.secret, 'base64') }
    const id = randomInt(0x10000)
    const { message, mac } = sign(updateMessage(action, { zone, record, id }), key, this.#clock.now())
    const answer = await exchange(server, message, signal).catch((error: unknown) => {
      if (signal.aborted) throw error
      const { code = 'no answer' } = error as NodeJS.ErrnoException
      throw new AcmeError('local', `${where} does not answer (${printable(code)})`)
    })
    const read = readAnswer(answer, id)
    const worth = verify(answer, key, this.#clock.now(), mac)
    if (worth === 'badtime') {
      throw new AcmeError('local', `${where} has another time than this machine: set the clock of both`)
    }
    if (read === undefined) throw new AcmeError('local', `${where} answers with no answer of DNS`)
    if (read.code !== 'NOERROR') {
      throw new AcmeError(
        'local',
        `${where} refuses the change of ${zone} (${read.code}): ${advice(read.code)}`,
      )
    }
    if (worth === 'unsigned') {
      throw new AcmeError('local', `${where} does not sign its answer with key ${key.name}: check key_file`)
    }
  }
}

function advice(code: string): string {
  if (code === 'NOTAUTH') return 'check zone, key_name and key_file under [acme.dns]'
  return 'let key_name change TXT records there'
}
