/**
 * A program: one keep-alive connection to each of many ports, a request at a time on each. `sender.js SECONDS PORT…` prints
 * how many were answered, as JSON. wrk can do that for one port only.
 */
import { connect, type Socket } from 'node:net'

const [seconds = Number.NaN, ...ports] = process.argv.slice(2).map(Number)
/** Where the answer of every target here ends. */
const END = Buffer.from('ok\n')

let answered = 0
let counting = false

function send(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const request = Buffer.from(`GET / HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`)
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    socket.on('error', reject)
    socket.on('close', () => reject(new Error(`the connection to port ${port} was closed`)))
    socket.on('data', (chunk) => {
      if (!chunk.subarray(-END.length).equals(END)) return
      if (counting) answered += 1
      resolve(socket)
      socket.write(request)
    })
    socket.write(request)
  })
}

const AT_ONCE = 64

async function sendAll(): Promise<void> {
  const left = [...ports]
  const some = async (): Promise<void> => {
    for (let port = left.pop(); port !== undefined; port = left.pop()) await send(port)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, some))
}

await sendAll()
counting = true
const began = performance.now()
setTimeout(() => {
  const took = (performance.now() - began) / 1000
  console.log(JSON.stringify({ requests: answered, perSecond: answered / took }))
  process.exit(0)
}, seconds * 1000)
