#pragma once

#if defined(__linux__)

#include <string>

#include "descriptor.h"

// Descriptors that somebody else opened. None of these calls waits for another process.

// A duplicate that no child inherits, above those of standard input and output.
Opened Duplicate(int fd);

// A duplicate of another process' descriptor. ENOSYS before Linux 5.6; EPERM without the right to
// trace that process (PTRACE_MODE_ATTACH_REALCREDS).
Opened Take(int pid, int fd);

// Connects to a Unix socket of type stream or seqpacket. `@` in front of the name: an abstract one.
// ENAMETOOLONG: more than 107 bytes. EINVAL: no name at all. EAGAIN: the other side has not accepted
// those yet that came before.
Opened Connect(const std::string& path);

// The descriptor that comes with the next message (SCM_RIGHTS). EAGAIN: there is no message yet.
// ENOMSG: a message without one. EBADMSG: one with several, all of which are closed. EMFILE: what
// came could not be let in, most often for lack of free numbers. ECONNRESET: the peer has closed.
Opened Receive(int socket);

#endif
