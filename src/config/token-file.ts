import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { userError } from '../errors.ts'
import { ADMIN_TOKEN_CHARACTERS_MIN, ADMIN_TOKEN_FILE_BYTES } from '../limits.ts'

/**
 * The secret in the first line of a file that nobody else can read. Throws `config_invalid` with what to do; never
 * with anything of what the file holds.
 */
export async function readToken(path: string): Promise<string> {
  let file: FileHandle
  try {
    // Without O_NONBLOCK the opening of a named pipe would wait for a writer.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException
    const advice = code === 'ENOENT' ? 'write it' : 'let this user read it'
    throw userError('config_invalid', `${path} cannot be read (${code}): ${advice}`)
  }
  try {
    const { mode, uid } = await file.stat()
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) {
      throw userError(
        'config_invalid',
        `${path} is not a file: give the path of the file that holds the token`,
      )
    }
    if ((mode & 0o077) !== 0) {
      throw userError('config_invalid', `others may use ${path}, and so know the token: chmod 600 ${path}`)
    }
    const us = process.geteuid?.()
    if (us !== undefined && uid !== 0 && uid !== us) {
      throw userError(
        'config_invalid',
        `${path} belongs to user ${uid}, who knows the token: chown ${us} ${path}`,
      )
    }
    const bytes = Buffer.alloc(ADMIN_TOKEN_FILE_BYTES)
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0)
    const [line = ''] = bytes.toString('latin1', 0, bytesRead).split('\n', 1)
    const token = line.trim()
    // It travels in a header.
    if (!/^[\x21-\x7e]*$/.test(token) || token.length < ADMIN_TOKEN_CHARACTERS_MIN) {
      throw userError(
        'config_invalid',
        `${path} holds no token: write ${ADMIN_TOKEN_CHARACTERS_MIN} or more ASCII characters without spaces into its first line`,
      )
    }
    return token
  } finally {
    await file.close()
  }
}
