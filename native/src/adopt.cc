#include "adopt.h"

#if defined(__linux__)

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

namespace {

// Not by the C library, whose wrappers are younger than the kernel's calls. The numbers are the same
// on every architecture (arch/*/kernel/syscalls/syscall.tbl).
#if defined(SYS_pidfd_open)
constexpr long kPidfdOpen = SYS_pidfd_open;
#else
constexpr long kPidfdOpen = 434;
#endif
#if defined(SYS_pidfd_getfd)
constexpr long kPidfdGetfd = SYS_pidfd_getfd;
#else
constexpr long kPidfdGetfd = 438;
#endif

// SCM_MAX_FD of include/net/scm.h: no message has more.
constexpr size_t kMaxDescriptors = 253;

Opened ConnectAs(int type, const sockaddr_un& address, socklen_t length) {
  Opened opened = Opened::Of(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (opened.error != 0) return opened;
  int result;
  do {
    result = connect(opened.descriptor.fd(), reinterpret_cast<const sockaddr*>(&address), length);
  } while (result != 0 && errno == EINTR);
  return result == 0 ? opened : Opened::Failed(errno);
}

// The first descriptor of a message; the others are closed.
Opened OnlyDescriptor(msghdr* message, size_t* count) {
  Opened first;
  *count = 0;
  for (cmsghdr* part = CMSG_FIRSTHDR(message); part != nullptr; part = CMSG_NXTHDR(message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t bytes = part->cmsg_len - CMSG_LEN(0);
    for (size_t at = 0; at + sizeof(int) <= bytes; at += sizeof(int)) {
      int fd;
      memcpy(&fd, CMSG_DATA(part) + at, sizeof(fd));
      Opened opened = Opened::Of(fd);
      if ((*count)++ == 0) first = std::move(opened);
    }
  }
  return first;
}

}  // namespace

Opened Duplicate(int fd) { return Opened::Of(fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1)); }

Opened Take(int pid, int fd) {
  const Opened process = Opened::Of(syscall(kPidfdOpen, pid, 0u));
  if (process.error != 0) return process;
  return Opened::Of(syscall(kPidfdGetfd, process.descriptor.fd(), fd, 0u));
}

Opened Connect(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const bool abstract = !path.empty() && path[0] == '@';
  if (path.size() == (abstract ? 1 : 0)) return Opened::Failed(EINVAL);
  // The NUL behind it, or in place of the `@`: only the former is counted on top.
  if (path.size() >= sizeof(address.sun_path)) return Opened::Failed(ENAMETOOLONG);
  memcpy(address.sun_path, path.data(), path.size());
  if (abstract) address.sun_path[0] = '\0';
  const size_t length = offsetof(sockaddr_un, sun_path) + path.size() + (abstract ? 0 : 1);
  Opened opened = ConnectAs(SOCK_STREAM, address, static_cast<socklen_t>(length));
  if (opened.error != EPROTOTYPE) return opened;
  return ConnectAs(SOCK_SEQPACKET, address, static_cast<socklen_t>(length));
}

Opened Receive(int socket) {
  char bytes[256];
  iovec vector = {bytes, sizeof(bytes)};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))];
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t length;
  do {
    length = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (length < 0 && errno == EINTR);
  if (length < 0) return Opened::Failed(errno);
  size_t count;
  Opened only = OnlyDescriptor(&message, &count);
  if ((message.msg_flags & MSG_CTRUNC) != 0) return Opened::Failed(EMFILE);
  if (count > 1) return Opened::Failed(EBADMSG);
  if (count == 1) return only;
  return Opened::Failed(length == 0 ? ECONNRESET : ENOMSG);
}

#endif
