import { TunnelError, userError } from '../errors.ts'

/** Why → what to do. */
const ADVICE: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full: free some space; nothing was changed',
  EDQUOT: 'your quota is full: free some space; nothing was changed',
  EROFS: 'the file system is read-only: choose another folder with --state',
  EACCES: 'permission denied: run as its owner, or choose another folder with --state',
  EPERM: 'permission denied: run as its owner, or choose another folder with --state',
  ENOENT: 'the folder is gone: make it again, or restore it from a backup',
  ENOTDIR: 'a part of the path is no folder: choose another with --state',
  EIO: 'the disk does not answer: check it; nothing was changed',
}

/** `state_unwritable` for an error of the file system, with what to do. Our own errors pass unchanged. */
export function unwritable(path: string, error: unknown): TunnelError {
  if (error instanceof TunnelError) return error
  const { code = 'unknown error' } = error as NodeJS.ErrnoException
  return userError(
    'state_unwritable',
    `cannot write ${path}: ${ADVICE[code] ?? `${code}: check the folder`}`,
    error,
  )
}

/** The same for reading. `ELOOP` is what O_NOFOLLOW says of a symbolic link. */
export function unreadable(path: string, error: unknown): TunnelError {
  if (error instanceof TunnelError) return error
  const { code = 'unknown error' } = error as NodeJS.ErrnoException
  if (code === 'ELOOP') {
    return userError(
      'state_invalid',
      `${path} is a symbolic link, which could lead anywhere: put the file itself there`,
    )
  }
  return userError('state_invalid', `cannot read ${path} (${code}): check its owner and the disk`, error)
}
