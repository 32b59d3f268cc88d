// A VM fd, as far as KVM_PPC_GET_HTAB_FD goes: preloaded, this gives a file that holds what was asked
// for, and is interrupted at first. Every other ioctl is the C library's.

#include <cerrno>
#include <cstdarg>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

// By hand, and not by the headers that the addon is built with.
#if defined(__powerpc64__)
constexpr unsigned long kGetHtabFd = 0x8020AEAA;
#else
constexpr unsigned long kGetHtabFd = 0x4020AEAA;
#endif

int interruptions = 2;

}  // namespace

extern "C" int ioctl(int fd, unsigned long request, ...) {
  va_list rest;
  va_start(rest, request);
  void* const argument = va_arg(rest, void*);
  va_end(rest);
  if (request != kGetHtabFd) return static_cast<int>(syscall(SYS_ioctl, fd, request, argument));
  if (interruptions-- > 0) {
    errno = EINTR;
    return -1;
  }
  const int made = memfd_create("kvm-htab", MFD_CLOEXEC);
  if (write(made, argument, 32) != 32 || lseek(made, 0, SEEK_SET) != 0) return -1;
  return made;
}
