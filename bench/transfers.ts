/** Large transfers by curl: from a file of nginx's, and to a target that throws away what it reads. */
import { spawn } from 'node:child_process'
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Target } from './nginx.ts'
import { find, freePort, run } from './process.ts'

/** More than any system moves in the time of one sample. It is all holes: no disk is in it. */
const FILE_BYTES = 16e9

export interface Moved {
  readonly bytes: number
  readonly perSecond: number
}

/** Why there can be no transfers; undefined if there can. */
export function withoutCurl(): string | undefined {
  return find('curl') === undefined ? 'curl is not on PATH: apt install curl' : undefined
}

/** For so many seconds, each over a connection of its own. */
export async function download(port: number, seconds: number, count = 1): Promise<Moved> {
  const args = ['-o', '/dev/null', `http://127.0.0.1:${port}/big`]
  return sum(await Promise.all(Array.from({ length: count }, () => curl('download', seconds, args))))
}

/** The file of `largeFile`. */
export async function upload(port: number, seconds: number, file: string): Promise<Moved> {
  return curl('upload', seconds, ['-H', 'Expect:', '-T', file, `http://127.0.0.1:${port}/`])
}

async function curl(way: 'download' | 'upload', seconds: number, args: readonly string[]): Promise<Moved> {
  const written = ['-w', `%{size_${way}} %{time_total}`]
  const all = [find('curl') ?? 'curl', '-s', '-S', '--max-time', `${seconds}`, ...written, ...args]
  // 28: the time was up, as meant.
  const output = await run('/bin/sh', ['-c', '"$@" 2>/dev/null; test $? = 28', 'sh', ...all])
  const [bytes = Number.NaN, took = Number.NaN] = output.split(' ').map(Number)
  if (!(bytes > 0)) throw new Error(`curl moved nothing: ${output}`)
  return { bytes, perSecond: bytes / took }
}

function sum(all: readonly Moved[]): Moved {
  return {
    bytes: all.reduce((bytes, each) => bytes + each.bytes, 0),
    perSecond: all.reduce((rate, each) => rate + each.perSecond, 0),
  }
}

/** A file of FILE_BYTES in a folder of its own, under the name `big`. */
export function largeFile(): { folder: string; path: string; remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), 'blindgate-bench-big-'))
  const path = join(folder, 'big')
  const file = openSync(path, 'w')
  ftruncateSync(file, FILE_BYTES)
  closeSync(file)
  return { folder, path, remove: () => rmSync(folder, { recursive: true, force: true }) }
}

/** Reads all that comes and says nothing. The reader is `cat`, so that none of our own code is beside the systems. */
export async function sinkTarget(): Promise<Target> {
  const sockets = new Set<() => void>()
  const server = createServer({ pauseOnConnect: true }, (socket) => sockets.add(swallow(socket)))
  const port = await freePort()
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  const stop = async (): Promise<void> => {
    for (const end of sockets) end()
    await new Promise((resolve) => server.close(resolve))
  }
  return { port, stop }
}

function swallow(socket: Socket): () => void {
  const reader = spawn(find('cat') ?? 'cat', [], { stdio: [socket, 'ignore', 'ignore'] })
  reader.on('error', () => undefined)
  // The reader has it now.
  socket.destroy()
  return () => reader.kill()
}
