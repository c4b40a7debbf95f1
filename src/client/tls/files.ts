import { createPrivateKey, X509Certificate } from 'node:crypto'
import { constants as fs } from 'node:fs'
import { open } from 'node:fs/promises'
import { type Logger, pino } from 'pino'
import type { CertificateFiles, ServiceSettings } from '../../config/index.ts'
import { type TunnelError, userError } from '../../errors.ts'
import { CERTIFICATE_FILE_BYTES, CERTIFICATE_FILES_MS } from '../../limits.ts'
import type { Certificate, CertificateSource } from './certificate.ts'

/**
 * A certificate and key that somebody else keeps in files, looked at again and again. What is wrong with them is
 * `trouble`, and the pair before stays: a program that writes one after the other leaves them wrong for a moment.
 */
export class CertificateOfFiles implements CertificateSource {
  current: Certificate | undefined
  trouble: string | undefined
  readonly transportSecurity = undefined
  changed: () => void = () => {}

  readonly #files: CertificateFiles
  readonly #hosts: readonly string[]
  readonly #service: string
  readonly #log: Logger
  #timer: NodeJS.Timeout | undefined
  #looking: Promise<void> | undefined
  #closed = false

  constructor(options: {
    service: string
    hosts: readonly string[]
    files: CertificateFiles
    log: Logger
  }) {
    this.#service = options.service
    this.#files = options.files
    this.#hosts = options.hosts
    this.#log = options.log
  }

  start(): void {
    void this.look()
    this.#timer = setInterval(() => void this.look(), CERTIFICATE_FILES_MS).unref()
  }

  close(): void {
    this.#closed = true
    clearInterval(this.#timer)
  }

  /** Reads the files again. Never rejects. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined
    })
    return this.#looking
  }

  async #look(): Promise<void> {
    const before = { current: this.current, trouble: this.trouble }
    try {
      const { cert, key } = this.#files
      const read = { chain: await text(cert), key: await text(key) }
      const same = read.chain === this.current?.chain && read.key === this.current.key
      const leaf = checked(read, this.#files, this.#hosts)
      const outside = outsideItsTime(leaf, cert)
      if (!same && !(outside !== undefined && this.current !== undefined)) this.current = read
      this.trouble = outside
      if (!same && outside === undefined) this.#tellNew(leaf)
    } catch (error) {
      this.trouble = error instanceof Error ? error.message : String(error)
    }
    if (this.#closed) return
    this.#tell(before)
    if (before.current !== this.current || before.trouble !== this.trouble) this.changed()
  }

  #tell({ current, trouble }: { current: Certificate | undefined; trouble: string | undefined }): void {
    if (this.trouble === trouble) return
    const about = { service: this.#service }
    if (this.trouble === undefined) {
      this.#log.info(about, `service "${this.#service}": what was wrong with its certificate is mended`)
      return
    }
    const stays =
      this.current === undefined
        ? 'visitors are turned away'
        : this.current === current
          ? 'the one before stays'
          : 'it is served nevertheless'
    this.#log.error(about, `service "${this.#service}": ${this.trouble} (${stays})`)
  }

  #tellNew({ validTo }: X509Certificate): void {
    const until = new Date(validTo).toISOString().slice(0, 10)
    this.#log.info(
      { service: this.#service },
      `service "${this.#service}": has the certificate in ${this.#files.cert}, good until ${until}`,
    )
  }
}

/** The certificate chains of all services that have them in files, PEM; those that are wrong have none. */
export async function chainsInFiles(
  services: Iterable<Pick<ServiceSettings, 'name' | 'hosts' | 'files'>>,
): Promise<string[]> {
  const reading = [...services].flatMap((service) =>
    service.files === undefined ? [] : [readFiles(service, service.files)],
  )
  return (await Promise.all(reading)).flatMap(({ current }) => current?.chain ?? [])
}

/** What a service would show its visitors now, and what is wrong with it. */
export async function readFiles(
  { name, hosts }: Pick<ServiceSettings, 'name' | 'hosts'>,
  files: CertificateFiles,
): Promise<Pick<CertificateSource, 'current' | 'trouble'>> {
  const log = pino({ level: 'silent' }, { write: () => undefined })
  const source = new CertificateOfFiles({ service: name, hosts, files, log })
  await source.look()
  return source
}

/** Why no visitor would believe it now, whoever vouches for it. */
function outsideItsTime({ validFrom, validTo }: X509Certificate, path: string): string | undefined {
  const now = Date.now()
  if (Date.parse(validTo) <= now) return `the certificate in ${path} has expired: put a newer one there`
  if (Date.parse(validFrom) <= now) return undefined
  return `the certificate in ${path} is not valid before ${new Date(validFrom).toISOString()}: wait, or set this machine's clock`
}

/** Throws `config_invalid` in words for people; the leaf otherwise. */
function checked(
  { chain, key }: Certificate,
  { cert, key: keyPath }: CertificateFiles,
  hosts: readonly string[],
): X509Certificate {
  const leaf = parsed(cert, 'certificate', () => new X509Certificate(chain))
  const privateKey = parsed(keyPath, 'private key', () => createPrivateKey(key))
  if (!leaf.checkPrivateKey(privateKey))
    throw wrong(`${keyPath} is not the key of the certificate in ${cert}`)
  const names = (leaf.subjectAltName ?? '').split(', ')
  const missing = hosts.find(
    (host) => !names.includes(`DNS:${host}`) && leaf.checkHost(host.replace(/^\*/, 'any')) === undefined,
  )
  if (missing !== undefined)
    throw wrong(`the certificate in ${cert} is not for ${missing}: it is for ${names.join(', ')}`)
  return leaf
}

function parsed<T>(path: string, what: string, parse: () => T): T {
  try {
    return parse()
  } catch {
    // Without its cause, which could quote what it read.
    throw wrong(`${path} holds no ${what} in PEM without a passphrase`)
  }
}

function wrong(detail: string): TunnelError {
  return userError('config_invalid', detail)
}

async function text(path: string): Promise<string> {
  try {
    // Without O_NONBLOCK the opening of a named pipe would wait for a writer.
    const file = await open(path, fs.O_RDONLY | fs.O_NONBLOCK)
    try {
      const bytes = Buffer.alloc(CERTIFICATE_FILE_BYTES + 1)
      const { bytesRead } = await file.read(bytes, 0, bytes.length, 0)
      if (bytesRead > CERTIFICATE_FILE_BYTES) throw wrong(`${path} is too long for a certificate or key`)
      return bytes.toString('latin1', 0, bytesRead)
    } finally {
      await file.close()
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'config_invalid') throw error
    throw wrong(`${path} cannot be read (${code ?? 'unknown error'})`)
  }
}
