import { errnoName } from '../addon/errno.js';
import { ioError, type SpaprHtabError } from '../errors.js';

/** How a transfer from a file to a file by the addon ended. */
export interface Transferred {
  readonly errno: number;
  /** Whether it was the input that failed, where `errno` is not 0. */
  readonly reading: boolean;
}

/** The error of a transfer by the addon that failed, as that of Node's fs would be. */
export function transferError(
  { errno, reading }: Transferred,
  input: string,
  output: string,
): SpaprHtabError {
  const code = errnoName(errno);
  const cause = Object.assign(new Error(code), { code, errno: -errno });
  return reading ? ioError(cause, 'read', input) : ioError(cause, 'write', output);
}
