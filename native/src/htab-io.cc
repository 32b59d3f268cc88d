#include "htab-io.h"

#if defined(__linux__)

#include <cerrno>
#include <cstring>
#include <unistd.h>

#include "block-header.h"
#include "htab-ioctl.h"

namespace {

template <typename Call>
Transferred Repeated(Call call) {
  for (;;) {
    const ssize_t count = call();
    if (count >= 0) return {static_cast<size_t>(count), 0};
    if (errno != EINTR) return {0, errno};
  }
}

}  // namespace

Opened OpenHtab(int vm, uint64_t flags, uint64_t start_index) {
  HtabFdRequest request = {flags, start_index, {}};
  int result;
  do {
    result = ioctl(vm, kGetHtabFd, &request);
  } while (result < 0 && errno == EINTR);
  return Opened::Of(result);
}

Transferred Read(int fd, char* bytes, size_t length) {
  return Repeated([=] { return read(fd, bytes, length); });
}

Transferred Write(int fd, const char* bytes, size_t length) {
  return Repeated([=] { return write(fd, bytes, length); });
}

BlocksTransferred WriteBlocks(int fd, const char* bytes, size_t length) {
  BlocksTransferred done = {0, 0, 0};
  while (done.bytes < length) {
    const size_t left = length - done.bytes;
    const char* block = bytes + done.bytes;
    BlockHeader header;
    if (left < sizeof(header)) {
      done.error = EINVAL;
      break;
    }
    memcpy(&header, block, sizeof(header));
    const size_t size = sizeof(header) + header.n_valid * kEntryBytes;
    if (left < size) {
      done.error = EINVAL;
      break;
    }
    const Transferred written = Write(fd, block, size);
    if (written.error != 0 || written.count != size) {
      done.error = written.error != 0 ? written.error : EPROTO;
      break;
    }
    done.blocks++;
    done.bytes += size;
  }
  return done;
}

#endif
