#include "file-io.h"

#if defined(__linux__)

#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

static_assert(sizeof(off_t) == 8, "files above 2 GiB");

PageMemory NewPageMemory(int64_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, kPageBytes, bytes) != 0) return nullptr;
  return PageMemory(static_cast<char*>(memory));
}

int64_t ReadFully(int fd, char* bytes, int64_t length, int64_t offset, int* error) {
  int64_t done = 0;
  *error = 0;
  while (done < length) {
    const ssize_t count = pread(fd, bytes + done, length - done, offset + done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) *error = errno;
    if (count <= 0) break;
    done += count;
  }
  return done;
}

int WriteFully(int fd, const char* bytes, int64_t length, int64_t offset) {
  for (int64_t done = 0; done < length;) {
    const ssize_t count = pwrite(fd, bytes + done, length - done, offset + done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    // A regular file takes at least a byte, or says why not.
    if (count == 0) return EIO;
    done += count;
  }
  return 0;
}

int CheckPositioned(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  return flags < 0 || (flags & O_APPEND) != 0 ? EBADF : 0;
}

#endif
