import { readdir, readFile, readlink } from 'node:fs/promises';
import { IoError, ioError, UsageError } from '../errors.js';

/** What /proc shows of an HTAB fd (anon_inode_getfd in kvm_vm_ioctl_get_htab_fd, Linux 6.1). */
const LINK = 'anon_inode:kvm-htab';
/** O_ACCMODE of fcntl(2): O_WRONLY is 1, and the same on every architecture. */
const ACCESS = 3;

interface FoundFd {
  readonly fd: number;
  /** Opened for writing: with KVM_GET_HTAB_WRITE. */
  readonly write: boolean;
}

/**
 * What kind of fd a number of this process is, by /proc.
 * @param what it is, for messages
 * @throws UsageError `E_NOT_HTAB_FD` for another kind; IoError
 */
export async function inspectFd(fd: number, what: string): Promise<FoundFd> {
  let link: string;
  try {
    link = await readlink(`/proc/self/fd/${fd}`);
  } catch (error) {
    throw ioError(error, 'look at', what);
  }
  if (link !== LINK) {
    throw new UsageError('E_NOT_HTAB_FD', `${what} is no HTAB fd`, {
      expected: LINK,
      actual: link,
    });
  }
  return { fd, write: await isWritten('self', fd) };
}

async function isWritten(process: number | 'self', fd: number): Promise<boolean> {
  const path = `/proc/${process}/fdinfo/${fd}`;
  let info: string;
  try {
    info = await readFile(path, 'latin1');
  } catch (error) {
    throw ioError(error, 'read', path);
  }
  const flags = /^flags:\s*([0-7]+)$/m.exec(info)?.[1];
  if (flags === undefined) throw new IoError('E_IO', `${path} does not tell how it was opened`);
  return (Number.parseInt(flags, 8) & ACCESS) !== 0;
}

/** The HTAB fds that a process has open. @throws IoError */
export async function htabFdsOf(pid: number): Promise<FoundFd[]> {
  const folder = `/proc/${pid}/fd`;
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    throw ioError(error, 'look at the open files of', `process ${pid}`);
  }
  const found: FoundFd[] = [];
  for (const name of names) {
    // It may be closed meanwhile.
    const link = await readlink(`${folder}/${name}`).catch(() => undefined);
    if (link !== LINK) continue;
    const fd = Number(name);
    const write = await isWritten(pid, fd).catch(() => undefined);
    if (write !== undefined) found.push({ fd, write });
  }
  return found;
}
