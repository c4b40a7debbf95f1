/** `ssh -R`: the sshd of the machine, on a port of its own, with keys that live as long as it. */

import { userInfo } from 'node:os'
import { join } from 'node:path'
import { launch, without } from './launched.ts'
import { find, freePort, listening, run } from './process.ts'
import { direct, type Kind } from './systems.ts'

export const ssh: Kind = {
  name: 'ssh -R',
  peer: true,
  missing: () => without(['sshd', 'ssh', 'ssh-keygen'], 'apt install openssh-server openssh-client'),
  start: (target, link = direct) =>
    launch('ssh', async (launched) => {
      const [port, tunnel] = [await freePort(), await freePort()]
      const key = async (name: string): Promise<string> => {
        const path = join(launched.folder, name)
        await run(find('ssh-keygen') ?? 'ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path])
        return path
      }
      const [host, user] = [await key('host'), await key('user')]
      const config = launched.file('sshd_config', [
        `ListenAddress 127.0.0.1:${tunnel}`,
        `HostKey ${host}`,
        `AuthorizedKeysFile ${user}.pub`,
        'PidFile none',
        'AllowTcpForwarding yes',
        'PermitRootLogin prohibit-password',
        // The folder is below that of all temporary files, where everybody may write.
        'StrictModes no',
      ])
      // By its whole path, as it starts itself again for each connection.
      const server = launched.program('sshd', ['-D', '-e', '-f', config])
      await listening(tunnel)
      const options = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'IdentitiesOnly=yes']
      options.push('BatchMode=yes', 'ExitOnForwardFailure=yes', 'LogLevel=ERROR')
      const to = ['-p', `${await link(tunnel)}`, `${userInfo().username}@127.0.0.1`]
      const forward = ['-R', `127.0.0.1:${port}:127.0.0.1:${target}`]
      const client = launched.program('ssh', [
        '-F',
        'none',
        '-N',
        '-i',
        user,
        ...options.flatMap((option) => ['-o', option]),
        ...forward,
        ...to,
      ])
      await listening(port)
      return { port, gateway: server.pid, client: client.pid }
    }),
}
